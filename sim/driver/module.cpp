#include "module.h"

#include <algorithm>
#include <cstring>

#include "device.h"
#include "failure.h"
#include "variables.h"

namespace sim {

namespace {

// Whether this begins as a fatbin does, or as the wrapper of one.
bool is_fatbin(const void *image) {
  constexpr uint32_t FATBIN = 0xBA55ED50, WRAPPER = 0x466243B1;
  uint32_t magic;
  memcpy(&magic, image, sizeof magic);
  return magic == FATBIN || magic == WRAPPER;
}

uint32_t arch_of_ptx(const std::string &ptx) {
  constexpr char TARGET[] = ".target sm_";
  const size_t at = ptx.find(TARGET);
  require(at != std::string::npos, CUDA_ERROR_INVALID_PTX);
  const size_t begin = at + strlen(TARGET);
  const auto arch = parse_number(ptx.substr(begin, ptx.find_first_not_of("0123456789", begin) - begin));
  require(arch.has_value(), CUDA_ERROR_INVALID_PTX);
  return uint32_t(*arch);
}

}  // namespace

Module::Module(Context &context, const void *image) : context(context) {
  const uint32_t of_device = context.device.description.arch;
  if (is_fatbin(image)) {
    arch = std::min(of_device, uint32_t(number_variable("DIME_SIM_KERNELS_ARCH", UINT32_MAX, 50, UINT32_MAX)));
    return;
  }
  constexpr char VERSION[] = ".version";
  require(strncmp(static_cast<const char *>(image), VERSION, strlen(VERSION)) == 0, CUDA_ERROR_INVALID_IMAGE);
  ptx = static_cast<const char *>(image);
  arch = arch_of_ptx(ptx);
  require(arch <= of_device, CUDA_ERROR_NO_BINARY_FOR_GPU);
}

const Kernel *Module::find(const char *name) const {
  if (!ptx.empty() && ptx.find(".entry " + std::string(name) + "(") == std::string::npos) return nullptr;
  return find_kernel(name);
}

int Function::attribute(CUfunction_attribute attribute) const {
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: return int(kernel.max_threads);
    case CU_FUNC_ATTRIBUTE_PTX_VERSION: return int(arch);
    // What runs is compiled for the device, if need be by the driver.
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION: return int(context.device.description.arch);
    default: fail_not_simulated("cuFuncGetAttribute", "attribute", attribute, CUDA_ERROR_INVALID_VALUE);
  }
}

}  // namespace sim
