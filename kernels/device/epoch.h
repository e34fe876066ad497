// The epoch: which launch of a lane this is; and the launch's turn, which is when the one before it is over.
//
// Eager launches are counted by the host. It passes the epoch, and how many blocks were launched in the lane before this launch.
// Every block ends by adding one to a count of the lane that only its owner's launches touch; a launch has its turn when the
// count has come to what the host said. In a stream it has at once. It must look all the same: the launch may be in another
// stream than the one before without anybody knowing, when a stream was destroyed and another one has its handle now. The host looks
// at the count, too, before it gives scratch back. The count wraps around with 2^32.
//
// A graph is replayed with the arguments it was captured with, so its launches count on the device. Who writes, who reads: the threads of
// block b read word b at its start; after a block barrier behind that it writes the next epoch to the words b, b + grid, b + 2 grid, ...
// so that all DIME_MAX_BLOCKS words advance in every captured launch whatever its grid. Word b is thus written by one block only, and read by one
// block of the next launch; the end of a launch orders the two.
//
// Order: blocks release with their add what they did, and a launch acquires the count before it does anything: so it sees all that the
// launch before it did, its result included, whatever streams the two are in.
//
// An ll word is current when its epoch equals the launch's. Epochs count 1, 2, ..., 2^32 - 1 and go
// on with 2: 0 is what cleared memory holds, and from an odd epoch the next must be even, for the
// parity. A word written at epoch e and never again would look current 2^32 - 2 launches later. To
// rule that out, in the first two epochs of every DIME_CLEAR_PERIOD block 0 clears a slice of the
// ll slots and bulk flags of its own inbox, in the parity that is *not* in use. That parity is quiet just then:
// what came for epoch e - 1 was consumed before this launch's turn, and a peer writes for e + 1 only
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

DIME_DEVICE bool is_count_at(uint32_t count, uint32_t expected) { return int32_t(count - expected) >= 0; }

class Turn {
 public:
  DIME_DEVICE Turn(const dime_args &args, uint64_t own_inbox) : args_(args), own_inbox_(own_inbox) {}

  // Waits for it, and then lets the next launch of the stream in, when the host wants that: so of those behind a launch that has to
  // wait, none waits inside. False: the communicator was aborted before, and this thread must end.
  DIME_DEVICE bool await(Patience &patience) const {
    if (is_eager())
      while (!is_count_at(load_acquire_gpu_u32(own_inbox_ + DIME_COUNT_OFFSET), args_.blocks_before))
        if (!patience.again() && !patience.is_asked()) return false;
    if (args_.hand_over) let_next_in();
    return true;
  }

  // The epoch, in two steps once the launch has its turn: the word of the block, and what it means. What is loaded between the two
  // is under way at the same time.
  DIME_DEVICE uint32_t word() const {
    return load_plain<uint32_t>(own_inbox_ + DIME_EPOCH_OFFSET + 4u * block_index());
  }
  DIME_DEVICE uint32_t epoch(uint32_t word) const { return is_eager() ? args_.epoch : word; }
  DIME_DEVICE uint32_t epoch() const { return is_eager() ? args_.epoch : word(); }

  // Counts the launch, in a graph, behind a block barrier.
  DIME_DEVICE void advance(uint32_t epoch) const {
    if (is_eager()) return;
    const uint32_t step = block_threads() * grid_blocks();
    for (uint32_t word = block_index() + thread_index() * grid_blocks(); word < DIME_MAX_BLOCKS; word += step)
      store_plain(own_inbox_ + DIME_EPOCH_OFFSET + 4u * word, epoch_after(epoch));
  }

  // The last thing a block does. One barrier serves both.
  DIME_DEVICE void end_and_advance(uint32_t epoch) const {
    block_barrier();
    advance(epoch);
    if (is_eager() && thread_index() == 0) add_release_u32(own_inbox_ + DIME_COUNT_OFFSET, 1u);
  }

  // The last thing a block does that has called advance(). Its barrier is for the count; in a graph, where advance() comes earlier, there is none.
  DIME_DEVICE void end() const {
    if (!is_eager()) return;
    block_barrier();
    if (thread_index() == 0) add_release_u32(own_inbox_ + DIME_COUNT_OFFSET, 1u);
  }

 private:
  DIME_DEVICE bool is_eager() const { return args_.epoch != 0; }

  const dime_args &args_;
  uint64_t own_inbox_;
};

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
