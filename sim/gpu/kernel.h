// The kernels of kernels/, compiled for the host: what the simulator knows of each.
#ifndef DIME_SIM_GPU_KERNEL_H
#define DIME_SIM_GPU_KERNEL_H

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sim {

// One function of the "module". It is registered when the library is loaded, by the host form of kernels/backend/entry.h.
struct Kernel {
  const char *name;
  // Runs one thread of it, on a fiber, to its end. `parameters[i]` points to the i-th parameter.
  void (*run_thread)(void *const *parameters);
  std::vector<size_t> parameter_bytes;
  // The launch bounds: the most threads a block may have, and how many blocks of that size an SM holds.
  uint32_t max_threads;
  uint32_t resident_blocks;
};

// Null: there is no such kernel.
const Kernel *find_kernel(const char *name);

}  // namespace sim

#endif
