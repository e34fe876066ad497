// The epoch: which launch of a lane this is; the launch's turn, which is when the one before it is over; and the stop mark, behind which
// nothing is sent.
//
// Eager launches are counted by the host. It passes the epoch, and how many blocks were launched in the lane before this launch.
// Every block ends by adding one to a count of the lane that only its owner's launches touch; a launch has its turn when the
// count has come to what the host said. In a stream it has at once. It must look all the same: the launch may be in another
// stream than the one before without anybody knowing, when a stream was destroyed and another one has its handle now. The host looks
// at the count, too, before it gives scratch back. The count wraps around with 2^32.
//
// A graph is replayed with the arguments it was captured with, so its launches count on the device. Who writes, who reads: the threads of
// block b read word b at its start; after a block barrier behind that it writes the next epoch to the words b, b + grid, b + 2 grid, ...
// so that all DIME_MAX_BLOCKS words advance in every captured launch whatever its grid. The epoch of word b is thus written by one block
// only, and read by one block of the next launch; the end of a launch orders the two.
//
// Order: blocks release with their add what they did, and a launch acquires the count before it does anything: so it sees all that the
// launch before it did, its result included, whatever streams the two are in.
//
// The stop mark. When the communicator is aborted or revoked, the host tells the spinning kernels to stop, and they give up what they wait
// for. From then on this rank's buffers may hold anything: what a launch did not finish is the input of the next. So a thread that gave up a
// wait sends nothing that depends on it, and marks both lanes of its own inbox before its launch ends. A launch that finds the mark
// sends nothing, waits for nobody, writes no output, and marks both lanes again: the launch that it found marking may run beside it and not be done.
// Peers wait for what is not sent until they are aborted themselves; what they have received comes from whole input. The mark of the eager lane lies in the count word, which a launch
// must read anyway; those of the captured lane lie beside the epochs, one for each block, and are loaded with them. A mark is never taken back.
//
// Who writes, who reads: a thread of a launch that gave up a wait, or found a mark, writes those of both lanes, unless it finds that of the eager lane;
// every launch reads the one of its lane. Order: the mark of the eager lane precedes the add of the marking block, in the same word; the marks of
// the captured lane precede the end of the marking launch. A launch that runs beside the marking one may or may not see them: its input is not that
// launch's output, and if it does not see them it is whole. The mark of the eager lane is written last, with release, so that a thread that acquires it
// knows that the others are written.
//
// An ll word is current when its epoch equals the launch's. Epochs count 1, 2, ..., 2^32 - 1 and go
// on with 2: 0 is what cleared memory holds, and from an odd epoch the next must be even, for the
// parity. A word written at epoch e and never again would look current 2^32 - 2 launches later. To
// rule that out, in the first two epochs of every DIME_CLEAR_PERIOD block 0 clears a slice of the
// ll slots and bulk flags of its own inbox, in the parity that is *not* in use. That parity is quiet just then:
// what came for epoch e - 1 was consumed before this launch's turn, and a peer writes for e + 1 only
// after it has heard from us in epoch e, which block 0 delays until its slice is cleared and fenced. A stopped thread clears nothing: it
// may have given up the wait for its turn, and then the launch before it still reads that parity.
// 2^32 / 4096 slices of 32 words cover the 253952 words of a parity more than a hundred times.
#ifndef DIME_KERNELS_DEVICE_EPOCH_H
#define DIME_KERNELS_DEVICE_EPOCH_H

#include "../layout.h"
#include <backend/grid.h>
#include "ordered.h"
#include "spin.h"

namespace dime {

DIME_DEVICE uint32_t epoch_after(uint32_t epoch) { return epoch == 0xffffffffu ? 2u : epoch + 1u; }

DIME_DEVICE uint64_t parity_offset(uint32_t epoch) { return uint64_t(epoch & 1u) * DIME_PARITY_BYTES; }

DIME_DEVICE bool is_count_at(uint32_t count, uint32_t expected) { return int32_t(count - expected) >= 0; }

DIME_DEVICE uint32_t count_of(uint64_t count_word) { return uint32_t(count_word >> DIME_COUNT_SHIFT); }

// What a launch knows when its turn has come.
struct LaunchStart {
  uint32_t epoch;
  bool is_stopped;  // this thread sends nothing; threads of a block may differ
};

// No launch behind this one sends anything, in whichever lane. The eager lane comes first in scratch.
static DIME_DEVICE_COLD void mark_stop(uint64_t eager_lane) {
  if (uint32_t(load_acquire_gpu_u64(eager_lane + DIME_COUNT_OFFSET)) != 0) return;
  const uint64_t marks = eager_lane + DIME_LANE_BYTES + DIME_STOP_OFFSET;
#pragma unroll 1
  for (uint32_t block = 0; block < DIME_MAX_BLOCKS; ++block) store_plain(marks + 4u * block, DIME_STOPPED);
  or_release_gpu_u64(eager_lane + DIME_COUNT_OFFSET, DIME_STOPPED);
}

class Ticket {
 public:
  // Of this block, in a graph.
  struct Words {
    uint32_t epoch, stopped;
  };

  DIME_DEVICE Ticket(const dime_args &args, uint64_t own_inbox) : args_(args), own_inbox_(own_inbox) {}

  // Waits for it, and then lets the next launch of the stream in, when the host wants that: so of those behind a launch that has to
  // wait, none waits inside. Returns what is known of a stop without the epoch word: not 0 where this thread gave up, or found the
  // mark of the eager lane.
  DIME_DEVICE uint32_t await(SpinGuard &guard) const {
    uint32_t stopped = 0;
    if (is_eager()) {
      uint64_t count_word;
      do {
        count_word = load_acquire_gpu_u64(own_inbox_ + DIME_COUNT_OFFSET);
      } while (!is_count_at(count_of(count_word), args_.blocks_before) && (guard.keep_spinning() || guard.takes_report_request()));
      stopped = uint32_t(count_word) | uint32_t(guard.gave_up());
    }
    if (args_.triggers_dependents) trigger_dependents();
    return stopped;
  }

  // The words of this block once the launch has its turn, and what they mean. What is loaded between the two is under way at the same
  // time.
  DIME_DEVICE Words words() const {
    const uint64_t epoch = own_inbox_ + DIME_EPOCH_OFFSET + 4u * block_index();
    return {load_plain<uint32_t>(epoch), load_plain<uint32_t>(epoch + (DIME_STOP_OFFSET - DIME_EPOCH_OFFSET))};
  }
  DIME_DEVICE LaunchStart start(uint32_t stopped, Words words) const {
    return {is_eager() ? args_.epoch : words.epoch, (is_eager() ? stopped : words.stopped) != 0};
  }
  // Where nothing is loaded between the two.
  DIME_DEVICE LaunchStart start(uint32_t stopped) const { return start(stopped, is_eager() ? Words{} : words()); }

  // Counts the launch, in a graph, behind a block barrier.
  DIME_DEVICE void advance(uint32_t epoch) const {
    if (is_eager()) return;
    const uint32_t step = block_threads() * grid_blocks();
    for (uint32_t word = block_index() + thread_index() * grid_blocks(); word < DIME_MAX_BLOCKS; word += step)
      store_plain(own_inbox_ + DIME_EPOCH_OFFSET + 4u * word, epoch_after(epoch));
  }

  // The last thing a block does. One barrier serves both.
  DIME_DEVICE void end_and_advance(LaunchStart start, const SpinGuard &guard) const {
    if (guard.gave_up() || start.is_stopped) stop_lanes();
    block_barrier();
    advance(start.epoch);
    if (is_eager() && thread_index() == 0) count_block();
  }

  // The last thing a block does that has called advance(). Its barrier is for the count; in a graph, where advance() comes earlier, there is none.
  DIME_DEVICE void end(LaunchStart start, const SpinGuard &guard) const {
    if (guard.gave_up() || start.is_stopped) stop_lanes();
    if (!is_eager()) return;
    block_barrier();
    if (thread_index() == 0) count_block();
  }

 private:
  DIME_DEVICE bool is_eager() const { return args_.epoch != 0; }

  DIME_DEVICE void count_block() const {
    add_release_gpu_u64(own_inbox_ + DIME_COUNT_OFFSET, uint64_t(1) << DIME_COUNT_SHIFT);
  }

  DIME_DEVICE void stop_lanes() const { mark_stop(is_eager() ? own_inbox_ : own_inbox_ - DIME_LANE_BYTES); }

  const dime_args &args_;
  uint64_t own_inbox_;
};

// Call before the block sends anything. A block has at least 32 threads.
DIME_DEVICE void clear_stale_slice(uint64_t own_inbox, LaunchStart start) {
  const uint32_t epoch = start.epoch;
  if ((epoch & (DIME_CLEAR_PERIOD - 1u)) > 1u || block_index() != 0) return;
  const uint32_t words = (DIME_LL_BYTES + DIME_FLAG_BYTES) / 8u;  // the flags follow the ll slots
  if (thread_index() < 32u && !start.is_stopped) {
    uint32_t word = (epoch / DIME_CLEAR_PERIOD * 32u + thread_index()) % words;
    uint64_t slots = own_inbox + parity_offset(epoch + 1u) + DIME_LL_OFFSET;
    store_plain<uint64_t>(slots + 8u * word, 0);
  }
  block_barrier();
  fence_acq_rel_sys();
}

}  // namespace dime

#endif
