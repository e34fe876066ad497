// The element types: how many elements a 64-bit word holds, the type they accumulate in, and the conversions
// between the two. Types of 16 bits and fewer accumulate in f32 and are rounded once, to nearest even; fp8
// saturates to its largest finite value, as NCCL's conversions do. Integers accumulate as unsigned numbers of
// their own size, so that sums and products wrap.
#ifndef DIME_KERNELS_DEVICE_NUMBER_H
#define DIME_KERNELS_DEVICE_NUMBER_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <backend/intrinsics.h>
#include "ordered.h"

namespace dime {

DIME_DEVICE uint32_t bits_at(uint64_t word, int element, int element_bits) {
  return uint32_t(word >> (element * element_bits)) & (0xffffffffu >> (32 - element_bits));
}

// Packs four 16-bit elements. It builds two 32-bit halves, since the conversions give elements in pairs.
DIME_DEVICE uint64_t word_of(uint16_t a, uint16_t b, uint16_t c, uint16_t d) {
  const uint32_t low = a | uint32_t(b) << 16, high = c | uint32_t(d) << 16;
  return low | uint64_t(high) << 32;
}

struct Float32 {
  typedef float Acc;
  static const int PER_WORD = 2;
  static const bool INTEGER = false;
  DIME_DEVICE static Acc decode(uint64_t word, int element) { return __uint_as_float(bits_at(word, element, 32)); }
  DIME_DEVICE static uint64_t encode(const Acc *acc) {
    return uint64_t(__float_as_uint(acc[0])) | uint64_t(__float_as_uint(acc[1])) << 32;
  }
};

struct Float16 {
  typedef float Acc;
  static const int PER_WORD = 4;
  static const bool INTEGER = false;
  DIME_DEVICE static Acc decode(uint64_t word, int element) {
    return __half2float(__ushort_as_half(uint16_t(bits_at(word, element, 16))));
  }
  DIME_DEVICE static uint64_t encode(const Acc *acc) {
    const __half2_raw low = __floats2half2_rn(acc[0], acc[1]), high = __floats2half2_rn(acc[2], acc[3]);
    return word_of(low.x, low.y, high.x, high.y);
  }
};

struct BFloat16 {
  typedef float Acc;
  static const int PER_WORD = 4;
  static const bool INTEGER = false;
  DIME_DEVICE static Acc decode(uint64_t word, int element) {
    return __uint_as_float(bits_at(word, element, 16) << 16);
  }
  DIME_DEVICE static uint64_t encode(const Acc *acc) {
    const __nv_bfloat162_raw low = __floats2bfloat162_rn(acc[0], acc[1]), high = __floats2bfloat162_rn(acc[2], acc[3]);
    return word_of(low.x, low.y, high.x, high.y);
  }
};

template <__nv_fp8_interpretation_t KIND>
struct Float8 {
  typedef float Acc;
  static const int PER_WORD = 8;
  static const bool INTEGER = false;
  DIME_DEVICE static Acc decode(uint64_t word, int element) {
    __half_raw half = __nv_cvt_fp8_to_halfraw(__nv_fp8_storage_t(bits_at(word, element, 8)), KIND);
    return __half2float(__half(half));
  }
  DIME_DEVICE static uint64_t encode(const Acc *acc) {
    uint64_t word = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) word |= uint64_t(__nv_cvt_float_to_fp8(acc[i], __NV_SATFINITE, KIND)) << (8 * i);
    return word;
  }
};
typedef Float8<__NV_E4M3> Float8E4M3;
typedef Float8<__NV_E5M2> Float8E5M2;

struct Float64 {
  typedef double Acc;
  static const int PER_WORD = 1;
  static const bool INTEGER = false;
  DIME_DEVICE static Acc decode(uint64_t word, int) { return __longlong_as_double((long long)(word)); }
  DIME_DEVICE static uint64_t encode(const Acc *acc) { return uint64_t(__double_as_longlong(acc[0])); }
};

// VALUE is the signed or unsigned element type: min, max and avg depend on the sign, sums and products do
// not.
template <class VALUE, class UNSIGNED>
struct Integer {
  typedef VALUE Value;
  typedef UNSIGNED Acc;
  static const int BITS = 8 * int(sizeof(UNSIGNED));
  static const int PER_WORD = 64 / BITS;
  static const bool INTEGER = true;
  DIME_DEVICE static Acc decode(uint64_t word, int element) { return Acc(word >> (element * BITS)); }
  DIME_DEVICE static uint64_t encode(const Acc *acc) {
    uint64_t word = 0;
#pragma unroll
    for (int i = 0; i < PER_WORD; ++i) word |= uint64_t(acc[i]) << (i * BITS);
    return word;
  }
};

}  // namespace dime

#endif
