#!/bin/bash
# Runs a command whose processes share GPUs, with an MPS server of its own, so that their kernels run at the same time:
#
#   tests/gpu/under_mps.sh COMMAND...
CUDA_MPS_PIPE_DIRECTORY=$(mktemp -d) || exit
export CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY=$CUDA_MPS_PIPE_DIRECTORY
child=
stop() {
    # The server ends when its clients have.
    [ -z "$child" ] || { kill "$child" 2>/dev/null && wait "$child"; }
    echo quit | nvidia-cuda-mps-control
    rm -rf "$CUDA_MPS_PIPE_DIRECTORY"
}
trap stop EXIT
trap 'exit 143' TERM INT
nvidia-cuda-mps-control -d || exit
# In the background, so that a signal is seen at once.
"$@" &
child=$!
wait "$child"
code=$?
child=
exit $code
