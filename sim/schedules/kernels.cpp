// The kernels that the random schedules run: the f32 sum for 2, 4 and any number of ranks, and the reduction
// that is decided at run time. libcuda.so.1 of the simulated node has all of kernels/instances.cu.
#include <kernels/allreduce/one_shot.h>
#include <kernels/allreduce/one_shot_pair.h>
#include <kernels/allreduce/two_shot.h>
#include <kernels/allreduce/two_shot_bulk.h>
#include <backend/entry.h>

#define KERNEL(name, call) \
  void name(const dime_args args) { call(args); } \
  DIME_ENTRY(name)

#define TWO_SHOTS_FOR(suffix, reduction, ranks)                                                          \
  KERNEL(two_shot_ll_##suffix, (dime::two_shot<dime::LlPacket, reduction, ranks>))                       \
  KERNEL(two_shot_sentinel_##suffix, (dime::two_shot<dime::SentinelPacket, reduction, ranks>))           \
  KERNEL(two_shot_bulk_##suffix, (dime::two_shot_bulk<reduction, ranks>))

#define KERNELS_FOR(suffix, reduction, ranks)                                                            \
  KERNEL(one_shot_ll_##suffix, (dime::one_shot<dime::LlPacket, reduction, ranks>))                       \
  KERNEL(one_shot_sentinel_##suffix, (dime::one_shot<dime::SentinelPacket, reduction, ranks>))           \
  TWO_SHOTS_FOR(suffix, reduction, ranks)

#define ONE_SHOTS_OF_PAIR(suffix, reduction)                                            \
  KERNEL(one_shot_ll_##suffix, (dime::one_shot_pair<dime::LlPacket, reduction>))        \
  KERNEL(one_shot_sentinel_##suffix, (dime::one_shot_pair<dime::SentinelPacket, reduction>))

ONE_SHOTS_OF_PAIR(sum_f32_2, dime::SumOf<dime::Float32>)
ONE_SHOTS_OF_PAIR(any_2, dime::AnyReduction)
TWO_SHOTS_FOR(sum_f32_2, dime::SumOf<dime::Float32>, 2)
KERNELS_FOR(sum_f32_4, dime::SumOf<dime::Float32>, 4)
KERNELS_FOR(sum_f32_n, dime::SumOf<dime::Float32>, 0)
KERNELS_FOR(any_n, dime::AnyReduction, 0)
