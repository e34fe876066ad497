#!/usr/bin/env bash
# What a change is checked with while it is made: format, lint, unit tests and one sweep of types, operations and sizes on the simulated
# node. `make test` checks the rest.
#
# All of it is built in target/check, unoptimized and with kernels for one architecture, so that neither this nor `make` builds again what
# the other has built.
set -euo pipefail
cd "$(dirname "$0")/.."

export DIME_CUDA_ARCHS="${DIME_CUDA_ARCHS:-90}" CARGO_TARGET_DIR="$PWD/target/check"
export CARGO_PROFILE_DEV_DEBUG=line-tables-only CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}"
log="$CARGO_TARGET_DIR/log"
started=$SECONDS

# The output of a step is shown when it fails.
step() {
    local name="$1" since=$SECONDS
    shift
    "$@" >"$log" 2>&1 || {
        cat "$log" >&2
        echo "== $name FAILED after $((SECONDS - since)) s" >&2
        exit 1
    }
    echo "== $name: $((SECONDS - since)) s"
}

mkdir -p "$CARGO_TARGET_DIR" target/kernels
ln -sfn ../kernels "$CARGO_TARGET_DIR/kernels" # compiled images are kept by a hash of all that goes in

# The node compiles beside the steps that need one core.
make --no-print-directory --silent -C sim node &
node=$!
trap 'kill "$node" 2>/dev/null || true' EXIT

step "format" cargo fmt --all -- --check
step "lint" cargo clippy --quiet --locked --workspace --all-targets --no-default-features -- -D warnings
step "unit tests" cargo test --quiet --locked --workspace --no-default-features --lib --bins
build() {
    # Two invocations, as in the Makefile.
    cargo build --quiet --locked --package dime && cargo build --quiet --locked --package dime-qa
}
step "build libdime.so and the tool" build
step "simulated node" wait "$node"

sim="${DIME_SIM_DIR:-$PWD/target/sim}"
sweep() {
    local ranks="$1"
    shift
    env LD_LIBRARY_PATH="$sim" DIME_NCCL_LIB="$sim/libnccl.so.2" DIME_SIM_DEVICES="$ranks" DIME_DEBUG=warn \
        timeout 120 "$CARGO_TARGET_DIR/debug/dime-qa" check --ranks "$ranks" --wait-limit 60 "$@"
}
weak_sweep() { DIME_SIM_WEAK=1 sweep "$@"; }
step "2 ranks on the simulated node" sweep 2 --model threads --max-bytes 12K --cases 60
step "3 ranks" sweep 3 --model processes --max-bytes 12K --cases 40
step "4 ranks" sweep 4 --model one-thread --max-bytes 12K --cases 40
step "weak memory" weak_sweep 2 --max-bytes 700 --cases 20
echo "== all passed in $((SECONDS - started)) s"
