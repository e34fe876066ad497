// The kernels that libdime.so carries. One function per (algorithm, reduction, rank count):
//
//   dime_<algorithm>_<reduction>_<ranks>
//
// reduction: sum_f16, sum_bf16 and sum_f32 are compiled for themselves, `any` decides type and operation
// at run time. ranks: 2, 4 and 8 are compiled for themselves, `n` is any number up to 8. The sentinel
// protocol exists for float types only; the host does not choose it for others.
#include "allreduce/one_shot.h"
#include "allreduce/two_shot.h"
#include "allreduce/two_shot_bulk.h"
#include "device/entry.h"
#include "await.h"
#include "setup.h"

// `resident` is how many blocks of DIME_MAX_THREADS threads an SM must hold. Two, so that the next launch can take its place
// while this one runs, caps a thread at 64 registers; the reduction that is decided at run time would spill at that.
#define DIME_KERNEL(name, resident, call)                                                                     \
  extern "C" __global__ void __launch_bounds__(DIME_MAX_THREADS, resident)                                    \
      name(const __grid_constant__ dime_args args) {                                                          \
    call(args);                                                                                               \
  }                                                                                                           \
  DIME_ENTRY_BOUNDED(name, resident)

#define DIME_FOR_RANKS(suffix, reduction, ranks, resident)                                                    \
  DIME_KERNEL(dime_one_shot_ll_##suffix, resident, (dime::one_shot<dime::LlPacket, reduction, ranks>))        \
  DIME_KERNEL(dime_one_shot_sentinel_##suffix, resident,                                                      \
              (dime::one_shot<dime::SentinelPacket, reduction, ranks>))                                       \
  DIME_KERNEL(dime_two_shot_ll_##suffix, resident, (dime::two_shot<dime::LlPacket, reduction, ranks>))        \
  DIME_KERNEL(dime_two_shot_sentinel_##suffix, resident,                                                      \
              (dime::two_shot<dime::SentinelPacket, reduction, ranks>))                                       \
  DIME_KERNEL(dime_two_shot_bulk_##suffix, resident, (dime::two_shot_bulk<reduction, ranks>))

#define DIME_FOR_SUM(name, type)                                \
  DIME_FOR_RANKS(sum_##name##_2, dime::SumOf<dime::type>, 2, 2) \
  DIME_FOR_RANKS(sum_##name##_4, dime::SumOf<dime::type>, 4, 2) \
  DIME_FOR_RANKS(sum_##name##_8, dime::SumOf<dime::type>, 8, 2) \
  DIME_FOR_RANKS(sum_##name##_n, dime::SumOf<dime::type>, 0, 2)

DIME_FOR_SUM(f16, Float16)
DIME_FOR_SUM(bf16, BFloat16)
DIME_FOR_SUM(f32, Float32)
DIME_FOR_RANKS(any_n, dime::AnyReduction, 0, 1)
