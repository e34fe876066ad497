// How a driver call fails: an exception inside, its code at the C edge.
#ifndef DIME_SIM_DRIVER_FAILURE_H
#define DIME_SIM_DRIVER_FAILURE_H

#include <cstdint>

#include "cuda_api.h"

namespace sim {

struct Failure {
  CUresult code;
};

[[noreturn]] inline void fail(CUresult code) { throw Failure{code}; }

inline void require(bool condition, CUresult otherwise = CUDA_ERROR_INVALID_VALUE) {
  if (!condition) fail(otherwise);
}

// The real driver may know this value, the simulator does not: says so on stderr, and the call fails.
[[noreturn]] void fail_not_simulated(const char *function, const char *argument, uint64_t value,
                                     CUresult code = CUDA_ERROR_NOT_SUPPORTED);

inline void require_simulated(bool condition, const char *function, const char *argument, uint64_t value) {
  if (!condition) fail_not_simulated(function, argument, value);
}

// Null: no code that this library returns.
const char *name_of(CUresult code);
const char *text_of(CUresult code);

}  // namespace sim

#endif
