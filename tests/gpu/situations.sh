#!/bin/bash
# The situations of tests/c, which CI runs on the simulated node, on GPUs and the real NCCL. Needs a C compiler.
#
#   tests/gpu/situations.sh LIBDIME LIBNCCL WORK_DIR [NAME...]
#
# NAME is PROGRAM, SITUATION or "PROGRAM SITUATION", or a pattern of one of them. A situation that needs more GPUs, a newer NCCL or
# more rights than there are is listed as such. Ends with 1 when one failed. With DIME_DISABLE=1 it shows what NCCL alone makes of them.
# Environment: CC, SITUATION_SECONDS (90), the limit of each.
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
library=$(realpath "$1") nccl=$(realpath "$2") work=$3
shift 3
wanted=("$@")
mkdir -p "$work/lib"
ln -sf "$library" "$work/lib/libnccl.so.2"
ln -sf libnccl.so.2 "$work/lib/libnccl.so"
export DIME_NCCL_LIB=$nccl DIME_DEBUG=warn
passed=0 failed=0 left_out=0
# In these NCCL alone never comes to an end on GPUs: the driver waits for kernels that run, at the end of a process and when memory of
# the host is freed.
waits_alone="endings in-flight-return:endings in-flight-exit:lifecycle destroyed-beside-one-that-spins"
# So it is with these, by what its aborts free.
waits_alone+=":aborts_in_groups one-by-one-*-spin*:aborts_in_groups one-by-one-*-first-is-idle:aborts_in_groups one-by-one-[38]-last-is-idle"
waits_alone+=":aborts_in_groups one-by-one-8-kinds-alternate"
# And NCCL makes sockets at its first operation.
waits_alone+=":denied after-connect:denied after-socket"

compile() {
    "${CC:-cc}" -std=c11 -O1 -I"$root/include" -o "$work/$1" "$root/tests/c/$1.c" -pthread -ldl "${@:2}" && return
    echo "FAIL: $1 cannot be compiled"
    exit 1
}

# With libdime.so as its libnccl.so.2.
compile_with_dime() {
    compile "$1" -L"$work/lib" -lnccl -Wl,--disable-new-dtags,-rpath,"$work/lib"
}

is_wanted() {
    local one
    [ ${#wanted[@]} -gt 0 ] || return 0
    for one in "${wanted[@]}"; do
        # shellcheck disable=SC2053
        [[ $1 == $one || ${1%% *} == $one || ${1#* } == $one ]] && return 0
    done
    return 1
}

is_left_out() {
    local one IFS=:
    set -f # patterns are for names, not for files
    for one in $waits_alone; do
        # shellcheck disable=SC2053
        [[ $1 == $one ]] && { set +f; return 0; }
    done
    set +f
    return 1
}

# run NAME EXPECTED COMMAND...: NAME is what it is listed as, and EXPECTED how lines of its output begin, with "; " between them.
run() {
    local name=$1 expected=$2 code result log begin line
    shift 2
    is_wanted "$name" || return
    if [[ ${DIME_DISABLE:-} != 1 ]] && is_left_out "$name"; then
        left_out=$((left_out + 1))
        echo "$name: left out: NCCL alone waits there for ever"
        return
    fi
    log="$work/${name// /-}.log"
    begin=$(date +%s%N)
    timeout -k 5 "${SITUATION_SECONDS:-90}" "$@" >"$log" 2>&1
    code=$?
    while [[ $code == 0 && ${DIME_DISABLE:-} != 1 && -n $expected ]]; do
        line=${expected%%; *}
        grep -aq "^$line" "$log" || code="without $line"
        [[ $expected == *"; "* ]] && expected=${expected#*; } || expected=
    done
    case $code in
        0) passed=$((passed + 1)) result=right ;;
        77 | 78)
            left_out=$((left_out + 1))
            result="left out: $(sed -n 's/^skipped=//p; s/^not-possible=//p' "$log" | head -1)"
            ;;
        *) failed=$((failed + 1)) result="FAILED ($code) $(grep -a '^failed=' "$log" | head -1)" ;;
    esac
    echo "$name: $result, $((($(date +%s%N) - begin) / 1000000)) ms"
}

for program in groups lifecycle streams crowded graphs rows suspends dependents stuck processes aborted aborts_in_groups; do
    compile_with_dime $program
    # Without an argument it lists what it knows.
    for situation in $("$work/$program" 2>&1 | sed -n 's/^  //p'); do
        run "$program $situation" right=1 "$work/$program" "$situation"
    done
done

compile_with_dime endings
for how in return exit quick_exit _exit exit-of-another-thread _exit-in-handler SIGTERM SIGINT SIGKILL; do
    run "endings in-flight-$how" right=1 "$work/endings" in-flight $how
done
run "endings in-flight-quick_exit-beside-the-watchdog" right=1 env DIME_TIMEOUT_S=1 "$work/endings" in-flight quick_exit
for when in before-the-first-operation in-an-operation between-operations at-any-moment; do
    run "endings killed-$when" right=1 "$work/endings" killed $when
done

compile_with_dime namespaces
for kind in uts-and-ipc pid pid-with-its-proc user user-without-a-map; do
    run "namespaces $kind" "verdict=fast: " "$work/namespaces" $kind
done
for kind in net no-proc; do
    run "namespaces $kind" "verdict=forward: " "$work/namespaces" $kind
done

compile reopen
run "reopen again-and-again" right=1 "$work/reopen" "$library"
run "reopen beside-the-watchdog" right=1 env DIME_TIMEOUT_S=1 "$work/reopen" "$library"

compile mixed
run "mixed with-dime" "whole=fast: ; part=fast: " "$work/mixed" "$library" "$library"
run "mixed without-dime" "whole=forward: not every rank; part=fast: " "$work/mixed" "$library" "$nccl"

# NCCL connects its own sockets before anything is denied.
compile denied
deny() {
    run "denied $3-$4" "$1; right=1" env NCCL_RUNTIME_CONNECT=0 DIME_SETUP_TIMEOUT_S=2 "$work/denied" "$library" "$nccl" 2 "${@:2}"
}
deny "rank-0=forward: the ranks could not" 1 after connect 13
deny "rank-0=forward: the ranks could not" 1 after scope
deny "rank-0=forward: the ranks could not" 1 after socket 24
deny "rank-0=forward: a rank could not find out" 1 after getrandom 38

if [ $((passed + failed + left_out)) = 0 ]; then
    echo "FAIL: nothing is called ${wanted[*]}"
    exit 2
fi
[ $failed = 0 ] && verdict=PASS || verdict=FAIL
echo "$verdict: $passed right, $failed failed, $left_out left out"
[ $failed = 0 ]
