#include "version_gates.h"

/* nccl-tests' kernels take each type as CUDA has it. */
template <typename T>
__global__ void fill(T *data, size_t count) {
    for (size_t at = threadIdx.x; at < count; at += blockDim.x) data[at] = T(1.0f);
}

template __global__ void fill<half>(half *, size_t);
template __global__ void fill<float>(float *, size_t);
template __global__ void fill<double>(double *, size_t);
#if HAVE_BF16
template __global__ void fill<__nv_bfloat16>(__nv_bfloat16 *, size_t);
#endif
#if HAVE_FP8
template __global__ void fill<__nv_fp8_e4m3>(__nv_fp8_e4m3 *, size_t);
template __global__ void fill<__nv_fp8_e5m2>(__nv_fp8_e5m2 *, size_t);
#endif
