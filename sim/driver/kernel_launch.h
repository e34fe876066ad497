// A kernel launch as an operation.
#ifndef DIME_SIM_DRIVER_KERNEL_LAUNCH_H
#define DIME_SIM_DRIVER_KERNEL_LAUNCH_H

#include <sim/gpu/kernel.h>

#include <cstdint>
#include <vector>

#include "module.h"
#include "operation.h"

namespace sim {

class KernelLaunch : public Operation {
 public:
  // Copies the parameters.
  KernelLaunch(const Function &function, uint32_t blocks, uint32_t threads, void *const *parameters);

  std::unique_ptr<Execution> begin(Engine &engine, Processor &processor, bool earlier_is_over) const override;
  bool is_kernel() const override { return true; }

 private:
  const Kernel &kernel_;
  const uint32_t blocks_, threads_;
  const bool knows_dependents_;
  std::vector<std::vector<unsigned char>> parameters_;
};

}  // namespace sim

#endif
