#include "module.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "device.h"
#include "driver_version.h"
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

bool is_elf(const void *image) { return memcmp(image, "\x7f""ELF", 4) == 0; }

// Of machine code, by the header of its ELF file; fails for what this driver and this device do not run.
uint32_t arch_of_elf(const void *image, uint32_t of_device) {
  constexpr size_t ABI_OFFSET = 8, FLAGS_OFFSET = 48;
  constexpr uint8_t OLD_ABI = 7;
  constexpr int FIRST_DRIVER_OF_NEW_ABI = 13000, FIRST_DRIVER_OF_ARCH_100 = 12080;
  constexpr uint32_t ARCH_100 = 100;
  const auto *bytes = static_cast<const unsigned char *>(image);
  uint32_t flags;
  memcpy(&flags, bytes + FLAGS_OFFSET, sizeof flags);
  const bool is_new = bytes[ABI_OFFSET] > OLD_ABI;
  const uint32_t arch = (is_new ? flags >> 8 : flags) & 0xff;
  require(!is_new || driver_version() >= (arch >= ARCH_100 ? FIRST_DRIVER_OF_ARCH_100 : FIRST_DRIVER_OF_NEW_ABI),
          CUDA_ERROR_INVALID_IMAGE);
  require(arch <= of_device && arch / 10 == of_device / 10, CUDA_ERROR_NO_BINARY_FOR_GPU);
  return arch;
}

// The first driver that knows the version of this PTX.
int first_driver_of_ptx(const std::string &ptx) {
  int major = 0, minor = 0;
  require(sscanf(strstr(ptx.c_str(), ".version"), ".version %d.%d", &major, &minor) == 2, CUDA_ERROR_INVALID_PTX);
  // 8.0 came with CUDA 12.0, 8.6 with 12.7, and 9.0 with 13.0; CUDA 12.6 kept 8.5.
  return (major + 4) * 1000 + 10 * (major == 8 && minor > 5 ? minor + 1 : minor);
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
  if (is_fatbin(image) || is_elf(image)) {
    const uint32_t newest = uint32_t(number_variable("DIME_SIM_KERNELS_ARCH", UINT32_MAX, 50, UINT32_MAX));
    arch = std::min(is_elf(image) ? arch_of_elf(image, of_device) : of_device, newest);
    return;
  }
  // PTX begins with comments, or with its version.
  const auto *text = static_cast<const char *>(image);
  require((*text == '/' || *text == '.') && strstr(text, ".version"), CUDA_ERROR_INVALID_IMAGE);
  ptx = text;
  require(first_driver_of_ptx(ptx) <= driver_version(), CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
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
