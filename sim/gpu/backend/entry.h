// The simulator's form of kernels/backend/entry.h: a kernel is a plain function, registered by name.
#ifndef DIME_SIM_GPU_BACKEND_ENTRY_H
#define DIME_SIM_GPU_BACKEND_ENTRY_H

#include <sim/gpu/kernel.h>

#include <type_traits>
#include <utility>

// CUDA's headers define these as attributes that g++ does not know.
#undef __global__
#undef __grid_constant__
#undef __launch_bounds__
#define __global__
#define __grid_constant__
#define __launch_bounds__(...)

namespace sim {

void register_kernel(const Kernel &kernel);

// Calls FUNCTION with the arguments that the parameter pointers point to.
template <auto FUNCTION>
struct Entry;
template <class... Parameters, void (*FUNCTION)(Parameters...)>
struct Entry<FUNCTION> {
  static void run_thread(void *const *parameters) { run(parameters, std::index_sequence_for<Parameters...>()); }
  template <size_t... I>
  static void run([[maybe_unused]] void *const *parameters, std::index_sequence<I...>) {
    FUNCTION(*static_cast<const std::remove_cv_t<Parameters> *>(parameters[I])...);
  }
  static Kernel kernel(const char *name, uint32_t threads) {
    return {name, run_thread, {sizeof(Parameters)...}, threads, 2};
  }
};

struct Registration {
  explicit Registration(const Kernel &kernel) { register_kernel(kernel); }
};

}  // namespace sim

// Two blocks of `threads` threads fit on an SM.
#define DIME_ENTRY(name) DIME_ENTRY_BOUNDED(name, 512)
#define DIME_ENTRY_BOUNDED(name, threads) \
  static const sim::Registration name##_registration(sim::Entry<&name>::kernel(#name, threads));

#endif
