// The list of the all-reduce kernels. src/kernel/catalogue.rs has the same list for the host, in the same
// order; a unit test of src/kernel/layout.rs compares the two.
//
// DIME_LIST_ONLY leaves the sources of the kernels out. To add a kernel: a line in DIME_KERNELS, its function below, and the include of its file.
#ifndef DIME_KERNELS_CATALOGUE_H
#define DIME_KERNELS_CATALOGUE_H

#if defined(__cplusplus) && !defined(DIME_LIST_ONLY)
#include "allreduce/one_shot.h"
#include "allreduce/one_shot_pair.h"
#include "allreduce/two_shot.h"
#include "allreduce/two_shot_bulk.h"
#endif

// X(name, packet_bytes, exchanges, carries_integers, has_pair_form, ...) for each kernel; what follows X is handed on.
//
//   packet_bytes      of data in a packet
//   exchanges         1: one-shot; 2: two-shot
//   carries_integers  0: float types only
//   has_pair_form     1: two ranks have a form of their own
#define DIME_KERNELS(X, ...)                       \
  X(one_shot_ll, 8, 1, 1, 1, __VA_ARGS__)          \
  X(one_shot_sentinel, 16, 1, 0, 1, __VA_ARGS__)   \
  X(two_shot_ll, 8, 2, 1, 0, __VA_ARGS__)          \
  X(two_shot_sentinel, 16, 2, 0, 0, __VA_ARGS__)   \
  X(two_shot_bulk, 16, 2, 1, 0, __VA_ARGS__)

// The function of each kernel for a reduction and a number of ranks (0: any number), and that of its pair form.
#define DIME_FUNCTION_one_shot_ll(reduction, ranks) dime::one_shot<dime::LlPacket, reduction, ranks>
#define DIME_FUNCTION_one_shot_sentinel(reduction, ranks) dime::one_shot<dime::SentinelPacket, reduction, ranks>
#define DIME_FUNCTION_two_shot_ll(reduction, ranks) dime::two_shot<dime::LlPacket, reduction, ranks>
#define DIME_FUNCTION_two_shot_sentinel(reduction, ranks) dime::two_shot<dime::SentinelPacket, reduction, ranks>
#define DIME_FUNCTION_two_shot_bulk(reduction, ranks) dime::two_shot_bulk<reduction, ranks>
#define DIME_PAIR_one_shot_ll(reduction) dime::one_shot_pair<dime::LlPacket, reduction>
#define DIME_PAIR_one_shot_sentinel(reduction) dime::one_shot_pair<dime::SentinelPacket, reduction>

// Instances: DIME_KERNEL(name, threads, call) makes one function; who includes this file defines it.
//
// All kernels for a number of ranks.
#define DIME_FOR_RANKS(suffix, reduction, ranks, threads) DIME_KERNELS(DIME_ONE_FOR_RANKS, suffix, reduction, ranks, threads)
#define DIME_ONE_FOR_RANKS(name, packet_bytes, exchanges, carries_integers, has_pair_form, suffix, reduction, ranks, threads) \
  DIME_KERNEL(dime_##name##_##suffix, threads, (DIME_FUNCTION_##name(reduction, ranks)))

// All kernels for two ranks, those that have a pair form in that form.
#define DIME_FOR_TWO(suffix, reduction, threads) DIME_KERNELS(DIME_ONE_FOR_TWO, suffix, reduction, threads)
#define DIME_ONE_FOR_TWO(name, packet_bytes, exchanges, carries_integers, has_pair_form, suffix, reduction, threads) \
  DIME_FOR_TWO_##has_pair_form(name, suffix, reduction, threads)
#define DIME_FOR_TWO_1(name, suffix, reduction, threads) \
  DIME_KERNEL(dime_##name##_##suffix, threads, (DIME_PAIR_##name(reduction)))
#define DIME_FOR_TWO_0(name, suffix, reduction, threads) \
  DIME_KERNEL(dime_##name##_##suffix, threads, (DIME_FUNCTION_##name(reduction, 2)))

// The pair forms alone.
#define DIME_FOR_PAIRS(suffix, reduction, threads) DIME_KERNELS(DIME_ONE_FOR_PAIRS, suffix, reduction, threads)
#define DIME_ONE_FOR_PAIRS(name, packet_bytes, exchanges, carries_integers, has_pair_form, suffix, reduction, threads) \
  DIME_FOR_PAIRS_##has_pair_form(name, suffix, reduction, threads)
#define DIME_FOR_PAIRS_1 DIME_FOR_TWO_1
#define DIME_FOR_PAIRS_0(name, suffix, reduction, threads)

#endif
