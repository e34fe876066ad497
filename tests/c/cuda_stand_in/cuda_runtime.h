/* A stand-in for NVIDIA's header of this name: as much as nccl.h and nccl_device/core.h need to be read by a host
 * compiler on a machine without the CUDA toolkit. */
#ifndef DIME_TESTS_CUDA_RUNTIME_H
#define DIME_TESTS_CUDA_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#define CUDART_VERSION 12090
#define __host__
#define __device__

typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;

#endif
