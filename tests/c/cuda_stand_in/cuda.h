/* A stand-in for NVIDIA's header of this name; see cuda_runtime.h beside it. */
#ifndef DIME_TESTS_CUDA_H
#define DIME_TESTS_CUDA_H

typedef struct CUstream_st *CUstream;
typedef enum { CU_MEM_LOCATION_TYPE_INVALID = 0 } CUmemLocationType;

#endif
