// Waiting for a peer, with a way out.
#ifndef DIME_KERNELS_DEVICE_SPIN_H
#define DIME_KERNELS_DEVICE_SPIN_H

#include "grid.h"
#include "ordered.h"

namespace dime {

// Counts the rounds of a spin loop and looks at the abort word now and then. Once the word was seen
// set, every later wait gives up at once, so a kernel runs to its end with all its barriers met and
// frees the GPU.
class Patience {
 public:
  DIME_DEVICE explicit Patience(uint64_t abort_word) : abort_word_(abort_word), rounds_(0), aborted_(false) {}

  // True: look again. False: the communicator was aborted; whatever was read is worthless.
  DIME_DEVICE bool again() {
    give_way();
    if ((++rounds_ & (ROUNDS_PER_LOOK - 1u)) == 0) aborted_ = load_relaxed_sys_u32(abort_word_) != 0;
    return !aborted_;
  }

 private:
  uint64_t abort_word_;
  uint32_t rounds_;
  bool aborted_;
};

}  // namespace dime

#endif
