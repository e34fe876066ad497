#!/usr/bin/env bash
# All that can be checked without a GPU. Stops at the first failure; says how long each step took.
# Downloads and the builds of cargo-deny and cargo-fuzz run beside the steps that do not need them.
set -euo pipefail
cd "$(dirname "$0")/.."

logs=target/test-logs
mkdir -p "$logs"
started=$SECONDS

step() {
    local name="$1" since=$SECONDS
    shift
    echo "== $name"
    "$@" || {
        echo "== $name FAILED after $((SECONDS - since)) s" >&2
        exit 1
    }
    echo "== $name: $((SECONDS - since)) s"
}

# Waits for a job of the background; its output is shown when it failed.
finish() {
    local name="$1" job="$2"
    if ! wait "$job"; then
        cat "$logs/$name.log" >&2
        return 1
    fi
}

jobs_of_ours=()
trap 'for job in "${jobs_of_ours[@]}"; do kill "$job" 2>/dev/null || true; done' EXIT

step "packages" tools/install_packages.sh test
step "CUDA compiler" tools/install_cuda.sh
python3 tests/fetch_nccl.py >"$logs/nccl.log" 2>&1 &
nccl=$!
install_cargo_tools() {
    nice tools/install_cargo_tool.sh cargo-fuzz && nice tools/install_cargo_tool.sh cargo-deny
}
install_cargo_tools >"$logs/cargo-tools.log" 2>&1 &
cargo_tools=$!
jobs_of_ours=("$nccl" "$cargo_tools")

step "format" cargo fmt --all -- --check
step "format of the fuzz targets" cargo fmt --manifest-path fuzz/Cargo.toml -- --check
step "build" cargo build --release --locked --package dime
step "compile the search" env PATH="$PATH:$PWD/target/cuda/nvidia/cu13/bin" \
    nvcc -arch=sm_90 -Ikernels -std=c++20 -ptx -o target/search.ptx perf/search.cu
step "build the tools" cargo build --release --locked --package dime-cli --package dime-qa
step "simulated node" make --no-print-directory sim
step "race checker" tools/sanitize.sh thread
step "address checker" tools/sanitize.sh address
step "headers and docs" make --no-print-directory check-headers
# Without the exports first: that is how the tests see the library. Then with them, then without kernels.
step "lint" cargo clippy --quiet --locked --workspace --all-targets --no-default-features -- -D warnings
step "lint the exports" cargo clippy --quiet --locked --package dime --lib -- -D warnings
step "lint forward-only" cargo clippy --quiet --locked --package dime --lib --features forward-only -- -D warnings
# What is not linked needs no fuzzer: any path saves compiling it.
step "lint the fuzz targets" env CUSTOM_LIBFUZZER_PATH=/nonexistent/libfuzzer.a \
    cargo clippy --quiet --locked --manifest-path fuzz/Cargo.toml --target-dir target/fuzz-lint --all-targets -- -D warnings
step "documentation" make --no-print-directory docs
step "build the tests" cargo test --quiet --locked --workspace --no-default-features --no-run
step "NCCL releases" finish nccl "$nccl"
# Not the examples in comments: there are none.
run_tests() {
    cargo test --quiet --locked --workspace --no-default-features --no-fail-fast --lib --bins --tests 2>&1 | tee "$logs/tests.log"
}
step "tests" run_tests
step "cargo-deny and cargo-fuzz" finish cargo-tools "$cargo_tools"
step "fuzz" env FUZZ_SECONDS="${FUZZ_SECONDS:-5}" tools/fuzz.sh
deny_folder="$(tail -n 1 "$logs/cargo-tools.log")"
# Advisories would need the advisory database from the network at each run.
dependencies() {
    PATH="$deny_folder:$PATH" cargo deny --locked "$@" check bans licenses sources
}
step "dependencies" dependencies --workspace
step "dependencies of the fuzz targets" dependencies --manifest-path fuzz/Cargo.toml

echo "== all passed in $((SECONDS - started)) s"
# One line for all test programs together.
awk '/^test result:/ { passed += $4; failed += $6 } END { print passed " passed, " failed " failed" }' "$logs/tests.log"
