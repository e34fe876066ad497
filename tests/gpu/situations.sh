#!/bin/bash
# The situations of tests/c, which CI runs on the simulated node, on GPUs and the real NCCL. Needs a C compiler.
#
#   tests/gpu/situations.sh LIBDIME LIBNCCL WORK_DIR [PROGRAM...]
#
# A situation that needs more GPUs or a newer NCCL is listed as such. Ends with 1 when one failed.
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
library=$1 nccl=$2 work=$3
shift 3
programs=${*:-groups lifecycle streams graphs stuck}
mkdir -p "$work/lib"
ln -sf "$(realpath "$library")" "$work/lib/libnccl.so.2"
ln -sf libnccl.so.2 "$work/lib/libnccl.so"
passed=0 failed=0 left_out=0
for program in $programs; do
    "${CC:-cc}" -std=c11 -O1 -I"$root/include" -o "$work/$program" "$root/tests/c/$program.c" -pthread -ldl -L"$work/lib" -lnccl \
        -Wl,--disable-new-dtags,-rpath,"$work/lib" || { echo "FAIL: $program cannot be compiled"; exit 1; }
    # Without an argument it lists what it knows.
    for situation in $(DIME_NCCL_LIB="$nccl" "$work/$program" 2>&1 | sed -n 's/^  //p'); do
        DIME_NCCL_LIB=$nccl DIME_DEBUG=warn timeout -k 5 60 "$work/$program" "$situation" >"$work/$program-$situation.log" 2>&1
        code=$?
        case $code in
            0) passed=$((passed + 1)) result=right ;;
            77 | 78) left_out=$((left_out + 1)) result=$(sed -n 's/^skipped=/left out: /p' "$work/$program-$situation.log") ;;
            *) failed=$((failed + 1)) result="FAILED ($code) $(grep -a '^failed=' "$work/$program-$situation.log" | head -1)" ;;
        esac
        echo "$program $situation: $result"
    done
done
[ $failed = 0 ] && verdict=PASS || verdict=FAIL
echo "$verdict: $passed right, $failed failed, $left_out left out"
[ $failed = 0 ]
