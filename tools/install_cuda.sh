#!/usr/bin/env bash
# Puts the CUDA compiler that build.rs needs into target/cuda, from PyPI wheels, without touching the system.
# Versions are pinned so that two builds of one commit use one compiler.
# Usage: tools/install_cuda.sh   (nothing happens when these versions are already there)
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
    nvidia-cuda-nvcc==13.0.88
    nvidia-nvvm==13.0.88
    nvidia-cuda-crt==13.0.88
    nvidia-cuda-runtime==13.0.96
    nvidia-cuda-cccl==13.0.85
)
cuda_dir=target/cuda
stamp="$cuda_dir/.packages"

if [[ -f $stamp && $(<"$stamp") == "${packages[*]}" ]]; then
    exit 0
fi

echo "cuda: installing ${packages[*]} into $cuda_dir"
rm -rf "$cuda_dir"
mkdir -p "$cuda_dir"
# Wheels only, no dependencies: the list above is complete for compiling, and nothing is built from source.
python3 -m pip install --quiet --no-deps --only-binary :all: --target "$cuda_dir" "${packages[@]}"

nvcc="$(find "$cuda_dir" -path '*/bin/nvcc' | head -n 1)"
if [[ -z $nvcc ]]; then
    echo "cuda: the packages hold no bin/nvcc" >&2
    exit 1
fi
# A wheel unpacked by some versions of pip loses the executable bit.
find "$cuda_dir" \( -path '*/bin/*' -o -path '*/nvvm/bin/*' \) -type f -exec chmod +x {} +
"$nvcc" --version >/dev/null
echo "${packages[*]}" >"$stamp"
echo "cuda: $nvcc is ready"
