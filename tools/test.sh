#!/usr/bin/env bash
# All that can be checked without a GPU. Stops at the first failure that it meets; says how long each job took.
#
# Jobs run side by side where one does not need what another builds: a job of one core fills the gaps of the others. What measures time, or
# must not be starved, runs at the usual priority; the rest is nice. The output of a job is in target/test-logs, and is shown when it fails.
set -euo pipefail
cd "$(dirname "$0")/.."

logs="$PWD/target/test-logs"
mkdir -p "$logs"
started=$SECONDS
declare -A process_of

# Shows a failed job and ends all others.
fail() {
    cat "$logs/$1.log" >&2
    echo "== $1 FAILED" >&2
    exit 1
}

# start NAME NICENESS COMMAND...: a job in the background, in a process group of its own, so that it can be ended whole.
start() {
    local name="$1" niceness="$2"
    shift 2
    set -m
    (
        set +m # or each of its commands would have a group of its own
        since=$SECONDS
        # Never less nice than all of this is.
        ((niceness <= $(nice))) || renice -n "$niceness" $BASHPID >/dev/null
        # Not `"$@" || ...`: in a condition a function goes on after a command that failed.
        trap 'echo "$((SECONDS - since))" >"$logs/$name.seconds"' EXIT
        set -e
        "$@"
    ) >"$logs/$name.log" 2>&1 </dev/null &
    set +m
    process_of[$name]=$!
}

# Waits for a job.
finish() {
    local name="$1"
    wait "${process_of[$name]}" || fail "$name"
    unset "process_of[$name]"
    echo "== $name: $(<"$logs/$name.seconds") s"
}

end_jobs() {
    local job
    for job in "${process_of[@]}"; do kill -- "-$job" 2>/dev/null || true; done
}
trap end_jobs EXIT

# What `make` builds, kernels for all architectures included.
build() {
    cargo build --release --locked --package dime
    cargo build --release --locked --package dime-cli --package dime-qa
    local bytes
    bytes="$(stat -c %s target/release/libdime.so)"
    if ((bytes > 20 << 20)); then
        echo "target/release/libdime.so has $bytes bytes; with the kernels for all architectures it must stay under 20 MiB" >&2
        return 1
    fi
}

install_cargo_tools() {
    tools/install_cargo_tool.sh cargo-fuzz
    tools/install_cargo_tool.sh cargo-deny
}

search() {
    PATH="$PATH:$PWD/target/nvcc/nvidia/cu13/bin" nvcc -arch=sm_90 -Ikernels -std=c++20 -ptx -o target/search.ptx perf/search.cu
}

# In a target folder of its own, since cargo lets one of its commands at a time into one. Needs the kernels that `build` keeps.
lint() {
    export CARGO_TARGET_DIR="$PWD/target/lint"
    mkdir -p "$CARGO_TARGET_DIR"
    ln -sfn ../kernels "$CARGO_TARGET_DIR/kernels"
    # Without the exports first: that is how the tests see the library. Then with them, then without kernels.
    cargo clippy --quiet --locked --workspace --all-targets --no-default-features -- -D warnings
    cargo clippy --quiet --locked --package dime --lib -- -D warnings
    cargo clippy --quiet --locked --package dime --lib --features forward-only -- -D warnings
    # What is not linked needs no fuzzer: any path saves compiling it.
    CUSTOM_LIBFUZZER_PATH=/nonexistent/libfuzzer.a \
        cargo clippy --quiet --locked --manifest-path fuzz/Cargo.toml --all-targets -- -D warnings
    make --no-print-directory docs
    make --no-print-directory check-headers
}

# Advisories would need the advisory database from the network at each run.
dependencies() {
    local folder
    folder="$(tools/install_cargo_tool.sh cargo-deny)"
    PATH="$folder:$PATH" cargo deny --locked --workspace check bans licenses sources
    PATH="$folder:$PATH" cargo deny --locked --manifest-path fuzz/Cargo.toml check bans licenses sources
}

sanitizers() {
    tools/sanitize.sh thread
    tools/sanitize.sh address
}

build_tests() {
    cargo test --quiet --locked --workspace --no-default-features --no-run
}

# Integration tests by name, of the one program that holds nearly all.
suite() {
    cargo test --quiet --locked --workspace --no-default-features --test suite -- "$@"
}

# All other programs. Not the examples in comments: there are none.
other_tests() {
    local -a programs=()
    local source
    for source in tests/*.rs; do programs+=(--test "$(basename "$source" .rs)"); done
    cargo test --quiet --locked --workspace --no-default-features --no-fail-fast --lib --bins "${programs[@]}"
}

tools/install_packages.sh test
tools/install_cuda.sh kernels
tools/install_cuda.sh nvcc
start nccl-releases 10 python3 tests/fetch_nccl.py
start pynccl-files 10 python3 tests/fetch_pynccl.py
start cargo-tools 10 install_cargo_tools

cargo fmt --all -- --check
cargo fmt --manifest-path fuzz/Cargo.toml -- --check
echo "== format: $((SECONDS - started)) s, all included that was installed"

start build 0 build
start simulated-node 0 make --no-print-directory sim
finish build
start lint 5 lint
start build-tests 0 build_tests
finish simulated-node
# They take threads to places where they meet; starved ones run into their limit.
start sanitizers 0 sanitizers
start search 10 search
finish build-tests
# The longest, and not in a hurry.
start schedules 15 suite sim_schedules::
finish nccl-releases
finish pynccl-files
finish cargo-tools
# With the kernels that `build` has kept.
start dist 5 tools/dist.sh
start fuzz 10 env FUZZ_SECONDS="${FUZZ_SECONDS:-5}" FUZZ_AT_ONCE=2 tools/fuzz.sh
start tests 5 suite --skip sim_ --skip packages::
start other-tests 5 other_tests
start simulated-tests 0 suite sim_ --skip sim_schedules::
for name in sanitizers lint search other-tests tests simulated-tests dist; do finish "$name"; done
start packages 0 suite packages::
start dependencies 0 dependencies
for name in dependencies packages fuzz schedules; do finish "$name"; done

tail -q -n 7 "$logs/fuzz.log"
echo "== all passed in $((SECONDS - started)) s"
# One line for all test programs together.
cat "$logs"/{tests,other-tests,simulated-tests,schedules,packages}.log |
    awk '/^test result:/ { passed += $4; failed += $6 } END { print passed " passed, " failed " failed" }'
