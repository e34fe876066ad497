// The arithmetic that CUDA offers device code only: floats seen as integers, sums and products that are rounded on their own,
// and the larger and smaller of two floats. Compiled by another compiler than nvcc they come from the simulator, with the GPU's
// results to the bit.
#ifndef DIME_KERNELS_DEVICE_INTRINSICS_H
#define DIME_KERNELS_DEVICE_INTRINSICS_H

#include "ordered.h"

#ifndef __CUDACC__
#include <sim/gpu/device/intrinsics.h>
#else
namespace dime {

// A NaN loses against a number, and -0 is less than +0.
DIME_DEVICE float maximum(float a, float b) { return fmaxf(a, b); }
DIME_DEVICE float minimum(float a, float b) { return fminf(a, b); }

}  // namespace dime
#endif

#endif
