// Modules and functions. There is one set of kernels, compiled into this library: every image of device code names it.
//
// Which architecture an image is compiled for decides what its kernels can do. PTX and ELF files say it. Of a fatbin it is taken to
// have code for every device, and of all but PTX no code newer than the architecture in
//
//   DIME_SIM_KERNELS_ARCH   90 for 9.0; when it is not set, there is no such limit
//
// Machine code whose ELF ABI the driver does not know is refused, as drivers do with that of a newer CUDA.
#ifndef DIME_SIM_DRIVER_MODULE_H
#define DIME_SIM_DRIVER_MODULE_H

#include <sim/gpu/kernel.h>

#include <cstdint>
#include <string>

#include "context.h"
#include "cuda_api.h"

namespace sim {

struct Module {
  // Fails for what is no image, and for one that the device or the driver does not run.
  Module(Context &context, const void *image);

  Context &context;
  std::string ptx;     // empty: machine code
  uint32_t arch;       // that its kernels are compiled for, with __CUDA_ARCH__ ten times that

  // Null: there is no such kernel in it.
  const Kernel *find(const char *name) const;
};

struct Function {
  Context &context;
  const Kernel &kernel;
  const uint32_t arch;

  // Whether it is compiled for an architecture that has griddepcontrol.
  bool knows_dependents() const { return arch >= 90; }
  // Fails for what the simulator cannot answer.
  int attribute(CUfunction_attribute attribute) const;
};

}  // namespace sim

#endif
