// The all-reduce kernels of libdime.so, one function for each algorithm, reduction and number of ranks; and
// the kernels of await.h and setup.h.
//
//   dime_<algorithm>_<reduction>_<ranks>
//
//   reduction  sum_f16, sum_bf16 and sum_f32 are compiled for that type; `any` decides type and operation at
//              run time
//   ranks      2, 4 and 8 are compiled for that number; `n` is any number up to 8. `any` has `n` and, for the
//              one-shots, 2
//
// The sentinel protocol works for float types only; the host does not choose it for others.
#include <backend/entry.h>
#include "await.h"
#include "catalogue.h"
#include "setup.h"

// A block of any kernel takes at most half an SM: src/route/geometry.rs relies on that when it bounds the
// blocks of a launch. So a thread has at most 64 registers in blocks of 512 threads. With 64 registers the
// reduction that is decided at run time spills, except in the one-shots of two ranks. So its other kernels
// have at most 256 threads a block and 128 registers a thread.
#define DIME_KERNEL(name, threads, call)                                                                      \
  extern "C" __global__ void __launch_bounds__(threads, 2) name(const __grid_constant__ dime_args args) {     \
    call(args);                                                                                               \
  }                                                                                                           \
  DIME_ENTRY_BOUNDED(name, threads)

#define DIME_FOR_SUM(name, type)                                       \
  DIME_FOR_TWO(sum_##name##_2, dime::SumOf<dime::type>, 512)           \
  DIME_FOR_RANKS(sum_##name##_4, dime::SumOf<dime::type>, 4, 512)      \
  DIME_FOR_RANKS(sum_##name##_8, dime::SumOf<dime::type>, 8, 512)      \
  DIME_FOR_RANKS(sum_##name##_n, dime::SumOf<dime::type>, 0, 512)

DIME_FOR_SUM(f16, Float16)
DIME_FOR_SUM(bf16, BFloat16)
DIME_FOR_SUM(f32, Float32)
DIME_FOR_PAIRS(any_2, dime::AnyReduction, 512)
DIME_FOR_RANKS(any_n, dime::AnyReduction, 0, 256)
