// Memory that is allocated whole, host memory, and memory of other processes.
#include "api.h"

using namespace sim;

CUresult cuMemGetInfo_v2(size_t *free, size_t *total) {
  return call("cuMemGetInfo", [&](Lock &) {
    require(free && total);
    const Device &device = current_context().device;
    *free = device.free_bytes();
    *total = device.description.memory_bytes;
  });
}

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
  return call("cuMemAlloc", [&](Lock &) {
    require(address);
    Context &context = current_context();
    require_no_capture();
    *address = Driver::instance().memory.allocate(context, bytes);
  });
}

CUresult cuMemFree_v2(CUdeviceptr address) {
  return call("cuMemFree", [&](Lock &lock) {
    current_context();
    require_no_capture();
    Driver::instance().memory.free(address, lock);
  });
}

CUresult cuMemHostAlloc(void **address, size_t bytes, unsigned flags) {
  return call("cuMemHostAlloc", [&](Lock &) {
    constexpr unsigned KNOWN = CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED;
    require(address && (flags & ~KNOWN) == 0);
    Context &context = current_context();
    require_no_capture();
    *address = Driver::instance().memory.allocate_host(context, bytes);
  });
}

CUresult cuMemHostRegister_v2(void *address, size_t bytes, unsigned flags) {
  return call("cuMemHostRegister", [&](Lock &) {
    constexpr unsigned KNOWN = CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP;
    require(address && (flags & ~KNOWN) == 0);
    Context &context = current_context();
    require_no_capture();
    Driver::instance().memory.register_host(context, address, bytes);
  });
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *device_address, void *address, unsigned flags) {
  return call("cuMemHostGetDevicePointer", [&](Lock &) {
    require(device_address && flags == 0);
    current_context();
    require(Driver::instance().memory.is_pinned(address, 1));
    *device_address = CUdeviceptr(address);
  });
}

CUresult cuMemFreeHost(void *address) {
  return call("cuMemFreeHost", [&](Lock &lock) {
    current_context();
    require_no_capture();
    Driver::instance().memory.free_host(address, lock);
  });
}

CUresult cuIpcGetMemHandle(CUipcMemHandle *handle, CUdeviceptr address) {
  return call("cuIpcGetMemHandle", [&](Lock &) {
    require(handle);
    current_context();
    require_no_capture();
    *handle = Driver::instance().memory.share(address);
  });
}

CUresult cuIpcOpenMemHandle_v2(CUdeviceptr *address, CUipcMemHandle handle, unsigned flags) {
  return call("cuIpcOpenMemHandle", [&](Lock &) {
    require(address && flags == CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
    Context &context = current_context();
    require_no_capture();
    *address = Driver::instance().memory.open(context, handle);
  });
}

CUresult cuIpcCloseMemHandle(CUdeviceptr address) {
  return call("cuIpcCloseMemHandle", [&](Lock &lock) {
    current_context();
    require_no_capture();
    Driver::instance().memory.close(address, lock);
  });
}
