#!/usr/bin/env bash
# Runs examples/demo.c with libdime.so in the place of libnccl.so.2: on the GPUs here, in front of a real NCCL from PyPI
# (DIME_NCCL_LIB may name another), or without two GPUs on a simulated node, in front of a NCCL on the CPU.
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p target/demo
ln -sf ../release/libdime.so target/demo/libnccl.so.2
# The old kind of run path is searched before LD_LIBRARY_PATH, where another libnccl.so.2 lies.
gcc -std=gnu11 -O1 -Wall -Wextra -Iinclude examples/demo.c -o target/demo/demo \
    target/demo/libnccl.so.2 -ldl -Wl,--disable-new-dtags,-rpath,"$PWD/target/demo"

gpus="$(target/release/dime devices --count 2>/dev/null || echo 0)"
if [[ $gpus -ge 2 ]]; then
    if [[ -z ${DIME_NCCL_LIB:-} ]]; then
        folder="$(python3 tests/fetch_nccl.py 2.32.3 | tail -n 1)"
        export DIME_NCCL_LIB="$folder/libnccl.so.2"
    fi
else
    simulated="${DIME_SIM_DIR:-$PWD/target/sim}"
    export LD_LIBRARY_PATH="$simulated${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    export DIME_NCCL_LIB="$simulated/libnccl.so.2"
fi
echo
exec target/demo/demo
