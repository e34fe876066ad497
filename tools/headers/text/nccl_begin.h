/* The release whose interface this header declares. Programs test NCCL_VERSION_CODE and, from 2.28 on, include NCCL's
 * device code, which libdime.so does not have. So the default is the last release before that; 23203 declares the newer
 * functions too. The macro changes what is declared here, not what libdime.so does. */
#ifndef DIME_NCCL_API
#define DIME_NCCL_API 22707
#endif
#if DIME_NCCL_API != 22707 && DIME_NCCL_API != 23203
#error "DIME_NCCL_API must be 22707 (NCCL 2.27.7, the default) or 23203 (NCCL 2.32.3)"
#endif

/* CUDA's types. Like NCCL's header, this one includes CUDA's own headers where they are installed, because programs test
 * which types they define. Without them, or with DIME_NO_CUDA_HEADERS defined, the two handles that the functions take are
 * declared here, exactly as CUDA does. */
#if !defined(DIME_NO_CUDA_HEADERS) && defined(__has_include)
#if __has_include(<cuda_runtime.h>) && __has_include(<cuda_fp16.h>) && __has_include(<cuda_bf16.h>)
#define DIME_HAS_CUDA_HEADERS
#endif
#endif
#ifdef DIME_HAS_CUDA_HEADERS
#include <cuda_runtime.h>
#include <cuda_fp16.h>
#include <cuda_bf16.h>
/* For C++ only; CUDA has it since 11.8. */
#if defined(__cplusplus) && __has_include(<cuda_fp8.h>)
#include <cuda_fp8.h>
#endif
#elif !defined(__DRIVER_TYPES_H__)
typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
#endif

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#define NCCL_MAJOR 2
#if DIME_NCCL_API == 22707
#define NCCL_MINOR 27
#define NCCL_PATCH 7
#else
#define NCCL_MINOR 32
#define NCCL_PATCH 3
#endif
#define NCCL_SUFFIX ""
#define NCCL_VERSION_CODE DIME_NCCL_API
/* The code of any release; until 2.8 the minor version had one digit less. */
#define NCCL_VERSION(X, Y, Z) \
    (((X) <= 2 && (Y) <= 8) ? (X) * 1000 + (Y) * 100 + (Z) : (X) * 10000 + (Y) * 100 + (Z))

#define NCCL_COMM_NULL NULL

/* Values of fields that are not set. */
#define NCCL_CONFIG_UNDEF_INT INT_MIN
#define NCCL_CONFIG_UNDEF_PTR NULL
#define NCCL_UNDEF_FLOAT -1.0f

/* Marks initialized structs. */
#define DIME_NCCL_MAGIC 0xcafebeef
#if NCCL_VERSION_CODE >= 22800
#define NCCL_API_MAGIC DIME_NCCL_MAGIC
#endif

/* The tag of ncclConfig_t, which the names of C++ functions contain that take one. */
#if NCCL_VERSION_CODE >= 22800
#define DIME_NCCL_CONFIG ncclConfig_v23100
#else
#define DIME_NCCL_CONFIG ncclConfig_v22700
#endif
