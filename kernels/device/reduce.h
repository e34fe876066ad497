// Combines the ranks' contributions, always in rank order 0, 1, ..., n - 1. It starts from rank 0's value,
// not from zero, which would turn -0 into +0. Each step is rounded on its own, without fused multiply-add. So
// every kernel, rank and message size gives the same bits.
//
// A reduction is a class with
//
//   static uint64_t word(const uint64_t (&contribution)[M], uint32_t ranks, uint32_t type, uint32_t op)
//
// which combines one 64-bit word of each rank. SumOf<T> is compiled for one type; AnyReduction decides type
// and operation at run time.
#ifndef DIME_KERNELS_DEVICE_REDUCE_H
#define DIME_KERNELS_DEVICE_REDUCE_H

#include "../layout.h"
#include "number.h"

namespace dime {

// Replaces every NaN by one bit pattern. f64 arithmetic passes on one of its NaN operands, and the compiler
// chooses which. f32 arithmetic needs no such step: the hardware gives every NaN one pattern.
DIME_DEVICE double with_one_nan(double a) { return a == a ? a : __longlong_as_double(0x7ff8000000000000ll); }

DIME_DEVICE float sum_of(float a, float b) { return __fadd_rn(a, b); }
DIME_DEVICE double sum_of(double a, double b) { return with_one_nan(__dadd_rn(a, b)); }
DIME_DEVICE float product_of(float a, float b) { return __fmul_rn(a, b); }
DIME_DEVICE double product_of(double a, double b) { return with_one_nan(__dmul_rn(a, b)); }

// Max and min: a NaN loses against a number, and -0 is less than +0. The hardware does that for f32. For f64
// it is written out, because the functions of the CUDA headers leave the sign of a zero open.
DIME_DEVICE float larger_of(float a, float b) { return maximum(a, b); }
DIME_DEVICE float smaller_of(float a, float b) { return minimum(a, b); }
DIME_DEVICE bool is_negative(double a) { return __double_as_longlong(a) < 0; }
DIME_DEVICE double larger_of(double a, double b) {
  return a < b || a != a || (a == b && is_negative(a)) ? b : a;
}
DIME_DEVICE double smaller_of(double a, double b) {
  return b < a || a != a || (a == b && is_negative(b)) ? b : a;
}

template <class T>
struct SumOf {
  template <int M>
  DIME_DEVICE static uint64_t word(const uint64_t (&contribution)[M], uint32_t ranks, uint32_t, uint32_t) {
    typename T::Acc acc[T::PER_WORD];
#pragma unroll
    for (int i = 0; i < T::PER_WORD; ++i) acc[i] = T::decode(contribution[0], i);
#pragma unroll
    for (int rank = 1; rank < M; ++rank)
      if (rank < ranks) {
#pragma unroll
        for (int i = 0; i < T::PER_WORD; ++i) acc[i] = sum_of(acc[i], T::decode(contribution[rank], i));
      }
    return T::encode(acc);
  }
};

// The steps of operation OP on floats: first() on rank 0's element, next() with each later rank's, last() on
// the total.
template <class T, int OP, bool INTEGER>
struct Step {
  typedef typename T::Acc Acc;
  // The factor by which avg multiplies each contribution: 1 / ranks, rounded to the element type.
  DIME_DEVICE static Acc scale(uint32_t ranks) {
    Acc all[T::PER_WORD];
#pragma unroll
    for (int i = 0; i < T::PER_WORD; ++i) all[i] = Acc(1) / Acc(ranks);
    return T::decode(T::encode(all), 0);
  }
  DIME_DEVICE static Acc first(Acc a, Acc scale) { return OP == DIME_AVG ? product_of(a, scale) : a; }
  DIME_DEVICE static Acc next(Acc a, Acc b, Acc scale) {
    switch (OP) {
      case DIME_SUM: return sum_of(a, b);
      case DIME_PROD: return product_of(a, b);
      case DIME_MAX: return larger_of(a, b);
      case DIME_MIN: return smaller_of(a, b);
      default: return sum_of(a, product_of(b, scale));
    }
  }
  DIME_DEVICE static Acc last(Acc a, uint32_t) { return a; }
};

// The same on integers. avg divides the wrapped sum, towards zero.
template <class T, int OP>
struct Step<T, OP, true> {
  typedef typename T::Acc Acc;
  typedef typename T::Value Value;
  DIME_DEVICE static Acc scale(uint32_t) { return 0; }
  DIME_DEVICE static Acc first(Acc a, Acc) { return a; }
  DIME_DEVICE static Acc next(Acc a, Acc b, Acc) {
    switch (OP) {
      case DIME_PROD: return Acc(a * b);
      case DIME_MAX: return Value(a) < Value(b) ? b : a;
      case DIME_MIN: return Value(b) < Value(a) ? b : a;
      default: return Acc(a + b);
    }
  }
  DIME_DEVICE static Acc last(Acc a, uint32_t ranks) { return OP == DIME_AVG ? Acc(Value(a) / Value(ranks)) : a; }
};

template <class T, int OP, int M>
DIME_DEVICE uint64_t fold_by(const uint64_t (&contribution)[M], uint32_t ranks) {
  typedef Step<T, OP, T::INTEGER> S;
  typename T::Acc acc[T::PER_WORD];
  const typename T::Acc scale = OP == DIME_AVG ? S::scale(ranks) : typename T::Acc(0);
#pragma unroll
  for (int i = 0; i < T::PER_WORD; ++i) acc[i] = S::first(T::decode(contribution[0], i), scale);
#pragma unroll
  for (int rank = 1; rank < M; ++rank)
    if (rank < ranks) {
#pragma unroll
      for (int i = 0; i < T::PER_WORD; ++i) acc[i] = S::next(acc[i], T::decode(contribution[rank], i), scale);
    }
#pragma unroll
  for (int i = 0; i < T::PER_WORD; ++i) acc[i] = S::last(acc[i], ranks);
  return T::encode(acc);
}

// Switches on the operation once a word, not once an element.
template <class T, int M>
DIME_DEVICE uint64_t fold(const uint64_t (&contribution)[M], uint32_t ranks, uint32_t op) {
  switch (op) {
    case DIME_SUM: return fold_by<T, DIME_SUM>(contribution, ranks);
    case DIME_PROD: return fold_by<T, DIME_PROD>(contribution, ranks);
    case DIME_MAX: return fold_by<T, DIME_MAX>(contribution, ranks);
    case DIME_MIN: return fold_by<T, DIME_MIN>(contribution, ranks);
    default: return fold_by<T, DIME_AVG>(contribution, ranks);
  }
}

// f64. A word of 64 ones is one f64 element, and max and min could pass it on unchanged. A sentinel packet
// cannot carry that word and changes it. So every kernel makes the same change here, before and after the
// reduction, and all kernels agree to the bit.
template <int M>
DIME_DEVICE uint64_t fold_float64(const uint64_t (&contribution)[M], uint32_t ranks, uint32_t op) {
  const uint64_t all_ones = ~uint64_t(0);
  uint64_t safe[M];
#pragma unroll
  for (int rank = 0; rank < M; ++rank)
    safe[rank] = contribution[rank] == all_ones ? all_ones >> 1 : contribution[rank];
  uint64_t word = fold<Float64>(safe, ranks, op);
  return word == all_ones ? all_ones >> 1 : word;
}

struct AnyReduction {
  template <int M>
  DIME_DEVICE static uint64_t word(const uint64_t (&contribution)[M], uint32_t ranks, uint32_t type, uint32_t op) {
    switch (type) {
      case DIME_INT8: return fold<Integer<int8_t, uint8_t>>(contribution, ranks, op);
      case DIME_UINT8: return fold<Integer<uint8_t, uint8_t>>(contribution, ranks, op);
      case DIME_INT32: return fold<Integer<int32_t, uint32_t>>(contribution, ranks, op);
      case DIME_UINT32: return fold<Integer<uint32_t, uint32_t>>(contribution, ranks, op);
      case DIME_INT64: return fold<Integer<int64_t, uint64_t>>(contribution, ranks, op);
      case DIME_UINT64: return fold<Integer<uint64_t, uint64_t>>(contribution, ranks, op);
      case DIME_FLOAT16: return fold<Float16>(contribution, ranks, op);
      case DIME_FLOAT32: return fold<Float32>(contribution, ranks, op);
      case DIME_FLOAT64: return fold_float64(contribution, ranks, op);
      case DIME_BFLOAT16: return fold<BFloat16>(contribution, ranks, op);
      case DIME_FLOAT8E4M3: return fold<Float8E4M3>(contribution, ranks, op);
      default: return fold<Float8E5M2>(contribution, ranks, op);
    }
  }
};

// Reduces all words of a packet.
template <class REDUCTION, int W, int M>
DIME_DEVICE Words<W> reduce(const Words<W> (&contribution)[M], uint32_t ranks, uint32_t type, uint32_t op) {
  Words<W> result;
#pragma unroll
  for (int w = 0; w < W; ++w) {
    uint64_t word[M];
#pragma unroll
    for (int rank = 0; rank < M; ++rank) word[rank] = contribution[rank].word[w];
    result.word[w] = REDUCTION::word(word, ranks, type, op);
  }
  return result;
}

}  // namespace dime

#endif
