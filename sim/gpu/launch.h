// One kernel launch, from its enqueueing to its end.
#ifndef DIME_SIM_GPU_LAUNCH_H
#define DIME_SIM_GPU_LAUNCH_H

#include <cstdint>
#include <vector>

#include "kernel.h"

namespace sim {

class Launch {
 public:
  // Copies the parameters. `knows_dependents`: it is compiled for an architecture that has griddepcontrol; else its wait returns at
  // once, and it lets nothing start before its end.
  Launch(const Kernel &kernel, uint32_t blocks, uint32_t threads, void *const *parameters, bool knows_dependents = true);
  Launch(const Launch &) = delete;
  Launch &operator=(const Launch &) = delete;

  const Kernel &kernel() const { return kernel_; }
  uint32_t blocks() const { return blocks_; }
  uint32_t threads() const { return threads_; }  // of a block
  void *const *parameters() const { return parameters_.data(); }
  bool knows_dependents() const { return knows_dependents_; }

  // Every thread has ended, and all it wrote is in memory.
  bool is_done() const { return ended_blocks == blocks_; }
  // A launch behind it with the programmatic-dependent attribute may be given to the Processor: every block has asked
  // for that or has ended.
  bool lets_dependents_start() const { return releasing_blocks == blocks_; }
  // Ends the griddepcontrol.wait of this launch: all that it depends on is over. A launch that was started without
  // waiting (`Processor::start(launch, false)`) stays in that wait until this is called.
  void end_wait();

  // Kept by the Processor and its blocks.
  uint32_t placed_blocks = 0;
  uint32_t releasing_blocks = 0;
  uint32_t ended_blocks = 0;
  bool wait_is_over = false;
  uint64_t ready_at = 0;  // what its threads must see of memory: WeakMemory::now() when its wait was over

 private:
  const Kernel &kernel_;
  const uint32_t blocks_, threads_;
  const bool knows_dependents_;
  std::vector<std::vector<unsigned char>> parameter_bytes_;
  std::vector<void *> parameters_;
};

}  // namespace sim

#endif
