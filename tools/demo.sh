#!/usr/bin/env bash
# Builds libdime.so for this demo alone and runs examples/demo.c with it in the place of libnccl.so.2: on the GPUs here, in front of a
# real NCCL from PyPI (DIME_NCCL_LIB may name another), or without two GPUs on a simulated node, in front of a NCCL on the CPU.
#
# The library has kernels for one architecture and lies in target/demo, so that nobody takes it for the one that `make` builds.
set -euo pipefail
cd "$(dirname "$0")/.."

# The compute capabilities of the GPUs that a process sees, 90 for 9.0, one a line.
architectures_of_gpus() {
    python3 - 2>/dev/null <<'PYTHON' || true
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
count, value = ctypes.c_int(), ctypes.c_int()
assert cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0
for device in range(count.value):
    parts = []
    for attribute in (75, 76):  # major and minor compute capability
        assert cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device) == 0
        parts.append(str(value.value))
    print("".join(parts))
PYTHON
}

demo="$PWD/target/demo"
mkdir -p "$demo" target/kernels
ln -sfn ../kernels "$demo/kernels" # compiled images are kept by a hash of all that goes in

mapfile -t gpus < <(architectures_of_gpus)
if ((${#gpus[@]} >= 2)); then
    architectures="${DIME_CUDA_ARCHS:-$(printf '%s\n' "${gpus[@]}" | sort -nu | paste -sd,)}"
    echo "demo: building with kernels for compute capability $architectures only, into target/demo; \`make\` builds the real libdime.so"
else
    architectures="${DIME_CUDA_ARCHS:-90}"
    echo "demo: no two GPUs here, so on four simulated ones; building with kernels for compute capability $architectures only," \
        "into target/demo; \`make\` builds the real libdime.so"
    simulated="${DIME_SIM_DIR:-$PWD/target/sim}"
    if [[ -z ${DIME_SIM_DIR:-} ]]; then
        make --no-print-directory --silent -C sim -j"$(nproc)" node &
        node=$!
    fi
fi
DIME_CUDA_ARCHS="$architectures" CARGO_TARGET_DIR="$demo" CARGO_PROFILE_RELEASE_LTO=off \
    cargo build --release --locked --package dime
if [[ -n ${node:-} ]]; then
    wait "$node"
fi

ln -sf release/libdime.so "$demo/libnccl.so.2"
# The old kind of run path is searched before LD_LIBRARY_PATH, where another libnccl.so.2 lies.
gcc -std=gnu11 -O1 -Wall -Wextra -Iinclude examples/demo.c -o "$demo/demo" \
    "$demo/libnccl.so.2" -ldl -Wl,--disable-new-dtags,-rpath,"$demo"

if ((${#gpus[@]} >= 2)); then
    if [[ -z ${DIME_NCCL_LIB:-} ]]; then
        folder="$(python3 tests/fetch_nccl.py 2.32.3 | tail -n 1)"
        export DIME_NCCL_LIB="$folder/libnccl.so.2"
    fi
else
    export LD_LIBRARY_PATH="$simulated${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    export DIME_NCCL_LIB="$simulated/libnccl.so.2"
fi
echo
exec "$demo/demo"
