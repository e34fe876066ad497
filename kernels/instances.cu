// The kernels that libdime.so carries. One function per (algorithm, reduction, rank count):
//
//   dime_<algorithm>_<reduction>_<ranks>
//
// reduction: sum_f16, sum_bf16 and sum_f32 are compiled for themselves, `any` decides type and operation
// at run time. ranks: 2, 4 and 8 are compiled for themselves, `n` is any number up to 8; of `any` there is `n`, and the one-shots
// of 2. The sentinel protocol exists for float types only; the host does not choose it for others.
#include "allreduce/one_shot.h"
#include "allreduce/one_shot_pair.h"
#include "allreduce/two_shot.h"
#include "allreduce/two_shot_bulk.h"
#include <backend/entry.h>
#include "await.h"
#include "setup.h"

// No block takes more than half an SM, whatever kernel it is of: that is what src/route.rs counts on when it says how many blocks
// launches may have. So a thread of a block of 512 has at most 64 registers. The reduction that is decided at run time would spill at
// that, but in the one-shots of two ranks: its other blocks have at most 256 threads, of at most 128 registers.
#define DIME_KERNEL(name, threads, call)                                                                      \
  extern "C" __global__ void __launch_bounds__(threads, 2) name(const __grid_constant__ dime_args args) {     \
    call(args);                                                                                               \
  }                                                                                                           \
  DIME_ENTRY_BOUNDED(name, threads)

#define DIME_ONE_SHOTS(suffix, reduction, ranks, threads)                                                     \
  DIME_KERNEL(dime_one_shot_ll_##suffix, threads, (dime::one_shot<dime::LlPacket, reduction, ranks>))         \
  DIME_KERNEL(dime_one_shot_sentinel_##suffix, threads, (dime::one_shot<dime::SentinelPacket, reduction, ranks>))

#define DIME_ONE_SHOTS_OF_PAIR(suffix, reduction, threads)                                                    \
  DIME_KERNEL(dime_one_shot_ll_##suffix, threads, (dime::one_shot_pair<dime::LlPacket, reduction>))           \
  DIME_KERNEL(dime_one_shot_sentinel_##suffix, threads, (dime::one_shot_pair<dime::SentinelPacket, reduction>))

#define DIME_TWO_SHOTS(suffix, reduction, ranks, threads)                                                     \
  DIME_KERNEL(dime_two_shot_ll_##suffix, threads, (dime::two_shot<dime::LlPacket, reduction, ranks>))         \
  DIME_KERNEL(dime_two_shot_sentinel_##suffix, threads,                                                       \
              (dime::two_shot<dime::SentinelPacket, reduction, ranks>))                                       \
  DIME_KERNEL(dime_two_shot_bulk_##suffix, threads, (dime::two_shot_bulk<reduction, ranks>))

#define DIME_FOR_RANKS(suffix, reduction, ranks, threads)                                                     \
  DIME_ONE_SHOTS(suffix, reduction, ranks, threads)                                                           \
  DIME_TWO_SHOTS(suffix, reduction, ranks, threads)

#define DIME_FOR_SUM(name, type)                                          \
  DIME_ONE_SHOTS_OF_PAIR(sum_##name##_2, dime::SumOf<dime::type>, 512)    \
  DIME_TWO_SHOTS(sum_##name##_2, dime::SumOf<dime::type>, 2, 512)         \
  DIME_FOR_RANKS(sum_##name##_4, dime::SumOf<dime::type>, 4, 512)         \
  DIME_FOR_RANKS(sum_##name##_8, dime::SumOf<dime::type>, 8, 512)         \
  DIME_FOR_RANKS(sum_##name##_n, dime::SumOf<dime::type>, 0, 512)

DIME_FOR_SUM(f16, Float16)
DIME_FOR_SUM(bf16, BFloat16)
DIME_FOR_SUM(f32, Float32)
DIME_ONE_SHOTS_OF_PAIR(any_2, dime::AnyReduction, 512)
DIME_FOR_RANKS(any_n, dime::AnyReduction, 0, 256)
