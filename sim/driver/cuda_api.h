// NVIDIA's cuda.h with every version of every function, so that each definition here is checked against its
// declaration. What it declares is exported where it is defined, and nothing else of this library is.
#ifndef DIME_SIM_DRIVER_CUDA_API_H
#define DIME_SIM_DRIVER_CUDA_API_H

#define __CUDA_API_VERSION_INTERNAL
#pragma GCC visibility push(default)
#include <cuda.h>
#pragma GCC visibility pop

#endif
