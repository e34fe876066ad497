#!/usr/bin/env bash
# Builds a cargo tool once, outside the tree, for the next clean clone to find. Prints the folder to add to PATH.
# DIME_CACHE_DIR moves the cache; the default is $XDG_CACHE_HOME/dime or ~/.cache/dime.
# Usage: tools/install_cargo_tool.sh cargo-deny|cargo-fuzz
set -euo pipefail

tool="${1:-}"
case $tool in
cargo-deny) version=0.20.2 ;;
cargo-fuzz) version=0.13.1 ;;
*)
    echo "usage: $0 cargo-deny|cargo-fuzz" >&2
    exit 2
    ;;
esac
cache="${DIME_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/dime}/$tool-$version"
if [[ ! -x $cache/bin/$tool ]]; then
    echo "$tool: building $version into $cache (a few minutes, once)" >&2
    build="$(mktemp -d)"
    trap 'rm -rf "$build"' EXIT
    # Unoptimized: it does little itself, and this builds in half the time.
    CARGO_TARGET_DIR="$build" CARGO_PROFILE_DEV_DEBUG=0 \
        cargo install "$tool" --version "$version" --locked --debug --quiet --root "$build/root" >&2
    mkdir -p "$cache"
    cp -r "$build/root/bin" "$cache/"
fi
echo "$cache/bin"
