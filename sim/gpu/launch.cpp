#include "launch.h"

#include "weak_memory.h"

namespace sim {

Launch::Launch(const Kernel &kernel, uint32_t blocks, uint32_t threads, void *const *parameters, bool knows_dependents)
    : kernel_(kernel), blocks_(blocks), threads_(threads), knows_dependents_(knows_dependents) {
  for (size_t i = 0; i < kernel.parameter_bytes.size(); ++i) {
    const auto *bytes = static_cast<const unsigned char *>(parameters[i]);
    parameter_bytes_.emplace_back(bytes, bytes + kernel.parameter_bytes[i]);
  }
  for (auto &bytes : parameter_bytes_) parameters_.push_back(bytes.data());
}

void Launch::end_wait() {
  if (!wait_is_over) ready_at = WeakMemory::now();
  wait_is_over = true;
}

}  // namespace sim
