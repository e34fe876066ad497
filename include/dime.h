/* SPDX-License-Identifier: MIT OR Apache-2.0
 * Written by tools/headers: do not edit. */
/* What libdime.so says about itself, and what it has beside NCCL's functions. A program that also runs with the plain NCCL looks these up with dlsym. */

#ifndef DIME_H
#define DIME_H

#include "nccl.h"



#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Version of this library, such as "0.1.0". A static text.
 *
 * NCCL has no such function: its presence tells that this library answers.
 */
const char *dimeVersion(void);

/**
 * Version of this library as a number: major * 10000 + minor * 100 + patch.
 */
int dimeVersionNumber(void);

/**
 * Says what an all-reduce of this shape does on this communicator, in a line that begins with one of
 *
 * - "fast: KERNEL with up to N blocks of M threads", and ", by line L of the tuning file FILE" if one decides
 * - "forward: REASON"
 * - "undecided: the first all-reduce sets the communicator up"
 * - "failed: an earlier operation failed; abort the communicator"
 * - "suspended: all-reduces are refused until it is resumed"
 *
 * Writes one line without a line break to `text`, cut to `text_bytes` bytes with the final zero. Returns
 * ncclInvalidArgument when `comm` or `text` is NULL or `text_bytes` is 0.
 */
ncclResult_t dimeExplain(ncclComm_t comm,
                         size_t count,
                         ncclDataType_t datatype,
                         ncclRedOp_t op,
                         char *text,
                         size_t text_bytes);

/**
 * Gives back this library's memory of an idle communicator, 64 MiB on each rank's GPU, and leaves NCCL's alone: for NCCL
 * before 2.29.7, whose ncclCommSuspend does it for both.
 *
 * All ranks call it. No operation of the communicator may be under way or begin meanwhile, replays of graphs included; the
 * call waits for the whole device. Until dimeCommResume, all-reduces on the communicator return ncclInvalidUsage; other
 * operations go on. Graphs stay valid, but must not be launched before that.
 *
 * Returns ncclInvalidUsage when it is suspended already, when its all-reduces do not end within 10 s, and inside a group;
 * ncclInvalidArgument when `comm` is NULL. A communicator that has no memory of this library is left as it is.
 */
ncclResult_t dimeCommSuspend(ncclComm_t comm);

/**
 * Takes back what dimeCommSuspend gave up. All ranks call it, and it waits for them.
 *
 * If a rank cannot have its memory again, the call fails on all ranks, and the communicator must be aborted: operations
 * and ncclCommGetAsyncError fail too. A communicator that is not suspended is left as it is.
 */
ncclResult_t dimeCommResume(ncclComm_t comm);

/**
 * Name of a counter of this process; NULL past the last. Counters are numbered from 0. A static text.
 *
 * There is one for each kernel, which counts the all-reduces that it did, and one for each reason to forward.
 */
const char *dimeCounterName(int index);

/**
 * Value of a counter of this process; 0 past the last. A child of fork begins with zeros.
 */
uint64_t dimeCounterValue(int index);

/**
 * Absolute path of the NCCL library behind this one. NULL when none was found, or none was needed yet. Lives for good.
 */
const char *dimeRealLibrary(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DIME_H */


