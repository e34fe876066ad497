// The arithmetic that CUDA offers device code only: floats seen as integers and sums and products that are rounded on their own, which
// CUDA has under these names, and the larger and smaller of two floats.
#ifndef DIME_KERNELS_BACKEND_INTRINSICS_H
#define DIME_KERNELS_BACKEND_INTRINSICS_H

#include <backend/function.h>

namespace dime {

// A NaN loses against a number, and -0 is less than +0.
DIME_DEVICE float maximum(float a, float b) { return fmaxf(a, b); }
DIME_DEVICE float minimum(float a, float b) { return fminf(a, b); }

}  // namespace dime

#endif
