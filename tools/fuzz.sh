#!/usr/bin/env bash
# Runs fuzz targets, each for FUZZ_SECONDS (3600 by default), FUZZ_AT_ONCE of them at a time (1). Stops at the first finding and shows it.
# Usage: tools/fuzz.sh [TARGET...]     all of fuzz/targets, when none is named
#
# Each begins with the inputs in fuzz/seeds. What the fuzzer learns stays in fuzz/corpus, inputs that fail in fuzz/artifacts. cargo-fuzz wants
# a nightly compiler for its unstable options; RUSTC_BOOTSTRAP lets the stable one take them.
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
export options="-max_total_time=$seconds -timeout=60 -len_control=10 -max_len=1024" logs
fuzz() {
    local target="$1" log="$logs/$1.log"
    mkdir -p "fuzz/corpus/$target"
    # What is learnt goes into the first folder.
    # shellcheck disable=SC2086
    cargo fuzz run "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- $options >"$log" 2>&1 || {
        # The reason stands before long stacks, the input and how to repeat it behind them.
        grep -a -A 3 "panicked at\|^==.*ERROR" "$log" >&2 || true
        tail -n 25 "$log" >&2
        echo "$target: FAILED, all of it is in $log" >&2
        return 255 # ends xargs
    }
    # "Done N runs in S second(s)"
    echo "$target: $(awk '/^Done/ { print $2 " inputs in " $5 " s" }' "$log")"
}
export -f fuzz
printf '%s\n' "${targets[@]}" | xargs -P "${FUZZ_AT_ONCE:-1}" -I{} bash -c 'fuzz {}'
