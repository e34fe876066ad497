#!/usr/bin/env bash
# Runs examples/demo.c with libdime.so in the place of libnccl.so.2, in front of a real NCCL from PyPI.
# DIME_NCCL_LIB may name another NCCL.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ -z ${DIME_NCCL_LIB:-} ]]; then
    folder="$(python3 tests/fetch_nccl.py 2.32.3 | tail -n 1)"
    export DIME_NCCL_LIB="$folder/libnccl.so.2"
fi
mkdir -p target/demo
ln -sf ../release/libdime.so target/demo/libnccl.so.2
gcc -std=gnu11 -O1 -Wall -Wextra -Iinclude examples/demo.c -o target/demo/demo \
    target/demo/libnccl.so.2 -ldl -Wl,-rpath,"$PWD/target/demo"
echo
exec target/demo/demo
