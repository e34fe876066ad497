// Modules and functions. There is one set of kernels, compiled into this library: every image of device code names it.
#ifndef DIME_SIM_DRIVER_MODULE_H
#define DIME_SIM_DRIVER_MODULE_H

#include <sim/gpu/kernel.h>

#include "context.h"
#include "cuda_api.h"

namespace sim {

struct Module {
  Context &context;
};

struct Function {
  Context &context;
  const Kernel &kernel;

  // Fails for what the simulator cannot answer.
  int attribute(CUfunction_attribute attribute) const;
};

// Whether this begins as a fatbin does, or as the wrapper of one.
bool is_fatbin(const void *image);

}  // namespace sim

#endif
