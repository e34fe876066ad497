/* Which GPU a rank has: its own, or one that it shares, where there are fewer than ranks and NCCL is told that this is meant
 * (NCCL_MULTI_RANK_GPU_ENABLE=1, NCCL 2.30; libdime.so by DIME_ALLOW_SHARED_GPU=1). */
#ifndef GPUS_H
#define GPUS_H

#include <stdlib.h>
#include <string.h>

#include "../../examples/cuda_driver.h"

/* 0: none, or no driver. */
static inline int gpus_here(void) {
    int count = 0;
    return find_cuda() && !cuda.init(0) && !cuda.device_count(&count) ? count : 0;
}

static inline int are_enough_for(int ranks, int gpus) {
    const char *shared = getenv("NCCL_MULTI_RANK_GPU_ENABLE");
    return gpus >= ranks || (gpus > 0 && shared && strcmp(shared, "1") == 0);
}

static inline int gpu_of(int rank) {
    static int count;
    if (count == 0) count = gpus_here();
    return count ? rank % count : rank;
}

#endif
