// Epoch, ticket and stop mark: how a launch learns which launch of its lane it is, that the previous launch
// of the lane has ended, and that it must send nothing.
//
// EAGER LAUNCHES. The host counts them. It passes the epoch, and a ticket: how many blocks were launched in
// the lane before this launch.
//
//   1. Each thread of a launch polls the lane's count of blocks until the count has reached the ticket.
//   2. Each block adds one to the count as its last act.
//
// A launch behind another one of the same stream finds the count there already. It must poll all the same:
// the driver may give the handle of a destroyed stream to a new stream, and then the host enqueues two
// launches on different streams without knowing. The count wraps around at 2^32.
//
// Who writes, who reads: every block of the inbox's owner adds to the count; no peer does. The owner's
// launches read it, and so does its host, before it frees scratch.
//
// Order: the add is a release, the poll an acquire, both of device scope. So a launch sees everything that
// the previous launch of the lane did, its result included, whatever streams the two are in.
//
// CAPTURED LAUNCHES. They count on the device, since a graph replays with the arguments it was captured with.
// Each of the DIME_MAX_BLOCKS possible blocks has an epoch word. Every captured launch advances all of them,
// whatever its grid.
//
// Who writes, who reads: the threads of block b read word b at their start. After a block barrier, block b
// writes the next epoch to the words b, b + grid, b + 2 grid, ... So in one launch each word has one writing
// block, and that block is the only one that reads it.
//
// Order: the barrier puts the reads of a launch before its writes; the end of a launch orders its writes
// before the next launch's reads.
//
// THE STOP MARK. On abort or revoke the host writes DIME_STOP into the mailbox, and spinning threads give up
// their waits. What such a launch leaves unfinished may be the input of the next launch, so from then on this
// rank must send nothing that depends on it:
//
//   1. A thread that gave up a wait sends nothing that depends on it, and sets the stop mark in both lanes of
//      its own inbox before its block is counted and before its launch ends.
//   2. A launch that finds the mark sends nothing, waits for nobody and writes no output. It sets both lanes'
//      marks again, because the launch whose mark it found may still run beside it and not have set all of
//      them.
//   3. Peers spin on what is not sent until they are aborted too. What they have received was made from whole
//      input.
//
// A mark is never cleared. The eager lane's mark lies in the count word, which a launch loads anyway. The
// captured lane has one mark for each block, beside the epoch words and loaded with them.
//
// Who writes, who reads: each thread that gave up a wait or found a mark writes the marks of both lanes,
// unless it finds the eager lane's mark set. Every launch reads the mark of its own lane.
//
// Order: the eager lane's mark precedes its block's add, in the same word, so whoever sees that add sees the
// mark. The captured lane's marks precede the end of their launch. The eager lane's mark is written last, as
// a release: a thread that acquires it knows that all other marks are written. A launch that runs beside the
// marking launch may or may not see a mark. Either is right: its input is not that launch's output, and a
// launch that sees no mark works on whole input.
//
// WRAP. Epochs count 1, 2, ..., 2^32 - 1, 2, 3, ...: 0 is what cleared memory holds, and parities must
// alternate, so an even epoch follows the last, odd one. An LL word counts as arrived when its epoch equals
// the launch's. So a word written in epoch e, and never since, would count as arrived 2^32 - 2 launches
// later.
//
// Against that, in the first two epochs of every DIME_CLEAR_PERIOD, block 0 zeroes a slice of 32 words of the
// LL slots and bulk flags in its own inbox, in the idle parity, the one that the launch does not use. 2^32 /
// 4096 slices cover the 253952 words of a parity more than a hundred times. No access of anyone meets the
// zeroing:
//
//   - What came for epoch e - 1 was read before this launch reached its ticket or, in a graph, before it
//     began.
//   - A peer writes for epoch e + 1 only after it has heard from this launch in epoch e, and block 0 sends
//     nothing until its slice is zeroed and fenced.
//   - A stopped thread zeroes nothing: it may have given up the wait for its ticket, and then the previous
//     launch still reads the idle parity.
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

// What a thread knows once its launch has reached its ticket.
struct LaunchStart {
  uint32_t epoch;
  bool is_stopped;  // this thread sends nothing; threads of one block may differ in it
};

// Sets the stop marks of both lanes, so that no later launch of either lane sends anything. `eager_lane` is
// the first lane of scratch; the captured lane follows it.
static DIME_DEVICE_COLD void mark_stop(uint64_t eager_lane) {
  if (uint32_t(load_acquire_gpu_u64(eager_lane + DIME_COUNT_OFFSET)) != 0) return;
  const uint64_t marks = eager_lane + DIME_LANE_BYTES + DIME_STOP_OFFSET;
#pragma unroll 1
  for (uint32_t block = 0; block < DIME_MAX_BLOCKS; ++block) store_plain(marks + 4u * block, DIME_STOPPED);
  or_release_gpu_u64(eager_lane + DIME_COUNT_OFFSET, DIME_STOPPED);
}

class Ticket {
 public:
  // A captured launch's words of this block.
  struct Words {
    uint32_t epoch, stopped;
  };

  DIME_DEVICE Ticket(const dime_args &args, uint64_t own_inbox) : args_(args), own_inbox_(own_inbox) {}

  // Waits until the count of blocks has reached the ticket. Returns what is known of a stop without the words
  // of a captured launch: not 0 if this thread gave up the wait or found the eager lane's mark.
  //
  // Triggers dependents only after the wait, and only where the host asks for it. So a launch that still
  // waits for its ticket keeps the next launch of its stream off the SMs, where that one could only wait too.
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

  // Loads this block's words, after await(). start() interprets them; loads issued between the two calls
  // overlap with these.
  DIME_DEVICE Words words() const {
    const uint64_t epoch = own_inbox_ + DIME_EPOCH_OFFSET + 4u * block_index();
    return {load_plain<uint32_t>(epoch), load_plain<uint32_t>(epoch + (DIME_STOP_OFFSET - DIME_EPOCH_OFFSET))};
  }
  DIME_DEVICE LaunchStart start(uint32_t stopped, Words words) const {
    return {is_eager() ? args_.epoch : words.epoch, (is_eager() ? stopped : words.stopped) != 0};
  }
  // Both at once, for a kernel that loads nothing in between. An eager launch needs no words.
  DIME_DEVICE LaunchStart start(uint32_t stopped) const { return start(stopped, is_eager() ? Words{} : words()); }

  // In a captured launch: writes the next epoch to this block's share of the epoch words. Called after a
  // block barrier that follows the reads of words(). Does nothing in an eager launch.
  DIME_DEVICE void advance(uint32_t epoch) const {
    if (is_eager()) return;
    const uint32_t step = block_threads() * grid_blocks();
    for (uint32_t word = block_index() + thread_index() * grid_blocks(); word < DIME_MAX_BLOCKS; word += step)
      store_plain(own_inbox_ + DIME_EPOCH_OFFSET + 4u * word, epoch_after(epoch));
  }

  // The last act of a block that has not called advance(). Its one barrier serves both the epoch words and
  // the count.
  DIME_DEVICE void end_and_advance(LaunchStart start, const SpinGuard &guard) const {
    if (guard.gave_up() || start.is_stopped) stop_lanes();
    block_barrier();
    advance(start.epoch);
    if (is_eager() && thread_index() == 0) count_block();
  }

  // The last act of a block that has called advance(). The barrier puts all threads' work before the add to
  // the count; a captured launch counts no blocks and needs none.
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

// Zeroes block 0's slice of the idle parity when the epoch asks for it (WRAP above). Called by all threads of
// a block, of at least 32 threads, before the block sends anything.
DIME_DEVICE void clear_stale_slice(uint64_t own_inbox, LaunchStart start) {
  const uint32_t epoch = start.epoch;
  if ((epoch & (DIME_CLEAR_PERIOD - 1u)) > 1u || block_index() != 0) return;
  const uint32_t words = (DIME_LL_BYTES + DIME_FLAG_BYTES) / 8u;  // the flags follow the LL slots
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
