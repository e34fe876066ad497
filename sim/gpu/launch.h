// One kernel launch, from when it is enqueued until it has ended.
#ifndef DIME_SIM_GPU_LAUNCH_H
#define DIME_SIM_GPU_LAUNCH_H

#include <cstdint>
#include <vector>

#include "kernel.h"

namespace sim {

class Launch {
 public:
  // Copies the parameters. `knows_dependents`: the kernel is compiled for an architecture with
  // griddepcontrol. If it is not, griddepcontrol.wait returns at once, and no launch may start before this
  // one has ended.
  Launch(const Kernel &kernel, uint32_t blocks, uint32_t threads, void *const *parameters, bool knows_dependents = true);
  Launch(const Launch &) = delete;
  Launch &operator=(const Launch &) = delete;

  const Kernel &kernel() const { return kernel_; }
  uint32_t blocks() const { return blocks_; }
  uint32_t threads() const { return threads_; }  // of a block
  void *const *parameters() const { return parameters_.data(); }
  bool knows_dependents() const { return knows_dependents_; }

  // All threads have ended, and all their stores are in memory.
  bool is_done() const { return ended_blocks == blocks_; }
  // The next launch of the stream may start, if it has the attribute for programmatic dependent launch: every
  // block has executed griddepcontrol.launch_dependents or has ended.
  bool lets_dependents_start() const { return releasing_blocks == blocks_; }
  // Ends the griddepcontrol.wait of this launch: everything that it depends on has ended. A launch that
  // started early (`Processor::start(launch, false)`) stays in that wait until this is called.
  void end_wait();

  // Written by the Processor and its blocks.
  uint32_t placed_blocks = 0;
  uint32_t releasing_blocks = 0;
  uint32_t ended_blocks = 0;
  bool wait_is_over = false;
  uint64_t ready_at = 0;  // its threads see memory at least as of then: WeakMemory::now() when its wait ended

 private:
  const Kernel &kernel_;
  const uint32_t blocks_, threads_;
  const bool knows_dependents_;
  std::vector<std::vector<unsigned char>> parameter_bytes_;
  std::vector<void *> parameters_;
};

}  // namespace sim

#endif
