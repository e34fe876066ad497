# Shared by run_gpu_test.sh and run_bench.sh: named stages with a time limit, a log each, and a table at the end.
# Needs: root, results, wanted (names of stages, or empty for all).

set -u
mkdir -p "$results"
table=$(mktemp)
failed=0
trap 'rm -f "$table"' EXIT

is_wanted() {
    [ -z "$wanted" ] && return 0
    local pattern
    set -f # patterns are for names of stages, not of files
    for pattern in $wanted; do
        case $1 in $pattern) set +f; return 0 ;; esac
    done
    set +f
    return 1
}

# record NAME RESULT SECONDS NOTE
record() {
    printf '%-22s %-8s %6s s  %s\n' "$1" "$2" "$3" "$4" >>"$table"
    [ "$2" = pass ] || failed=1
}

# The line of a log that says most.
gist() {
    grep -aE '^(PASS|FAIL)|^dime(-qa)?: |HANG|^FAILED|ERROR SUMMARY' "$1" | tail -1 | cut -c1-120
}

# stage NAME LIMIT_S COMMAND...: runs the command with its output in results/NAME.log.
stage() {
    local name=$1 limit=$2 begin code took note
    shift 2
    is_wanted "$name" || return 0
    echo "stage $name, at most $limit s"
    begin=$(date +%s)
    timeout -k 5 "$limit" "$@" >"$results/$name.log" 2>&1
    code=$?
    took=$(($(date +%s) - begin))
    note=$(gist "$results/$name.log")
    if [ $code -eq 0 ]; then
        record "$name" pass $took "$note"
    else
        [ $code -eq 124 ] && note="over its time limit; $note"
        record "$name" FAIL $took "exit $code; $note"
        tail -15 "$results/$name.log" | cut -c1-300 | sed 's/^/    /'
    fi
}

# missing NAME WHY: a stage that cannot run here is shown, and is not a pass.
missing() {
    is_wanted "$1" && record "$1" MISSING 0 "$2"
    return 0
}

finish() {
    echo
    cat "$table"
    cp "$table" "$results/summary.txt"
    exit $failed
}
