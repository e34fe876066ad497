#include "device.h"

#include "context.h"
#include "failure.h"

namespace sim {

Device::Device(const DeviceDescription &its_description, CUdevice its_ordinal)
    : description(its_description),
      ordinal(its_ordinal),
      engine(its_description.host_number, its_description.sms),
      context(std::make_shared<Context>(*this)) {}

void Device::take_memory(uint64_t bytes) {
  uint64_t used = used_bytes_;
  do require(bytes <= description.memory_bytes - used, CUDA_ERROR_OUT_OF_MEMORY);
  while (!used_bytes_.compare_exchange_weak(used, used + bytes));
}

int Device::attribute(CUdevice_attribute attribute) const {
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: return 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR: return 2048;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: return 32;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: return int(description.sms);
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: return int(description.arch / 10);
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: return int(description.arch % 10);
    case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS: return 1;
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING: return 1;
    case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY: return 1;
    case CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID: return 0;
    case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID: return int(description.host_number + 1);
    case CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID: return 0;
    case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED: return description.has_vmm;
    case CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED: return description.has_vmm;
    case CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED: return 0;
    default: fail_not_simulated("cuDeviceGetAttribute", "attribute", attribute, CUDA_ERROR_INVALID_VALUE);
  }
}

}  // namespace sim
