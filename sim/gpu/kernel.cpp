#include "kernel.h"

#include <cstring>

#include <backend/entry.h>

namespace sim {

namespace {

std::vector<Kernel> &kernels() {
  static std::vector<Kernel> *all = new std::vector<Kernel>;
  return *all;
}

}  // namespace

void register_kernel(const Kernel &kernel) { kernels().push_back(kernel); }

const Kernel *find_kernel(const char *name) {
  for (const Kernel &kernel : kernels())
    if (std::strcmp(kernel.name, name) == 0) return &kernel;
  return nullptr;
}

}  // namespace sim
