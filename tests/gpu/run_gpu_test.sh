#!/bin/bash
# Every test that needs GPUs: what `make gpu-test` runs. Needs target/release/{libdime.so,dime,dime-qa} and the folders tests, include
# and kernels, no cargo.
#
#   tests/gpu/run_gpu_test.sh [RESULTS_DIR] [STAGE...]
#
# STAGE is a name or a pattern, for example check-* or torch. Without any, all stages run. Stages, in order:
#   devices dependent-launch forwards fingerprint check check-one-thread check-processes check-own-gpu leak memcheck racecheck
#   situations torch batch-invariant abort lost-rank torch-own-gpu ddp-N pynccl-vllm pynccl-sglang soak-wrap soak-wrap-KERNEL
#   soak-processes soak
# Environment: CHECK_SECONDS (time for the cases of the sweep, 240), MODEL_SECONDS (20), SOAK_SECONDS (600), WRAP_SECONDS (30),
# LEAK_CYCLES (200), LEAK_VIA (init or split), SANITIZE_CASES (40), DEVICES (0,1,2,...), PYTHON (python3, with torch),
# NVCC (else CUDA_HOME, PATH, /usr/local/cuda/bin, target/nvcc), COMPUTE_SANITIZER (else PATH, /usr/local/cuda/bin,
# target/sanitizer, which get_sanitizer.sh fills), DIME_NCCL_LIB.
#
# DEVICES may name a GPU several times, which gives each of them so many ranks: DEVICES=0,1,0,1,0,1,0,1 is eight ranks on two GPUs.
# It must name all GPUs then. That needs NCCL 2.30, and MPS (nvidia-cuda-mps-control), which is started for the stages that have a
# process for each rank; of the situations those run that come to their end there.
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
results=${1:-$root/perf/results/gpu-test}
[ $# -gt 0 ] && shift
wanted="$*"
mkdir -p "$results"
results=$(cd "$results" && pwd)
. "$here/stages.sh"

dime=$root/target/release/dime
qa=$root/target/release/dime-qa
library=$root/target/release/libdime.so
python=${PYTHON:-python3}
for file in "$dime" "$qa" "$library"; do
    [ -e "$file" ] || { echo "$file is missing; build it with make"; exit 2; }
done
# An unpacked tree may have lost the bit.
[ -x "$dime" ] && [ -x "$qa" ] || chmod +x "$dime" "$qa"
# The kernels that the sweep forces by default.
kernels=$("$qa" check --help | sed -n 's/.*\[default: auto \(.*\)\]$/\1/p')
[ -n "$kernels" ] || { echo "dime-qa check --help names no kernels"; exit 2; }
export NCCL_NVLS_ENABLE=${NCCL_NVLS_ENABLE:-0}
count=$("$dime" devices --count) || { echo "no usable GPU"; exit 2; }
devices=${DEVICES:-$(seq -s, 0 $((count - 1)))}
gpus=$(echo "$devices" | tr ',' '\n' | wc -l)
[ "$(echo "$devices" | tr ',' '\n' | sort -u | wc -l)" -ge 2 ] || { echo "two GPUs are needed: $devices"; exit 2; }
nccl=${DIME_NCCL_LIB:-$("$python" -c 'import nvidia.nccl as n; print(list(n.__path__)[0] + "/lib/libnccl.so.2")' 2>/dev/null)}
# The tools search as libdime.so does, which knows no python3 but the running one.
[ -z "$nccl" ] || export DIME_NCCL_LIB=$nccl
echo "$gpus GPUs ($devices), results in $results"

# Each once.
different=$(echo "$devices" | tr ',' '\n' | sort -nu | paste -sd,)
is_shared=$([ "$(echo "$different" | tr ',' '\n' | wc -l)" = "$gpus" ]; echo $?)
if [ "$is_shared" = 1 ]; then
    echo "$gpus ranks on the GPUs $different"
    grep -aqs NCCL_MULTI_RANK_GPU_ENABLE "$nccl" || { echo "ranks can share GPUs with NCCL 2.30 only, not with ${nccl:-none}"; exit 2; }
    command -v nvidia-cuda-mps-control >/dev/null || { echo "nvidia-cuda-mps-control is needed where ranks share GPUs"; exit 2; }
    export NCCL_MULTI_RANK_GPU_ENABLE=1 DIME_ALLOW_SHARED_GPU=1
    # Without those that kill ranks, which may end the MPS server, and two that stop for want of connections (docs/gpu-tests.md).
    situations=(mixed "groups *" "streams *" "lifecycle begins-and-ends" "lifecycle splits*" "lifecycle shrinks" "lifecycle revokes*"
        "lifecycle grows" "lifecycle suspends" "lifecycle non-blocking*" "lifecycle handles-come-again" "lifecycle overlapping-subsets"
        "lifecycle destroyed-in-flight" "graphs modes" "graphs any-order" "graphs many-captures-at-once" "stuck in-a-graph")
fi
# together: for a command whose ranks are one process. Where streams of several ranks are on one GPU each needs a connection of its own,
# or a kernel that waits for another rank's stands before it. apart: for one whose ranks are processes.
together=() apart=() situations=("${situations[@]:-*}")
[ "$is_shared" = 0 ] || { together=(env CUDA_DEVICE_MAX_CONNECTIONS=32) && apart=("$here/under_mps.sh"); }

check_seconds=${CHECK_SECONDS:-240}
model_seconds=${MODEL_SECONDS:-20}
soak_seconds=${SOAK_SECONDS:-600}
wrap_seconds=${WRAP_SECONDS:-30}

# first N: the first N of the different devices.
first() { echo "$different" | cut -d, -f"1-$1"; }
# from A TO B: devices number A to B of the list, from 1.
slice() { echo "$devices" | cut -d, -f"$1-$2"; }

# The sweep over all numbers of ranks. Numbers that fit the machine side by side run at the same time on disjoint GPUs.
sweep() {
    slots=()
    case $gpus in
        8) slots=("8:1-8" "7:1-7" "2:1-2 6:3-8" "3:1-3 5:4-8" "4:1-4") ;;
        7) slots=("7:1-7" "2:1-2 5:3-7" "3:1-3 4:4-7" "6:1-6") ;;
        6) slots=("6:1-6" "2:1-2 4:3-6" "5:1-5" "3:1-3") ;;
        5) slots=("5:1-5" "2:1-2 3:3-5" "4:1-4") ;;
        4) slots=("4:1-4" "3:1-3" "2:1-2") ;;
        3) slots=("3:1-3" "2:1-2") ;;
        *) slots=("2:1-2") ;;
    esac
    # On shared GPUs one after the other.
    if [ "$is_shared" = 1 ]; then
        slots=()
        for ((ranks = 2; ranks <= gpus; ranks++)); do slots+=("$ranks:1-$ranks"); done
    fi
    share=$((check_seconds / ${#slots[@]}))
    code=0
    for slot in "${slots[@]}"; do
        pids=()
        for part in $slot; do
            ranks=${part%%:*} range=${part##*:}
            # shellcheck disable=SC2086
            $prefix "$qa" check --ranks "$ranks" --devices "$(slice "${range%-*}" "${range#*-}")" --seconds "$share" \
                --out "$results/check-$ranks" >"$results/check-$ranks.log" 2>&1 &
            pids+=($!)
        done
        for pid in "${pids[@]}"; do wait "$pid" || code=1; done
        for part in $slot; do
            tail -n +2 "$results/check-${part%%:*}.log"
        done
    done
    [ $code -eq 0 ] && echo "PASS: every number of ranks from 2 to $gpus" || echo "FAIL"
    return $code
}
# timeout needs a program, so the sweep runs in a shell of its own.
export -f sweep slice
export qa results gpus devices check_seconds is_shared prefix="${together[*]}"

stage devices 60 "$dime" devices
nvcc=${NVCC:-}
for candidate in "${CUDA_HOME:-}/bin/nvcc" "$(command -v nvcc)" /usr/local/cuda/bin/nvcc "$root/target/nvcc/nvidia/cu13/bin/nvcc"; do
    [ -z "$nvcc" ] && [ -x "$candidate" ] && nvcc=$candidate
done
# Whether griddepcontrol.wait waits for what the kernels need. A program that was compiled elsewhere serves too.
dependent_launch=$root/target/dependent_launch
if [ -n "$nvcc" ]; then
    stage dependent-launch 120 bash -c '"$1" -arch=sm_90 -std=c++17 -O3 -L"$(dirname "$1")/../lib" -o "$2" "$3" && exec "$2"' \
        compile-and-run "$nvcc" "$dependent_launch" "$here/dependent_launch.cu"
elif [ -x "$dependent_launch" ]; then
    stage dependent-launch 60 "$dependent_launch"
else
    missing dependent-launch "no nvcc, and no $dependent_launch"
fi
stage forwards 420 "$qa" forwards --devices "$(first 2)"
# Results, routes and errors as a text that must be the same on every machine with these GPUs, and on the simulated node.
short=$("$dime" devices --short)
known=$root/tests/data/fingerprint-${short%-x*}.txt
[ -e "$known" ] && compare=(--compare "$known") || compare=()
stage fingerprint 300 "$qa" fingerprint --devices "$different" --out "$results/fingerprint.txt" "${compare[@]}"
stage check $((check_seconds + 300)) bash -c sweep
for model in one-thread processes own-gpu; do
    [ $model = one-thread ] && start=("${together[@]}") || start=("${apart[@]}")
    stage "check-$model" $((model_seconds + 120)) "${start[@]}" "$qa" check --model $model --devices "$devices" --ranks "$gpus" \
        --seconds "$model_seconds" --max-bytes 4M --out "$results/check-$model"
done
stage leak 600 "${together[@]}" "$qa" leak --devices "$devices" --cycles "${LEAK_CYCLES:-200}" --via "${LEAK_VIA:-init}" --seconds 240

sanitizer=${COMPUTE_SANITIZER:-}
for candidate in "$(command -v compute-sanitizer)" /usr/local/cuda/bin/compute-sanitizer "$root/target/sanitizer/compute-sanitizer"; do
    [ -z "$sanitizer" ] && [ -n "$candidate" ] && [ -e "$candidate" ] && sanitizer=$candidate
done
for tool in memcheck racecheck; do
    if [ -z "$sanitizer" ]; then
        missing $tool "no compute-sanitizer; tests/gpu/get_sanitizer.sh fetches one"
        continue
    fi
    # In one process without a fork. Small messages: instrumented kernels are slow, and a kernel that spins for a peer's
    # packets is slower still. NCCL's own kernels are left out.
    # NCCL asks the runtime for things that it may refuse, and goes on: API errors are no finding.
    api=$([ $tool = memcheck ] && echo "--report-api-errors no" || true)
    # shellcheck disable=SC2086
    stage $tool 300 "$sanitizer" --tool $tool $api --error-exitcode 9 --print-limit 20 --kernel-name kernel_substring=dime_ \
        "$qa" check --no-fork --devices "$(first 2)" --ranks 2 --max-bytes 16K --cases "${SANITIZE_CASES:-40}" \
        --batch 4 --seconds 200 --wait-limit 120
done

if [ -e "$nccl" ] && command -v "${CC:-cc}" >/dev/null; then
    stage situations 1200 "${apart[@]}" "$here/situations.sh" "$library" "$nccl" "$results/situations" "${situations[@]}"
else
    missing situations "a C compiler and DIME_NCCL_LIB, or a python3 that has NCCL, are needed"
fi

if "$python" -c 'import torch; raise SystemExit(0 if torch.cuda.is_available() else 1)' 2>/dev/null; then
    stage torch 330 "${apart[@]}" "$python" "$here/compare_torch.py" --dime "$library" --out "$results/torch" -- \
        "$here/torch_allreduce.py" --ranks "$gpus"
    stage batch-invariant 300 "$python" "$here/batch_invariant.py" --dime "$library" --ranks "$gpus"
    stage abort 60 "$python" "$here/abort.py" "$library"
    stage lost-rank 120 "$python" "$here/lost_rank.py" --dime "$library"
    stage torch-own-gpu 330 "${apart[@]}" "$python" "$here/compare_torch.py" --dime "$library" --out "$results/torch-own-gpu" -- \
        "$here/torch_allreduce.py" --ranks "$gpus" --own-gpu
    stage ddp-2 200 "$python" "$here/compare_torch.py" --dime "$library" --out "$results/ddp-2" --limit 90 -- \
        "$here/torch_ddp.py" --ranks 2
    power=2
    while [ $((power * 2)) -le "$gpus" ]; do power=$((power * 2)); done
    [ $power -gt 2 ] && stage "ddp-$power" 200 "${apart[@]}" "$python" "$here/compare_torch.py" --dime "$library" \
        --out "$results/ddp-$power" --limit 90 -- "$here/torch_ddp.py" --ranks $power
    for framework in vllm sglang; do
        is_wanted "pynccl-$framework" || continue
        if files=$("$python" "$root/tests/fetch_pynccl.py" $framework); then
            stage "pynccl-$framework" 200 "${apart[@]}" "$python" "$here/pynccl.py" --framework $framework --files "$files" \
                --dime "$library" --ranks "$gpus"
        else
            missing "pynccl-$framework" "tests/fetch_pynccl.py $framework could not fetch its files"
        fi
    done
else
    for name in torch batch-invariant abort lost-rank torch-own-gpu ddp-2 pynccl-vllm pynccl-sglang; do
        missing $name "$python has no torch that sees a GPU"
    done
fi

stage soak-wrap $((wrap_seconds + 120)) "${together[@]}" "$qa" soak --devices "$devices" --seconds "$wrap_seconds" \
    --first-epoch 4294967000 --out "$results/soak-wrap"
for kernel in $kernels; do
    stage "soak-wrap-$kernel" $((wrap_seconds / 3 + 120)) "${together[@]}" "$qa" soak --devices "$devices" \
        --seconds $((wrap_seconds / 3)) --kernel $kernel --first-epoch 4294967000 --out "$results/soak-wrap-$kernel"
done
stage soak-processes $((model_seconds + 120)) "${apart[@]}" "$qa" soak --devices "$devices" --model processes \
    --seconds "$model_seconds" --out "$results/soak-processes"
stage soak $((soak_seconds + 120)) "${together[@]}" "$qa" soak --devices "$devices" --seconds "$soak_seconds" --out "$results/soak"
finish
