/* CUDA's types. NCCL's header brings CUDA's own headers along, and so does this one where they are installed. Without them,
 * or with DIME_NO_CUDA_HEADERS defined, the two handles that the functions take are declared here, exactly as CUDA does. */
#if !defined(DIME_NO_CUDA_HEADERS) && defined(__has_include)
#if __has_include(<cuda_runtime.h>) && __has_include(<cuda_fp16.h>) && __has_include(<cuda_bf16.h>)
#define DIME_HAS_CUDA_HEADERS
#endif
#endif
#ifdef DIME_HAS_CUDA_HEADERS
#include <cuda_runtime.h>
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#elif !defined(__DRIVER_TYPES_H__)
typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
#endif

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

/* The release whose interface this is. */
#define NCCL_MAJOR 2
#define NCCL_MINOR 32
#define NCCL_PATCH 3
#define NCCL_SUFFIX ""
#define NCCL_VERSION_CODE 23203
/* The code of any release; until 2.8 the minor version had one digit less. */
#define NCCL_VERSION(X, Y, Z) \
    (((X) <= 2 && (Y) <= 8) ? (X) * 1000 + (Y) * 100 + (Z) : (X) * 10000 + (Y) * 100 + (Z))

#define NCCL_COMM_NULL NULL

/* Values of fields that are not set. */
#define NCCL_CONFIG_UNDEF_INT INT_MIN
#define NCCL_CONFIG_UNDEF_PTR NULL
#define NCCL_UNDEF_FLOAT -1.0f

/* Marks initialized structs. */
#define NCCL_API_MAGIC 0xcafebeef
