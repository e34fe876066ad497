// Waiting for a peer, with a way out, and with a word about what for.
#ifndef DIME_KERNELS_DEVICE_SPIN_H
#define DIME_KERNELS_DEVICE_SPIN_H

#include "../layout.h"
#include "grid.h"
#include "ordered.h"

namespace dime {

const uint64_t WATCH_SHAPE = 4, WATCH_BYTES = 8, WATCH_WAITS = 16;  // offsets in struct dime_watch

// Counts the rounds of a spin loop and looks at the host's order now and then. Once the order was to stop, every later wait gives
// up at once, so a kernel runs to its end with all its barriers met and frees the GPU.
class Patience {
 public:
  DIME_DEVICE explicit Patience(uint64_t watch) : watch_(watch), rounds_(0), stopped_(false) {}

  // True: look again. False: the communicator was aborted; whatever was read is worthless. `report` is called when the host asks
  // what this thread waits for.
  template <class Report>
  DIME_DEVICE bool again(Report report) {
    give_way();
    if ((++rounds_ & (ROUNDS_PER_LOOK - 1u)) == 0) {
      const uint32_t order = load_relaxed_sys_u32(watch_);
      if (order == DIME_REPORT)
        report();
      else
        stopped_ = order != DIME_GO_ON;
    }
    return !stopped_;
  }

  // For a wait that is not for a peer.
  DIME_DEVICE bool again() {
    return again([] {});
  }

 private:
  uint64_t watch_;
  uint32_t rounds_;
  bool stopped_;
};

// This launch, in this epoch, waits for `peer`. Relaxed: every word has one meaning for as long as the launch lasts, and the host looks
// twice.
DIME_DEVICE void report_wait(const dime_args &args, uint32_t epoch, uint32_t peer) {
  const uint32_t shape = uint32_t(args.type) | uint32_t(args.op) << 8 | uint32_t(args.kernel) << 16;
  store_relaxed_sys_u32(args.watch + WATCH_SHAPE, shape);
  store_relaxed_sys_u32(args.watch + WATCH_BYTES, uint32_t(args.bytes));
  store_relaxed_sys_u32(args.watch + WATCH_BYTES + 4u, uint32_t(args.bytes >> 32));
  store_relaxed_sys_u32(args.watch + WATCH_WAITS + 4u * peer, epoch);
}

}  // namespace dime

#endif
