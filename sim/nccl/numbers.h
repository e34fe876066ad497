// The element types and what reductions do with them: NCCL's rules, contributions folded in rank order.
//
// Floats of 16 bits and fewer accumulate in f32 and are rounded once, to nearest even (fp8 saturates). f32 and f64
// stay in their own precision. Integers wrap. An average multiplies each float by 1/n rounded to the type, and
// divides the sum of integers towards zero. In minimum and maximum a NaN loses and -0 is less than +0.
#ifndef DIME_SIM_NCCL_NUMBERS_H
#define DIME_SIM_NCCL_NUMBERS_H

#include <nccl.h>

#include <cstddef>
#include <cstdint>

namespace sim {

// Of one element; the type must be valid.
size_t bytes_of(ncclDataType_t type);
const char *name_of(ncclDataType_t type);

struct Reduction {
  enum class Combine : uint8_t { SUM, PROD, MAX, MIN };
  Combine combine = Combine::SUM;
  bool is_average = false;
};

// Reduces `elems` elements of each of the `ranks` inputs. An input may be the output. No alignment is needed.
void reduce(ncclDataType_t type, const Reduction &reduction, const char *const *inputs, int ranks, char *output,
            size_t elems);

// Multiplies elements by one, and rounds each product to the type.
void multiply(ncclDataType_t type, const void *factor, const void *input, void *output, size_t elems);

}  // namespace sim

#endif
