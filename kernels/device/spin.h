// Waiting for a peer, with a way out, and with a word about what for.
#ifndef DIME_KERNELS_DEVICE_SPIN_H
#define DIME_KERNELS_DEVICE_SPIN_H

#include "../layout.h"
#include "grid.h"
#include "ordered.h"

namespace dime {

const uint64_t WATCH_SHAPE = 4, WATCH_BYTES = 8, WATCH_WAITS = 16;  // offsets in struct dime_watch

// Counts the rounds of a spin loop and looks at the host's order now and then. Once the order was to stop, every later wait gives
// up at once, so a kernel runs to its end with all its barriers met and frees the GPU. What was read then is worthless, and nothing that
// depends on it is sent (device/epoch.h). A loop around the spin loop reports, when that is the order: inside, it made one-shots on 2 H200
// up to 0.1 us slower.
class Patience {
 public:
  DIME_DEVICE explicit Patience(uint64_t watch) : watch_(watch), rounds_(0), order_(DIME_GO_ON) {}

  // True: look again. False: is_asked says why.
  DIME_DEVICE bool again() {
    give_way();
    if ((++rounds_ & (ROUNDS_PER_LOOK - 1u)) == 0) order_ = load_relaxed_sys_u32(watch_);
    return order_ == DIME_GO_ON;
  }

  // True, once for each look: the host asks what this thread waits for; then it waits on. False: what it waited for came, or the
  // wait was given up.
  DIME_DEVICE bool is_asked() {
    if (order_ != DIME_REPORT) return false;
    order_ = DIME_GO_ON;
    return true;
  }

  // A wait of this thread was given up: the order was to stop.
  DIME_DEVICE bool gave_up() const { return order_ == DIME_STOP; }

 private:
  uint64_t watch_;
  uint32_t rounds_;
  uint32_t order_;
};

// This launch, in this epoch, waits for `peer`. Relaxed: every word has one meaning for as long as the launch lasts, and the host looks
// twice. The index is 0, which the compiler cannot know: it would fetch the arguments before every wait, for a report that never comes.
DIME_DEVICE void report_wait(const dime_args &args, uint32_t epoch, uint32_t peer) {
  const uint32_t zero = load_relaxed_sys_u32(args.watch) >> 31;
  const dime_args &cold = (&args)[zero];  // the order is a small number
  const uint32_t shape = uint32_t(cold.type) | uint32_t(cold.op) << 8 | uint32_t(cold.kernel) << 16;
  store_relaxed_sys_u32(cold.watch + WATCH_SHAPE, shape);
  store_relaxed_sys_u32(cold.watch + WATCH_BYTES, uint32_t(cold.bytes));
  store_relaxed_sys_u32(cold.watch + WATCH_BYTES + 4u, uint32_t(cold.bytes >> 32));
  store_relaxed_sys_u32(cold.watch + WATCH_WAITS + 4u * peer, epoch);
}

}  // namespace dime

#endif
