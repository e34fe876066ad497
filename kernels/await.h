// Waits until the count of blocks of a lane has reached a ticket. The host enqueues it before an eager launch
// when earlier launches of the lane are on another stream.
//
// Why not let the launch itself wait for its ticket: a launch that waits occupies its whole grid, and other
// work may need those SMs before the awaited launches can run. This kernel occupies one warp.
//
// Who writes, who reads: each block of the earlier launches adds one to the count as its last act
// (device/epoch.h); this kernel polls it. The count stays at the expected value while this kernel polls,
// since the lane's next launch is enqueued behind this kernel.
//
// Order: the adds are releases, the poll an acquire. The next launch begins after this kernel has ended, so
// it sees what the counted blocks did.
#ifndef DIME_KERNELS_AWAIT_H
#define DIME_KERNELS_AWAIT_H

#include "layout.h"
#include <backend/entry.h>
#include "device/epoch.h"
#include "device/ordered.h"
#include "device/spin.h"

// Launched with one warp. Ends without the count when the communicator is aborted.
extern "C" __global__ void dime_await_blocks(uint64_t inbox, uint32_t blocks_before, uint64_t mailbox) {
  using namespace dime;
  SpinGuard guard(mailbox);
  do {
    while (!is_count_at(count_of(load_acquire_gpu_u64(inbox + DIME_COUNT_OFFSET)), blocks_before) && guard.keep_spinning()) {
    }
  } while (guard.takes_report_request());
}
DIME_ENTRY(dime_await_blocks)

#endif
