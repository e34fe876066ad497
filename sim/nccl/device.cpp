#include "device.h"

#include <cstdlib>
#include <cstring>

#include "failure.h"

namespace sim {

bool ranks_may_share_a_device() {
  const char *allowed = getenv("NCCL_MULTI_RANK_GPU_ENABLE");
  return allowed && strcmp(allowed, "1") == 0;
}

int current_device() {
  check_driver(cuInit(0), "cuInit");
  CUcontext context = nullptr;
  check_driver(cuCtxGetCurrent(&context), "cuCtxGetCurrent");
  CUdevice device = 0;
  if (context) check_driver(cuCtxGetDevice(&device), "cuCtxGetDevice");
  return device;
}

int device_count() {
  check_driver(cuInit(0), "cuInit");
  int count = 0;
  check_driver(cuDeviceGetCount(&count), "cuDeviceGetCount");
  return count;
}

CUuuid uuid_of(int device) {
  CUuuid uuid;
  check_driver(cuDeviceGetUuid(&uuid, device), "cuDeviceGetUuid");
  return uuid;
}

int arch_of(int device) {
  const auto attribute = [&](CUdevice_attribute which) {
    int value = 0;
    check_driver(cuDeviceGetAttribute(&value, which, device), "cuDeviceGetAttribute");
    return value;
  };
  return 10 * attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) +
         attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
}

PrimaryContext::PrimaryContext(int device) : device_(device) {
  check_driver(cuDevicePrimaryCtxRetain(&context_, device), "cuDevicePrimaryCtxRetain");
}

PrimaryContext::~PrimaryContext() { cuDevicePrimaryCtxRelease(device_); }

InContext::InContext(CUcontext context) { check_driver(cuCtxPushCurrent(context), "cuCtxPushCurrent"); }

InContext::~InContext() {
  CUcontext before;
  cuCtxPopCurrent(&before);
}

}  // namespace sim
