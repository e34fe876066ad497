// The C edge. Each exported function is a body inside `call`, in the file of its family, and checks what a caller can
// get wrong.
#ifndef DIME_SIM_DRIVER_API_H
#define DIME_SIM_DRIVER_API_H

#include <type_traits>

#include "cuda_api.h"
#include "driver.h"
#include "failure.h"
#include "fault.h"
#include "lock.h"
#include "threads.h"

namespace sim {

// Runs `body` under the lock and returns how it went. `name` is what a fault calls the function: without the version.
template <class Body>
CUresult call(const char *name, Body body) {
  if (const int error = fault::pass(name)) return CUresult(error);
  if (!Driver::instance().is_initialized()) return CUDA_ERROR_NOT_INITIALIZED;
  if (is_callback()) return CUDA_ERROR_NOT_PERMITTED;
  try {
    Lock lock;
    if constexpr (std::is_void_v<std::invoke_result_t<Body, Lock &>>) {
      body(lock);
      return CUDA_SUCCESS;
    } else {
      return body(lock);
    }
  } catch (const Failure &failure) {
    return failure.code;
  }
}

}  // namespace sim

#endif
