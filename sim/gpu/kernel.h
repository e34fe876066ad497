// The kernels of kernels/, compiled for the host: what the simulator knows of each.
#ifndef DIME_SIM_GPU_KERNEL_H
#define DIME_SIM_GPU_KERNEL_H

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sim {

// One kernel. sim/gpu/backend/entry.h registers it when the library is loaded.
struct Kernel {
  const char *name;
  // Runs one thread of the kernel, on a fiber, to its end. `parameters[i]` points to the i-th parameter.
  void (*run_thread)(void *const *parameters);
  std::vector<size_t> parameter_bytes;
  // The launch bounds: the most threads of a block, and how many blocks of that size fit on an SM.
  uint32_t max_threads;
  uint32_t resident_blocks;
};

// Null if there is no kernel of that name.
const Kernel *find_kernel(const char *name);

}  // namespace sim

#endif
