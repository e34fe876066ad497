// The version that the driver says it has, from
//
//   DIME_SIM_DRIVER_VERSION   as cuDriverGetVersion counts, 12000 for CUDA 12.0; that of the headers when it is not set
//
// It decides which images are refused (module.h). Functions that came after CUDA 12.0 are left out of the library of their own,
// old_driver/libcuda.so.1 (exports_12_0.map).
#ifndef DIME_SIM_DRIVER_DRIVER_VERSION_H
#define DIME_SIM_DRIVER_DRIVER_VERSION_H

#include "cuda_api.h"
#include "variables.h"

namespace sim {

inline int driver_version() { return int(number_variable("DIME_SIM_DRIVER_VERSION", CUDA_VERSION, 11000, 99999)); }

}  // namespace sim

#endif
