#include "numbers.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

namespace sim {

namespace {

// Elements are folded in portions of this many, which stay in the cache.
constexpr size_t PORTION_ELEMS = 512;

template <class T>
T load(const void *address) {
  T value;
  memcpy(&value, address, sizeof value);
  return value;
}

template <class T>
void store(void *address, T value) {
  memcpy(address, &value, sizeof value);
}

// A type of elements: how one lies in memory, and in what it is accumulated.
template <class VALUE>
struct Integer {
  typedef VALUE Value;
  typedef std::make_unsigned_t<VALUE> Acc;
  static constexpr size_t BYTES = sizeof(VALUE);
  static Acc decode(const char *address) { return load<Acc>(address); }
  static void encode(char *address, Acc acc) { store(address, acc); }
};

template <class FLOAT>
struct Native {
  typedef FLOAT Acc;
  static constexpr size_t BYTES = sizeof(FLOAT);
  static Acc decode(const char *address) { return load<FLOAT>(address); }
  static void encode(char *address, Acc acc) { store(address, acc); }
};

struct Float16 {
  typedef float Acc;
  static constexpr size_t BYTES = 2;
  static Acc decode(const char *address) { return __half2float(load<__half>(address)); }
  static void encode(char *address, Acc acc) { store(address, __float2half_rn(acc)); }
};

struct BFloat16 {
  typedef float Acc;
  static constexpr size_t BYTES = 2;
  static Acc decode(const char *address) { return __bfloat162float(load<__nv_bfloat16>(address)); }
  static void encode(char *address, Acc acc) { store(address, __float2bfloat16_rn(acc)); }
};

template <__nv_fp8_interpretation_t KIND>
struct Float8 {
  typedef float Acc;
  static constexpr size_t BYTES = 1;
  static Acc decode(const char *address) {
    static const std::array<float, 256> values = [] {
      std::array<float, 256> all;
      for (int bits = 0; bits < 256; ++bits)
        all[bits] = __half2float(__half(__nv_cvt_fp8_to_halfraw(__nv_fp8_storage_t(bits), KIND)));
      return all;
    }();
    return values[uint8_t(*address)];
  }
  static void encode(char *address, Acc acc) { store(address, __nv_cvt_float_to_fp8(acc, __NV_SATFINITE, KIND)); }
};

template <class Number>
constexpr bool IS_INTEGER = std::is_integral_v<typename Number::Acc>;

template <class Number, Reduction::Combine COMBINE>
typename Number::Acc combine(typename Number::Acc a, typename Number::Acc b) {
  typedef typename Number::Acc Acc;
  if constexpr (COMBINE == Reduction::Combine::SUM) return Acc(a + b);
  if constexpr (COMBINE == Reduction::Combine::PROD) return Acc(a * b);
  constexpr bool MAX = COMBINE == Reduction::Combine::MAX;
  if constexpr (IS_INTEGER<Number>) {
    typedef typename Number::Value Value;
    return (Value(a) > Value(b)) == MAX ? a : b;
  } else {
    if (std::isnan(a)) return b;
    if (std::isnan(b)) return a;
    if (a == b) return std::signbit(a) == MAX ? b : a;
    return (a > b) == MAX ? a : b;
  }
}

// 1/n in the type.
template <class Number>
typename Number::Acc inverse(int ranks) {
  typedef typename Number::Acc Acc;
  char rounded[sizeof(Acc)];
  Number::encode(rounded, Acc(1) / Acc(ranks));
  return Number::decode(rounded);
}

template <class Number, Reduction::Combine COMBINE>
void fold(bool is_average, const char *const *inputs, int ranks, char *output, size_t elems) {
  typedef typename Number::Acc Acc;
  const bool multiplies = is_average && !IS_INTEGER<Number>;
  const Acc factor = multiplies ? inverse<Number>(ranks) : Acc(1);
  Acc accs[PORTION_ELEMS];
  for (size_t first = 0; first < elems; first += PORTION_ELEMS) {
    const size_t portion = std::min(PORTION_ELEMS, elems - first);
    for (int rank = 0; rank < ranks; ++rank) {
      const char *input = inputs[rank] + first * Number::BYTES;
      for (size_t i = 0; i < portion; ++i) {
        Acc value = Number::decode(input + i * Number::BYTES);
        if (multiplies) value = Acc(value * factor);
        accs[i] = rank == 0 ? value : combine<Number, COMBINE>(accs[i], value);
      }
    }
    if constexpr (IS_INTEGER<Number>) {
      typedef typename Number::Value Value;
      if (is_average)
        for (size_t i = 0; i < portion; ++i) accs[i] = Acc(Value(accs[i]) / Value(ranks));
    }
    for (size_t i = 0; i < portion; ++i) Number::encode(output + (first + i) * Number::BYTES, accs[i]);
  }
}

template <class Number>
void reduce_as(const Reduction &reduction, const char *const *inputs, int ranks, char *output, size_t elems) {
  typedef Reduction::Combine Combine;
  const bool is_average = reduction.is_average;
  switch (reduction.combine) {
    case Combine::SUM: return fold<Number, Combine::SUM>(is_average, inputs, ranks, output, elems);
    case Combine::PROD: return fold<Number, Combine::PROD>(is_average, inputs, ranks, output, elems);
    case Combine::MAX: return fold<Number, Combine::MAX>(is_average, inputs, ranks, output, elems);
    case Combine::MIN: return fold<Number, Combine::MIN>(is_average, inputs, ranks, output, elems);
  }
}

template <class Number>
void multiply_as(const void *factor, const void *input, void *output, size_t elems) {
  typedef typename Number::Acc Acc;
  const Acc by = Number::decode(static_cast<const char *>(factor));
  const char *from = static_cast<const char *>(input);
  char *to = static_cast<char *>(output);
  for (size_t i = 0; i < elems * Number::BYTES; i += Number::BYTES)
    Number::encode(to + i, Acc(Number::decode(from + i) * by));
}

struct Type {
  const char *name;
  size_t bytes;
  void (*reduce)(const Reduction &, const char *const *, int, char *, size_t);
  void (*multiply)(const void *, const void *, void *, size_t);
};

template <class Number>
constexpr Type describe(const char *name) {
  return {name, Number::BYTES, reduce_as<Number>, multiply_as<Number>};
}

// By ncclDataType_t.
constexpr Type TYPES[] = {
    describe<Integer<int8_t>>("int8"),      describe<Integer<uint8_t>>("uint8"),
    describe<Integer<int32_t>>("int32"),    describe<Integer<uint32_t>>("uint32"),
    describe<Integer<int64_t>>("int64"),    describe<Integer<uint64_t>>("uint64"),
    describe<Float16>("float16"),           describe<Native<float>>("float32"),
    describe<Native<double>>("float64"),    describe<BFloat16>("bfloat16"),
    describe<Float8<__NV_E4M3>>("float8e4m3"), describe<Float8<__NV_E5M2>>("float8e5m2"),
};
static_assert(std::size(TYPES) == ncclNumTypes);

}  // namespace

size_t bytes_of(ncclDataType_t type) { return TYPES[type].bytes; }

const char *name_of(ncclDataType_t type) { return TYPES[type].name; }

void reduce(ncclDataType_t type, const Reduction &reduction, const char *const *inputs, int ranks, char *output,
            size_t elems) {
  TYPES[type].reduce(reduction, inputs, ranks, output, elems);
}

void multiply(ncclDataType_t type, const void *factor, const void *input, void *output, size_t elems) {
  TYPES[type].multiply(factor, input, output, elems);
}

}  // namespace sim
