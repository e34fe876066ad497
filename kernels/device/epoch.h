// The epoch: which launch of a lane this is, kept on the device so that a captured graph can replay.
//
// Each block has a word of its own. Who writes, who reads: block b reads word b at its start; at its
// end, after a block barrier, it writes the next epoch to the words b, b + grid, b + 2 grid, ... so that
// all DIME_MAX_BLOCKS words advance in every launch whatever its grid. Word b is thus written by one
// block only, and read by one block of the next launch; the end of a launch orders the two. When all
// words have advanced, all threads of the launch are done with scratch: the host waits for that
// before it gives scratch back. Relaxed, system scope, since the host and launches on other streams look
// at the words while they change.
//
// Outside of graphs the host knows the epoch and passes it. Such a launch waits until all words have come to it:
// it may have come to another stream than the launch before without either stream knowing of the other. In
// that case the words say that every thread of the launch before is done, not in the letter of the model that its
// accesses are; what this launch could meet of them is a slot that is not cleaned yet, and the slots it uses
// were cleaned by the launch before that one. (A launch in order finds all words as they should be at once.)
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
#include "spin.h"

namespace dime {

DIME_DEVICE uint32_t epoch_after(uint32_t epoch) { return epoch == 0xffffffffu ? 2u : epoch + 1u; }

DIME_DEVICE uint64_t parity_offset(uint32_t epoch) { return uint64_t(epoch & 1u) * DIME_PARITY_BYTES; }

// Whether a word says that the launches before `epoch` are over. A block of this launch that is done has moved it on already.
DIME_DEVICE bool has_come(uint32_t word, uint32_t epoch) { return word == epoch || word == epoch_after(epoch); }

// The epoch of this launch, once the launch before it is over; 0 when the communicator was aborted before that.
DIME_DEVICE uint32_t begin_epoch(const dime_args &args, Patience &patience) {
  const uint64_t words = args.inbox[args.rank] + DIME_EPOCH_OFFSET;
  if (args.epoch == 0) return load_relaxed_sys_u32(words + 4u * block_index());
  bool stopped = false;
  for (uint32_t word = thread_index(); word < DIME_MAX_BLOCKS; word += block_threads())
    while (!stopped && !has_come(load_relaxed_sys_u32(words + 4u * word), args.epoch)) stopped = !patience.again();
  return block_any(stopped) ? 0u : args.epoch;
}

// The last thing a block does.
DIME_DEVICE void advance_epoch(uint64_t own_inbox, uint32_t epoch) {
  block_barrier();
  const uint32_t step = block_threads() * grid_blocks();
  for (uint32_t word = block_index() + thread_index() * grid_blocks(); word < DIME_MAX_BLOCKS; word += step)
    store_relaxed_sys_u32(own_inbox + DIME_EPOCH_OFFSET + 4u * word, epoch_after(epoch));
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
