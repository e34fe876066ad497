// Waits until the launches of a lane are over: for an operation on another stream than the one before.
//
// Who writes, who reads: the epoch words are written by the blocks of the launch before, each at its end; here each is polled until
// it holds the epoch that comes after that launch. Several launches may run before: the words pass their epochs and stop at
// ours, since the next launch of the lane is enqueued behind this kernel.
//
// Order: as for a launch that waits for the words itself (device/epoch.h). This kernel takes a block where that would take the whole
// grid of the operation, which other work may need before the launches that are awaited can run.
#ifndef DIME_KERNELS_AWAIT_H
#define DIME_KERNELS_AWAIT_H

#include "layout.h"
#include "device/entry.h"
#include "device/grid.h"
#include "device/ordered.h"
#include "device/spin.h"

// One block. Also ends when the communicator is aborted.
extern "C" __global__ void dime_await_epoch(uint64_t inbox, uint32_t epoch, uint64_t watch) {
  using namespace dime;
  Patience patience(watch);
  for (uint32_t word = thread_index(); word < DIME_MAX_BLOCKS; word += block_threads())
    while (load_relaxed_sys_u32(inbox + DIME_EPOCH_OFFSET + 4u * word) != epoch && patience.again()) {
    }
}
DIME_ENTRY(dime_await_epoch)

#endif
