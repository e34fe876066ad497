#!/bin/bash
# The measurements of docs/performance.md: what `make bench` runs. Needs target/release/{libdime.so,dime}, no cargo.
#
#   tests/gpu/run_bench.sh [RESULTS_DIR] [STAGE...]
#
# For each of 2, 4 and 8 GPUs as far as present: stage graph-N (both libraries, every size), stage eager-N (host cost), and stage
# kernels-N (each kernel forced; only when named), stage overlap-N (beside GEMMs, overlap.py; with a python3 that has torch).
# Measurements are appended as JSON lines to RESULTS_DIR/<gpu>-x<N>.jsonl,
# for example perf/results/h200-x8.jsonl; tables are in the logs beside it. KEEP=1 appends to existing files instead
# of replacing them.
# Environment: GPUS ("2 4 8"), REPEAT (1), BYTES (256..16M), EAGER_BYTES (256..64K), DIME_NCCL_LIB.
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
results=${1:-$root/perf/results}
[ $# -gt 0 ] && shift
wanted="$*"
mkdir -p "$results"
results=$(cd "$results" && pwd)
. "$here/stages.sh"

dime=$root/target/release/dime
[ -e "$dime" ] || { echo "$dime is missing; build it with make"; exit 2; }
[ -x "$dime" ] || chmod +x "$dime"
# The tool searches as libdime.so does, which knows no python3 but the running one.
nccl=${DIME_NCCL_LIB:-$(python3 -c 'import nvidia.nccl as n; print(list(n.__path__)[0] + "/lib/libnccl.so.2")' 2>/dev/null)}
[ -z "$nccl" ] || export DIME_NCCL_LIB=$nccl
# NVLink multicast off for both libraries, as in every number published.
export NCCL_NVLS_ENABLE=0
count=$("$dime" devices --count) || { echo "no usable GPU"; exit 2; }
short=$("$dime" devices --short)
repeat=${REPEAT:-1}

for gpus in ${GPUS:-2 4 8}; do
    [ "$gpus" -le "$count" ] || continue
    json=$results/${short%-x*}-x$gpus.jsonl
    if [ -z "${KEEP:-}" ] && is_wanted "graph-$gpus"; then rm -f "$json"; fi
    stage "graph-$gpus" 240 "$dime" bench --gpus "$gpus" --bytes "${BYTES:-256..16M}" --repeat "$repeat" --json "$json"
    stage "eager-$gpus" 240 "$dime" bench --gpus "$gpus" --bytes "${EAGER_BYTES:-256..64K}" --mode eager \
        --repeat "$repeat" --json "$json"
    if [ -n "$wanted" ]; then
        stage "kernels-$gpus" 300 "$dime" bench --gpus "$gpus" --bytes "${BYTES:-256..16M}" --kernels all \
            --repeat "$repeat" --json "$results/${short%-x*}-x$gpus-kernels.jsonl"
    fi
    if is_wanted "overlap-$gpus"; then
        if python3 -c 'import torch; raise SystemExit(not torch.cuda.is_available())' 2>/dev/null; then
            overlap=$results/${short%-x*}-x$gpus-overlap.jsonl
            [ -n "${KEEP:-}" ] || rm -f "$overlap"
            stage "overlap-$gpus" 240 python3 "$here/overlap.py" --ranks "$gpus" --dime "$root/target/release/libdime.so" \
                --json "$overlap"
        else
            missing "overlap-$gpus" "python3 has no torch that sees a GPU"
        fi
    fi
    for name in graph eager kernels overlap; do
        if is_wanted "$name-$gpus" && [ -e "$results/$name-$gpus.log" ]; then tail -n +2 "$results/$name-$gpus.log"; fi
    done
done
finish
