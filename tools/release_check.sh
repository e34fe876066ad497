#!/usr/bin/env bash
# Whether this commit can be released: the tree is clean, one version everywhere, all tests pass (those of the packages included), and a
# build of the same commit in another folder gives the same packages, byte for byte. The images of the kernels are not built again
# for that: they differ by the folder's path, which the CUDA compiler writes into them.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "release-check: $*" >&2
    exit 1
}

if [[ -n ${DIME_CUDA_ARCHS:-} ]]; then
    fail "DIME_CUDA_ARCHS=$DIME_CUDA_ARCHS: a release has kernels for all architectures; unset it"
fi
changes="$(git status --porcelain)"
if [[ -n $changes ]]; then
    fail "the tree is not clean; commit or remove these first:"$'\n'"$changes"
fi
version="$(tools/version.sh)"
for file in Cargo.lock:"name = \"dime\""$'\n'"version = \"$version\"" CHANGELOG.md:$'\n'"## $version"; do
    [[ "$(<"${file%%:*}")" == *"${file#*:}"* ]] ||
        fail "${file%%:*} does not have version $version, which Cargo.toml names"
done
if grep -q "^## Unreleased" CHANGELOG.md; then
    fail "CHANGELOG.md has changes under Unreleased; they belong under $version"
fi
echo "== version $version"

# It builds the packages with `tools/dist.sh` and uses them.
make --no-print-directory test
[[ -f target/dist/dime_${version}_amd64.deb ]] || fail "target/dist has no packages of $version"

other="$(mktemp -d)"
trap 'rm -rf "$other"' EXIT
git clone --quiet . "$other/dime"
mkdir "$other/dime/target"
cp -r target/cuda "$other/dime/target/"
make --no-print-directory -C "$other/dime" dist
diff target/dist/SHA256SUMS "$other/dime/target/dist/SHA256SUMS" ||
    fail "two builds of one commit differ, in the files above"
echo "== a build in another folder gives the same packages"
echo "release-check: version $version can be released; target/dist has its packages"
