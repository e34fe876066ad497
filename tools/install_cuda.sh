#!/usr/bin/env bash
# Installs CUDA's compilers and headers from PyPI wheels, without touching the system. Versions are pinned so that two builds of one
# commit use one compiler. Nothing happens when these versions are already there.
# Usage: tools/install_cuda.sh kernels|nvcc
#
#   kernels   into target/cuda: NVRTC of CUDA 12, which compiles the kernels of libdime.so (build.rs), and the headers that the simulated
#             node is compiled with. What it compiles for GPUs up to compute capability 9.0, drivers from 525 on load; what CUDA 13's
#             compilers make, only drivers from 580 on load
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
# Renamed when complete, so that two that run at once do not delete each other's files.
mkdir -p target
partial="$(mktemp -d "$folder.XXXXXX")"
trap 'rm -rf "$partial"' EXIT
# Wheels only, no dependencies: the lists above are complete for compiling, and nothing is built from source.
python3 -m pip install --quiet --no-deps --only-binary :all: --target "$partial" "${packages[@]}"

if [[ ! -f $partial/$wanted ]]; then
    echo "cuda: the packages hold no $wanted" >&2
    exit 1
fi
# A wheel unpacked by some versions of pip loses the executable bit.
find "$partial" \( -path '*/bin/*' -o -path '*/nvvm/bin/*' \) -type f -exec chmod +x {} +
echo "${packages[*]}" >"$partial/.packages"
chmod 755 "$partial"
rm -rf "$folder"
mv --no-target-directory "$partial" "$folder" || [[ -f $stamp ]] # another one was first
echo "cuda: $folder/$wanted is ready"
