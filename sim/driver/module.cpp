#include "module.h"

#include <cstring>

#include "device.h"
#include "failure.h"

namespace sim {

int Function::attribute(CUfunction_attribute attribute) const {
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: return int(kernel.max_threads);
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION: return int(context.device.description.arch);
    default: fail_not_simulated("cuFuncGetAttribute", "attribute", attribute, CUDA_ERROR_INVALID_VALUE);
  }
}

bool is_fatbin(const void *image) {
  constexpr uint32_t FATBIN = 0xBA55ED50, WRAPPER = 0x466243B1;
  uint32_t magic;
  memcpy(&magic, image, sizeof magic);
  return magic == FATBIN || magic == WRAPPER;
}

}  // namespace sim
