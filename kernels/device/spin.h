// Spins on a peer's packet or flag: polls the abort flag, and reports what this thread waits for.
//
// Who writes, who reads: the host writes the mailbox's command, and spinning threads poll it. A thread that
// reads DIME_REPORT writes the rest of the mailbox, and the host reads it. The kernel's accesses are relaxed,
// of system scope.
#ifndef DIME_KERNELS_DEVICE_SPIN_H
#define DIME_KERNELS_DEVICE_SPIN_H

#include "../layout.h"
#include <backend/grid.h>
#include "ordered.h"

namespace dime {

const uint64_t MAILBOX_LAUNCH = 4, MAILBOX_BYTES = 8, MAILBOX_WAITS = 16;  // offsets in struct dime_mailbox

// Counts the rounds of this thread's spin loops, and loads the host's command once in ROUNDS_PER_LOOK of
// them.
//
// DIME_STOP is final: each later wait of this thread gives up when it would spin. So the kernel runs to its
// end, meets all its barriers and frees the SMs. What a wait that gave up has read is worthless, and nothing
// that depends on it is sent (device/epoch.h).
//
// DIME_REPORT is answered in a loop around the spin loop. Inside the spin loop it makes one-shots on 2 H200
// up to 0.1 us slower (perf/journal/reports.md).
class SpinGuard {
 public:
  DIME_DEVICE explicit SpinGuard(uint64_t mailbox) : mailbox_(mailbox), rounds_(0), command_(DIME_GO_ON) {}

  // One round of a spin loop. True: load again. False: leave the loop; takes_report_request() says why.
  DIME_DEVICE bool keep_spinning() {
    spin_hint();
    if ((++rounds_ & (ROUNDS_PER_LOOK - 1u)) == 0) command_ = load_relaxed_sys_u32(mailbox_);
    return command_ == DIME_GO_ON;
  }

  // True, once for each DIME_REPORT that was read: this thread reports what it waits for, and spins on.
  // False: what it waits for has arrived, or it gave up the wait.
  DIME_DEVICE bool takes_report_request() {
    if (command_ != DIME_REPORT) return false;
    command_ = DIME_GO_ON;
    return true;
  }

  // This thread has read DIME_STOP, so it gave up a wait.
  DIME_DEVICE bool gave_up() const { return command_ == DIME_STOP; }

 private:
  uint64_t mailbox_;
  uint32_t rounds_;
  uint32_t command_;
};

// Writes into the mailbox: this launch waits for `peer` in epoch `epoch`.
//
// Relaxed stores suffice: all threads of a launch write the same values, so no word changes its meaning while
// the launch runs, and the host acts on a report only when it reads the same again later.
//
// `zero` is always 0, since a command is a small number, but the compiler cannot know that. So it cannot load
// the launch's arguments ahead of the wait for a report that hardly ever comes.
DIME_DEVICE void report_wait(const dime_args &args, uint32_t epoch, uint32_t peer) {
  const uint32_t zero = load_relaxed_sys_u32(args.mailbox) >> 31;
  const dime_args &cold = (&args)[zero];
  const uint32_t launch = uint32_t(cold.type) | uint32_t(cold.op) << 8 | uint32_t(cold.kernel) << 16;
  store_relaxed_sys_u32(cold.mailbox + MAILBOX_LAUNCH, launch);
  store_relaxed_sys_u32(cold.mailbox + MAILBOX_BYTES, uint32_t(cold.bytes));
  store_relaxed_sys_u32(cold.mailbox + MAILBOX_BYTES + 4u, uint32_t(cold.bytes >> 32));
  store_relaxed_sys_u32(cold.mailbox + MAILBOX_WAITS + 4u * peer, epoch);
}

}  // namespace dime

#endif
