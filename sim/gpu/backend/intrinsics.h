// The simulator's form of kernels/backend/intrinsics.h: a GPU's results, to the bit. f32 arithmetic of a GPU
// gives a NaN the pattern 0x7fffffff, whatever NaNs are its operands. f64 arithmetic passes on one of its NaN
// operands; the kernels do not rely on which.
#ifndef DIME_SIM_GPU_BACKEND_INTRINSICS_H
#define DIME_SIM_GPU_BACKEND_INTRINSICS_H

#include <bit>
#include <cstdint>

// CUDA's functions, in the global namespace as in CUDA.
inline uint32_t __float_as_uint(float value) { return std::bit_cast<uint32_t>(value); }
inline float __uint_as_float(uint32_t bits) { return std::bit_cast<float>(bits); }
inline long long __double_as_longlong(double value) { return std::bit_cast<long long>(value); }
inline double __longlong_as_double(long long bits) { return std::bit_cast<double>(bits); }

inline float sim_canonical(float value) { return value != value ? __uint_as_float(0x7fffffffu) : value; }
inline float __fadd_rn(float a, float b) { return sim_canonical(a + b); }
inline float __fmul_rn(float a, float b) { return sim_canonical(a * b); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }

namespace dime {

inline bool is_smaller(float a, float b) {
  return a < b || (a == b && (__float_as_uint(a) >> 31) > (__float_as_uint(b) >> 31));
}
inline float maximum(float a, float b) {
  if (a != a) return sim_canonical(b);
  return b != b || is_smaller(b, a) ? a : b;
}
inline float minimum(float a, float b) {
  if (a != a) return sim_canonical(b);
  return b != b || is_smaller(a, b) ? a : b;
}

}  // namespace dime

#endif
