#!/usr/bin/env bash
# Builds cargo-deny once, outside the tree, for the next clean clone to find. Prints the folder to add to PATH.
# DIME_CACHE_DIR moves the cache; the default is $XDG_CACHE_HOME/dime or ~/.cache/dime.
set -euo pipefail

version=0.20.2
cache="${DIME_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/dime}/cargo-deny-$version"
if [[ ! -x $cache/bin/cargo-deny ]]; then
    echo "cargo-deny: building $version into $cache (a few minutes, once)" >&2
    build="$(mktemp -d)"
    trap 'rm -rf "$build"' EXIT
    # Unoptimized: it runs for a second, and this builds in half the time.
    CARGO_TARGET_DIR="$build" CARGO_PROFILE_DEV_DEBUG=0 \
        cargo install cargo-deny --version "$version" --locked --debug --quiet --root "$build/root" >&2
    mkdir -p "$cache"
    cp -r "$build/root/bin" "$cache/"
fi
echo "$cache/bin"
