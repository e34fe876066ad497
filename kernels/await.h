// Waits until the launches of a lane are over: for an operation on another stream than the one before.
//
// Who writes, who reads: the epoch words are written by the blocks of the launch before, each at its end; here each is polled until
// it holds the epoch that comes after that launch. Several launches may run before: the words pass their epochs and stop at
// ours, since the next launch of the lane is enqueued behind this kernel.
//
// Order: the word of a block says that all its threads are done, not in the letter of the model that their accesses are. What the next
// launch must not meet is a slot that is not cleaned yet, and the next launch but one is the first that uses the
// same slots; that one is behind the end of the next, like everywhere else (device/packet.h).
#ifndef DIME_KERNELS_AWAIT_H
#define DIME_KERNELS_AWAIT_H

#include "layout.h"
#include "device/entry.h"
#include "device/grid.h"
#include "device/ordered.h"
#include "device/spin.h"

// One block. Also ends when the communicator is aborted.
extern "C" __global__ void dime_await_epoch(uint64_t inbox, uint32_t epoch, uint64_t abort_word) {
  using namespace dime;
  Patience patience(abort_word);
  for (uint32_t word = thread_index(); word < DIME_MAX_BLOCKS; word += block_threads())
    while (load_relaxed_sys_u32(inbox + DIME_EPOCH_OFFSET + 4u * word) != epoch && patience.again()) {
    }
}
DIME_ENTRY(dime_await_epoch)

#endif
