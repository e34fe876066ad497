// How a device function is declared, in CUDA.
#ifndef DIME_KERNELS_BACKEND_FUNCTION_H
#define DIME_KERNELS_BACKEND_FUNCTION_H

#define DIME_DEVICE __device__ __forceinline__
#define DIME_DEVICE_COLD __device__ __noinline__  // not inlined: code that most launches never run

#endif
