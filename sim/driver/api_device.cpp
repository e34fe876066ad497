// Initialisation, errors' names, devices.
#include <algorithm>
#include <cstring>

#include "api.h"
#include "driver_version.h"

using namespace sim;

CUresult cuInit(unsigned flags) {
  if (const int error = fault::pass("cuInit")) return CUresult(error);
  Driver &driver = Driver::instance();
  if (driver.is_forked_child()) return CUDA_ERROR_NOT_INITIALIZED;
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  try {
    Lock lock;
    driver.initialize();
    return CUDA_SUCCESS;
  } catch (const Failure &failure) {
    return failure.code;
  }
}

CUresult cuDriverGetVersion(int *version) {
  if (const int error = fault::pass("cuDriverGetVersion")) return CUresult(error);
  if (!version) return CUDA_ERROR_INVALID_VALUE;
  *version = driver_version();
  return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult code, const char **name) {
  if (const int error = fault::pass("cuGetErrorName")) return CUresult(error);
  if (!name) return CUDA_ERROR_INVALID_VALUE;
  *name = name_of(code);
  return *name ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult code, const char **text) {
  if (const int error = fault::pass("cuGetErrorString")) return CUresult(error);
  if (!text) return CUDA_ERROR_INVALID_VALUE;
  *text = text_of(code);
  return *text ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDeviceGetCount(int *count) {
  return call("cuDeviceGetCount", [&](Lock &) {
    require(count);
    *count = int(Driver::instance().devices.size());
  });
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  return call("cuDeviceGet", [&](Lock &) {
    require(device);
    *device = Driver::instance().device(ordinal).ordinal;
  });
}

CUresult cuDeviceGetName(char *name, int bytes, CUdevice device) {
  return call("cuDeviceGetName", [&](Lock &) {
    require(name && bytes > 0);
    const std::string &whole = Driver::instance().device(device).description.name;
    const size_t copied = std::min(whole.size(), size_t(bytes) - 1);
    memcpy(name, whole.data(), copied);
    name[copied] = 0;
  });
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device) {
  return call("cuDeviceGetUuid", [&](Lock &) {
    require(uuid);
    const auto &bytes = Driver::instance().device(device).description.uuid;
    memcpy(uuid->bytes, bytes.data(), bytes.size());
  });
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
  return call("cuDeviceTotalMem", [&](Lock &) {
    require(bytes);
    *bytes = Driver::instance().device(device).description.memory_bytes;
  });
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
  return call("cuDeviceGetAttribute", [&](Lock &) {
    require(value);
    *value = Driver::instance().device(device).attribute(attribute);
  });
}

CUresult cuDeviceCanAccessPeer(int *can_access, CUdevice device, CUdevice peer) {
  return call("cuDeviceCanAccessPeer", [&](Lock &) {
    require(can_access);
    const Driver &driver = Driver::instance();
    const Device &one = driver.device(device), &other = driver.device(peer);
    *can_access = &one != &other && driver.link(one, other) != Link::None;
  });
}

CUresult cuDeviceGetP2PAttribute(int *value, CUdevice_P2PAttribute attribute, CUdevice device, CUdevice peer) {
  return call("cuDeviceGetP2PAttribute", [&](Lock &) {
    require(value);
    const Driver &driver = Driver::instance();
    const Device &one = driver.device(device), &other = driver.device(peer);
    require(&one != &other, CUDA_ERROR_INVALID_DEVICE);
    const Link link = driver.link(one, other);
    switch (attribute) {
      case CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED: *value = link != Link::None; break;
      case CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED: *value = link == Link::Nvlink; break;
      default: fail_not_simulated("cuDeviceGetP2PAttribute", "attribute", attribute, CUDA_ERROR_INVALID_VALUE);
    }
  });
}
