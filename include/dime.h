/* SPDX-License-Identifier: MIT OR Apache-2.0
 * Written by tools/headers: do not edit. */
/* What libdime.so says about itself. A program that also runs with the plain NCCL looks these up with dlsym. */

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


