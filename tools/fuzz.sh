#!/usr/bin/env bash
# Runs fuzz targets one after the other, each for FUZZ_SECONDS (3600 by default). Stops at the first finding and shows it.
# Usage: tools/fuzz.sh [TARGET...]     all of fuzz/targets, when none is named
#
# What the fuzzer learnt stays in fuzz/corpus, inputs that failed in fuzz/artifacts. cargo-fuzz wants a nightly compiler for
# its unstable options; RUSTC_BOOTSTRAP lets the stable one take them.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds="${FUZZ_SECONDS:-3600}"
targets=("$@")
if ((${#targets[@]} == 0)); then
    for source in fuzz/targets/*.rs; do
        targets+=("$(basename "$source" .rs)")
    done
fi

tools="$(tools/install_cargo_tool.sh cargo-fuzz)"
export PATH="$tools:$PATH" RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/fuzz"
logs="$CARGO_TARGET_DIR/logs"
TMPDIR="$(mktemp -d)"
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
mkdir -p "$logs"

cargo fuzz build >"$logs/build.log" 2>&1 || {
    cat "$logs/build.log" >&2
    exit 1
}
# Inputs grow faster than they usually do, or a short run would see short ones only; and not to lengths that only take time.
options=(-max_total_time="$seconds" -timeout=60 -len_control=10 -max_len=1024)
for target in "${targets[@]}"; do
    log="$logs/$target.log"
    cargo fuzz run "$target" -- "${options[@]}" >"$log" 2>&1 || {
        # The reason stands before long stacks, the input and how to repeat it behind them.
        grep -a -A 3 "panicked at\|^==.*ERROR" "$log" >&2 || true
        tail -n 25 "$log" >&2
        echo "$target: FAILED, all of it is in $log" >&2
        exit 1
    }
    # "Done N runs in S second(s)"
    echo "$target: $(awk '/^Done/ { print $2 " inputs in " $5 " s" }' "$log")"
done
