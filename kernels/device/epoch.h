// The epoch: which launch of a lane this is, kept on the device so that a captured graph can replay.
//
// Each block has a word of its own. Who writes, who reads: block b reads word b at its start; at its
// end, after a block barrier, it writes the next epoch to the words b, b + grid, b + 2 grid, ... so that
// all DIME_MAX_BLOCKS words advance in every launch whatever its grid. Word b is thus written by one
// block only, and read by one block of the next launch; the end of a launch orders the two. When all
// words have advanced, all threads of the launch are done with scratch: the host waits for that
// before it gives scratch back.
//
// An ll word is current when its epoch equals the launch's. Epochs count 1, 2, ..., 2^32 - 1 and go
// on with 2: 0 is what cleared memory holds, and from an odd epoch the next must be even, for the
// parity. A word written at epoch e and never again would look current 2^32 - 2 launches later. To
// rule that out, in the first two epochs of every DIME_CLEAR_PERIOD block 0 clears a slice of the
// ll slots and bulk flags of its own inbox, in the parity that is *not* in use. That parity is quiet just then:
// what came for epoch e - 1 was consumed before this launch began, and a peer writes for e + 1 only
// after it has heard from us in epoch e, which block 0 delays until its slice is cleared and fenced.
// 2^32 / 4096 slices of 32 words cover the 253952 words of a parity more than a hundred times.
#ifndef DIME_KERNELS_DEVICE_EPOCH_H
#define DIME_KERNELS_DEVICE_EPOCH_H

#include "../layout.h"
#include "grid.h"
#include "ordered.h"

namespace dime {

DIME_DEVICE uint32_t epoch_after(uint32_t epoch) { return epoch == 0xffffffffu ? 2u : epoch + 1u; }

DIME_DEVICE uint64_t parity_offset(uint32_t epoch) { return uint64_t(epoch & 1u) * DIME_PARITY_BYTES; }

DIME_DEVICE uint32_t read_epoch(uint64_t own_inbox) {
  return load_plain<uint32_t>(own_inbox + DIME_EPOCH_OFFSET + 4u * block_index());
}

// The last thing a block does.
DIME_DEVICE void advance_epoch(uint64_t own_inbox, uint32_t epoch) {
  block_barrier();
  const uint32_t step = block_threads() * grid_blocks();
  for (uint32_t word = block_index() + thread_index() * grid_blocks(); word < DIME_MAX_BLOCKS; word += step)
    store_plain(own_inbox + DIME_EPOCH_OFFSET + 4u * word, epoch_after(epoch));
}

// Call before the block sends anything. A block has at least 32 threads.
DIME_DEVICE void clear_stale_slice(uint64_t own_inbox, uint32_t epoch) {
  if ((epoch & (DIME_CLEAR_PERIOD - 1u)) > 1u || block_index() != 0) return;
  const uint32_t words = (DIME_LL_BYTES + DIME_FLAG_BYTES) / 8u;  // the flags follow the ll slots
  if (thread_index() < 32u) {
    uint32_t word = (epoch / DIME_CLEAR_PERIOD * 32u + thread_index()) % words;
    uint64_t slots = own_inbox + parity_offset(epoch + 1u) + DIME_LL_OFFSET;
    store_plain<uint64_t>(slots + 8u * word, 0);
  }
  block_barrier();
  fence_acq_rel_sys();
}

}  // namespace dime

#endif
