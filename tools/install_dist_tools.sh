#!/usr/bin/env bash
# Installs what `make dist` needs beside Rust, once, outside the tree, for the next clean clone to find: zig, with whose linker and
# stubs of the C library cargo-zigbuild links for an old glibc, and the packer of Python wheels. Prints the folder that has them.
# DIME_CACHE_DIR moves the cache; the default is $XDG_CACHE_HOME/dime or ~/.cache/dime.
set -euo pipefail

packages=(cargo-zigbuild==0.24.1 ziglang==0.15.2 wheel==0.45.1)
key="$(printf '%s\n' "${packages[@]}" | sha256sum | cut -c 1-12)"
kit="${DIME_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/dime}/dist-tools-$key"
if [[ ! -d $kit ]]; then
    echo "dist: installing ${packages[*]} from PyPI into $kit (100 MB, once)" >&2
    mkdir -p "$(dirname "$kit")"
    # Renamed when complete. Another process that was faster leaves the same.
    partial="$(mktemp -d "$kit.XXXXXX")"
    trap 'rm -rf "$partial"' EXIT
    PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 \
        python3 -m pip install --quiet --no-deps --only-binary :all: --target "$partial" "${packages[@]}" >&2
    chmod 755 "$partial" "$partial"/bin/* "$partial/ziglang/zig"
    mv -T "$partial" "$kit" 2>/dev/null || [[ -x $kit/ziglang/zig ]]
fi
echo "$kit"
