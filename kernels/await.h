// Waits until the launches of a lane are over: for an operation on another stream than the one before.
//
// Who writes, who reads: the count of the lane, to which every block of the launches before adds one at its end (device/epoch.h). It
// stops at what the host expects, since the next launch of the lane is enqueued behind this kernel.
//
// Order: the next launch begins behind the end of this one, which saw adds that release what their blocks did. It would wait for its
// turn by itself; this kernel takes a warp for that where it would take its whole grid, which other work may need before the launches
// that are awaited can run.
#ifndef DIME_KERNELS_AWAIT_H
#define DIME_KERNELS_AWAIT_H

#include "layout.h"
#include <backend/entry.h>
#include "device/epoch.h"
#include "device/ordered.h"
#include "device/spin.h"

// One warp. Also ends when the communicator is aborted.
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
