#!/usr/bin/env bash
# Installs what a Debian-like system lacks, and says what it does. Does nothing, and needs no rights, when nothing is missing.
# Usage: tools/install_packages.sh build|dist|test
set -euo pipefail

missing=()
need_command() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
need_library() { ldconfig -p 2>/dev/null | grep -q "$1" || compgen -G "/usr/lib/*/$1*" >/dev/null || missing+=("$2"); }

need_command gcc gcc
need_command g++ g++
need_command python3 python3
python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
echo '#include <stdlib.h>' | gcc -E - >/dev/null 2>&1 || missing+=(libc6-dev)
purpose="${1:-build}"
if [[ $purpose == dist || $purpose == test ]]; then
    need_command dpkg-deb dpkg
    need_command readelf binutils
    need_command git git
fi
if [[ $purpose == test ]]; then
    need_command valgrind valgrind
    need_command strace strace
    need_command patch patch
    # What uses the packages.
    need_command cmake cmake
    need_command pkg-config pkgconf
    need_command man man-db
    need_command zsh zsh
    need_command fish fish
    python3 -m venv --help >/dev/null 2>&1 || missing+=(python3-venv)
    need_library libtcmalloc_minimal.so.4 libtcmalloc-minimal4
    need_library libjemalloc.so.2 libjemalloc2
fi
if ! command -v cargo >/dev/null 2>&1; then
    echo "packages: cargo is missing. Rust 1.88 or newer is needed; rustup (https://rustup.rs) installs it." >&2
    exit 1
fi
if ((${#missing[@]} == 0)); then
    exit 0
fi
echo "packages: installing ${missing[*]}"
if ! command -v apt-get >/dev/null 2>&1; then
    echo "packages: this system has no apt-get; install these with its own package manager: ${missing[*]}" >&2
    exit 1
fi
as_root=()
if ((EUID != 0)); then
    as_root=(sudo)
fi
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
