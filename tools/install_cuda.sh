#!/usr/bin/env bash
# Installs CUDA's compilers and headers from PyPI wheels, without touching the system. Versions are pinned so that two builds of one
# commit use one compiler. Nothing happens when these versions are already there.
# Usage: tools/install_cuda.sh kernels|nvcc
#
#   kernels   into target/cuda: NVRTC of CUDA 12, which compiles the kernels of libdime.so (build.rs): drivers from 525 on load what it
#             makes for GPUs up to compute capability 9.0, and those from 580 on alone what a compiler of CUDA 13 makes. And the headers
#             that the simulated node is compiled with
#   nvcc      into target/nvcc: a whole compiler, for perf/search.cu and for tests with programs of their own
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
kernels)
    folder=target/cuda
    packages=(
        nvidia-cuda-nvrtc-cu12==12.9.86
        nvidia-cuda-runtime-cu12==12.9.79
        nvidia-cuda-runtime==13.0.96
        nvidia-cuda-crt==13.0.88
        nvidia-cuda-cccl==13.0.85
    )
    wanted=nvidia/cuda_nvrtc/lib/libnvrtc.so.12
    ;;
nvcc)
    folder=target/nvcc
    packages=(
        nvidia-cuda-nvcc==13.0.88
        nvidia-nvvm==13.0.88
        nvidia-cuda-crt==13.0.88
        nvidia-cuda-runtime==13.0.96
        nvidia-cuda-cccl==13.0.85
    )
    wanted=nvidia/cu13/bin/nvcc
    ;;
*)
    echo "usage: tools/install_cuda.sh kernels|nvcc, not '${1:-}'" >&2
    exit 2
    ;;
esac
stamp="$folder/.packages"

if [[ -f $stamp && $(<"$stamp") == "${packages[*]}" ]]; then
    exit 0
fi

echo "cuda: installing ${packages[*]} into $folder"
rm -rf "$folder"
mkdir -p "$folder"
# Wheels only, no dependencies: the lists above are complete for compiling, and nothing is built from source.
python3 -m pip install --quiet --no-deps --only-binary :all: --target "$folder" "${packages[@]}"

if [[ ! -f $folder/$wanted ]]; then
    echo "cuda: the packages hold no $wanted" >&2
    exit 1
fi
# A wheel unpacked by some versions of pip loses the executable bit.
find "$folder" \( -path '*/bin/*' -o -path '*/nvvm/bin/*' \) -type f -exec chmod +x {} +
echo "${packages[*]}" >"$stamp"
echo "cuda: $folder/$wanted is ready"
