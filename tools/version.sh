#!/usr/bin/env bash
# Prints the version that Cargo.toml gives to all crates.
set -euo pipefail
cd "$(dirname "$0")/.."
version="$(sed -n '/^\[workspace.package\]/,/^\[/ s/^version = "\(.*\)"$/\1/p' Cargo.toml)"
[[ -n $version ]] || {
    echo "version: Cargo.toml has no version under [workspace.package]" >&2
    exit 1
}
echo "$version"
