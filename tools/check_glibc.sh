#!/usr/bin/env bash
# Fails when a program or library needs a newer glibc than it may.
# Usage: tools/check_glibc.sh VERSION FILE...
set -euo pipefail

allowed="${1:?usage: $0 VERSION FILE...}"
shift
for file in "$@"; do
    needs="$(LC_ALL=C readelf --wide --version-info "$file" | { grep -o 'GLIBC_[0-9.]*' || true; } | cut -d _ -f 2 | sort -uV)"
    newest="$(tail -n 1 <<<"$needs")"
    if [[ -z $newest ]]; then
        echo "$file: names no version of glibc that it needs, so this is no dynamically linked program" >&2
        exit 1
    fi
    if [[ $(printf '%s\n' "$allowed" "$newest" | sort -V | tail -n 1) != "$allowed" ]]; then
        echo "$file: needs glibc $newest, but is to run on $allowed" >&2
        exit 1
    fi
    echo "${file##*/}: needs glibc $newest, and may need $allowed"
done
