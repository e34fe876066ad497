#!/bin/sh
# Puts NVIDIA's compute-sanitizer from PyPI under target/sanitizer, for machines without a CUDA toolkit.
# The wheels before 13.4 lack the programs that start the target.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
version=${SANITIZER_VERSION:-13.5.25}
place=$root/target/sanitizer
if [ -x "$place/compute-sanitizer" ]; then
    echo "$place/compute-sanitizer is there already"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip install --quiet --no-deps --target "$work" "nvidia-cuda-sanitizer-api==$version"
mkdir -p "$place"
# Headers, documentation and 32-bit parts stay behind.
find "$work/nvidia/cu13/compute-sanitizer" -maxdepth 1 -type f -exec cp {} "$place/" \;
chmod +x "$place/compute-sanitizer" "$place"/TreeLauncher*
echo "compute-sanitizer $version is in $place"
