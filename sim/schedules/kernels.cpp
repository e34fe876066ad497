// The kernels that the random schedules run: the f32 sum for 2, 4 and any number of ranks, and the reduction
// that is decided at run time. libcuda.so.1 of the simulated node has all of kernels/instances.cu.
#include <backend/entry.h>
#include <kernels/catalogue.h>

#define DIME_KERNEL(name, threads, call) \
  void name(const dime_args args) { call(args); } \
  DIME_ENTRY(name)

DIME_FOR_TWO(sum_f32_2, dime::SumOf<dime::Float32>, 512)
DIME_FOR_RANKS(sum_f32_4, dime::SumOf<dime::Float32>, 4, 512)
DIME_FOR_RANKS(sum_f32_n, dime::SumOf<dime::Float32>, 0, 512)
DIME_FOR_PAIRS(any_2, dime::AnyReduction, 512)
DIME_FOR_RANKS(any_n, dime::AnyReduction, 0, 512)
