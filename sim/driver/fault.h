// Faults on demand, from the variable DIME_SIM_FAULT: a comma list of ACTION@PLACE:N[:VALUE]. A place is the name of a driver
// function of this library (cuMemCreate) or of a point inside (spin, barrier, block). N counts the passings of the place
// in this process from 1.
//
//   fail@cuMemCreate:2           the second call returns CUDA_ERROR_OUT_OF_MEMORY (VALUE: another error number)
//   kill@spin:100                the process kills itself (SIGKILL) at the hundredth passing
//   delay@cuLaunchKernelEx:3:50  the third call takes 50 ms longer; N = * delays each
#ifndef DIME_SIM_DRIVER_FAULT_H
#define DIME_SIM_DRIVER_FAULT_H

namespace sim::fault {

// Counts a passing of `place`; kills or delays when asked to. Returns the error number to fail with, or 0. Cheap when
// no fault is configured. Thread-safe.
int pass(const char *place);

}  // namespace sim::fault

#endif
