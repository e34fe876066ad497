#!/usr/bin/env bash
# Builds libdime.so under a sanitizer and runs it on the simulated node: threads that make, use, abort and give back communicators.
# Usage: tools/sanitize.sh thread|address
#
# The sanitizers of the Rust compiler are not stable options; RUSTC_BOOTSTRAP lets the stable compiler take them. The standard
# library is not instrumented, so the library is optimised, which puts the inlined parts of locks into our code (src/host/lock.rs). The driver is
# C, so that nothing but our library and the test is watched; both runtimes are gcc's.
set -euo pipefail
cd "$(dirname "$0")/.."

kind="${1:-}"
case $kind in thread | address) ;; *)
    echo "usage: $0 thread|address" >&2
    exit 2
    ;;
esac
target="${CARGO_TARGET_DIR:-$PWD/target}"
sim="${DIME_SIM_DIR:-$target/sim}"
[[ -e $sim/libcuda.so.1 ]] || { echo "$sim/libcuda.so.1 is missing: run make sim" >&2; exit 1; }
triple="$(rustc -vV | sed -n 's/^host: //p')"
work="$target/sanitize-$kind"

# The kernels are the same: the images that are kept there need not be compiled again.
mkdir -p "$work/$triple" "$target/kernels"
ln -sfn "$target/kernels" "$work/$triple/kernels"
RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=$kind -Cunsafe-allow-abi-mismatch=sanitizer --cfg dime_race_checker" CARGO_PROFILE_RELEASE_LTO=off \
    CARGO_TARGET_DIR="$work" cargo build --quiet --release --locked --target "$triple" --package dime
ln -sf "$triple/release/libdime.so" "$work/libnccl.so.2"

watched="__tsan_func_entry"
[[ $kind == address ]] && watched="__asan_report_load8"
nm -D --undefined-only "$work/libnccl.so.2" | grep "$watched" >/dev/null || {
    echo "the library was built without the sanitizer" >&2
    exit 1
}
sources=(tests/c/threads.c)
[[ $kind == thread ]] && sources+=(tests/c/llvm_tsan.c)
gcc -std=gnu11 -g -O1 -Wall -Wextra -fno-builtin "-fsanitize=$kind" -rdynamic -Iinclude "${sources[@]}" -o "$work/threads" \
    "$work/libnccl.so.2" -ldl -pthread -Wl,--disable-new-dtags,-rpath,"$work"

# The simulated libraries are not instrumented: what they do is not looked at, but for their locks. Leaks are counted by another
# test. Under a sanitizer the address space must not be random.
run() {
    env LD_LIBRARY_PATH="$sim" DIME_NCCL_LIB="$sim/libnccl.so.2" DIME_SIM_DEVICES=4 \
        TSAN_OPTIONS="ignore_noninstrumented_modules=1 exitcode=66" ASAN_OPTIONS="detect_leaks=0" \
        timeout 300 setarch -R "$work/threads" "$@"
}
run --ranks 2 --cycles 8
run --ranks 4 --cycles 6
