// Arithmetic that CUDA has for device code only. CUDA itself defines most of it, under the names that the
// kernels use: floats as integers, and sums and products that are rounded on their own. Here are max and min
// of two floats.
#ifndef DIME_KERNELS_BACKEND_INTRINSICS_H
#define DIME_KERNELS_BACKEND_INTRINSICS_H

#include <backend/function.h>

namespace dime {

// A NaN loses against a number, and -0 is less than +0.
DIME_DEVICE float maximum(float a, float b) { return fmaxf(a, b); }
DIME_DEVICE float minimum(float a, float b) { return fminf(a, b); }

}  // namespace dime

#endif
