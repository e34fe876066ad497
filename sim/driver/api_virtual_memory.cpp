// Virtual memory management.
#include <fcntl.h>

#include "api.h"

using namespace sim;

namespace {

// The device that the properties name.
Device &check_properties(const char *function, const CUmemAllocationProp *properties) {
  require(properties);
  require_simulated(properties->type == CU_MEM_ALLOCATION_TYPE_PINNED, function, "type", properties->type);
  require_simulated(properties->location.type == CU_MEM_LOCATION_TYPE_DEVICE, function, "location.type",
                    properties->location.type);
  require_simulated(properties->requestedHandleTypes == CU_MEM_HANDLE_TYPE_NONE ||
                        properties->requestedHandleTypes == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                    function, "requestedHandleTypes", properties->requestedHandleTypes);
  require(!properties->win32HandleMetaData);
  const auto &flags = properties->allocFlags;
  require_simulated(flags.compressionType == 0, function, "allocFlags.compressionType", flags.compressionType);
  require_simulated(flags.gpuDirectRDMACapable == 0, function, "allocFlags.gpuDirectRDMACapable",
                    flags.gpuDirectRDMACapable);
  require_simulated(flags.usage == 0, function, "allocFlags.usage", flags.usage);
  Device &device = Driver::instance().device(properties->location.id);
  require(device.description.has_vmm, CUDA_ERROR_NOT_SUPPORTED);
  return device;
}

std::shared_ptr<Allocation> allocation_of(CUmemGenericAllocationHandle handle) {
  auto allocation = Driver::instance().allocations.find(handle);
  require(allocation != nullptr);
  return allocation;
}

}  // namespace

CUresult cuMemGetAllocationGranularity(size_t *bytes, const CUmemAllocationProp *properties,
                                       CUmemAllocationGranularity_flags option) {
  return call("cuMemGetAllocationGranularity", [&](Lock &) {
    require(bytes && (option == CU_MEM_ALLOC_GRANULARITY_MINIMUM || option == CU_MEM_ALLOC_GRANULARITY_RECOMMENDED));
    check_properties("cuMemGetAllocationGranularity", properties);
    *bytes = VirtualMemory::GRANULARITY_BYTES;
  });
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *properties,
                     unsigned long long flags) {
  return call("cuMemCreate", [&](Lock &) {
    require(handle && flags == 0 && VirtualMemory::is_granular(bytes));
    Device &device = check_properties("cuMemCreate", properties);
    require_no_capture();
    const bool as_descriptor = properties->requestedHandleTypes == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    const auto kind = as_descriptor ? Allocation::Kind::AsDescriptor : Allocation::Kind::Private;
    *handle = Driver::instance().allocations.add(Allocation::create(device, kind, bytes));
  });
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  return call("cuMemRelease", [&](Lock &) {
    allocation_of(handle);
    require_no_capture();
    Driver::instance().allocations.remove(handle);
  });
}

CUresult cuMemAddressReserve(CUdeviceptr *address, size_t bytes, size_t alignment, CUdeviceptr /* a hint */,
                             unsigned long long flags) {
  return call("cuMemAddressReserve", [&](Lock &) {
    require(address && flags == 0);
    require_no_capture();
    *address = Driver::instance().virtual_memory.reserve(bytes, alignment);
  });
}

CUresult cuMemAddressFree(CUdeviceptr address, size_t bytes) {
  return call("cuMemAddressFree", [&](Lock &) {
    require_no_capture();
    Driver::instance().virtual_memory.free(address, bytes);
  });
}

CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags) {
  return call("cuMemMap", [&](Lock &) {
    require(offset == 0 && flags == 0);
    require_no_capture();
    Driver::instance().virtual_memory.map(address, bytes, allocation_of(handle));
  });
}

CUresult cuMemUnmap(CUdeviceptr address, size_t bytes) {
  return call("cuMemUnmap", [&](Lock &lock) {
    require_no_capture();
    Driver::instance().virtual_memory.unmap(address, bytes, lock);
  });
}

CUresult cuMemSetAccess(CUdeviceptr address, size_t bytes, const CUmemAccessDesc *accesses, size_t count) {
  return call("cuMemSetAccess", [&](Lock &) {
    require(accesses && count != 0);
    require_no_capture();
    for (size_t i = 0; i < count; ++i) {
      require_simulated(accesses[i].location.type == CU_MEM_LOCATION_TYPE_DEVICE, "cuMemSetAccess", "location.type",
                        accesses[i].location.type);
      Driver::instance().virtual_memory.set_access(address, bytes, accesses[i]);
    }
  });
}

CUresult cuMemExportToShareableHandle(void *shared, CUmemGenericAllocationHandle handle, CUmemAllocationHandleType type,
                                      unsigned long long flags) {
  return call("cuMemExportToShareableHandle", [&](Lock &) {
    require(shared && flags == 0);
    require_simulated(type == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, "cuMemExportToShareableHandle", "type", type);
    auto allocation = allocation_of(handle);
    require(allocation->kind == Allocation::Kind::AsDescriptor);
    require_no_capture();
    const int descriptor = fcntl(allocation->descriptor, F_DUPFD, 0);
    require(descriptor >= 0, CUDA_ERROR_OUT_OF_MEMORY);
    *static_cast<int *>(shared) = descriptor;
  });
}

CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle, void *shared,
                                        CUmemAllocationHandleType type) {
  return call("cuMemImportFromShareableHandle", [&](Lock &) {
    require(handle);
    require_simulated(type == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, "cuMemImportFromShareableHandle", "type", type);
    require_no_capture();
    const int descriptor = fcntl(int(reinterpret_cast<intptr_t>(shared)), F_DUPFD_CLOEXEC, 0);
    require(descriptor >= 0);
    auto allocation = Allocation::adopt(descriptor);
    require(allocation && allocation->kind == Allocation::Kind::AsDescriptor);
    *handle = Driver::instance().allocations.add(std::move(allocation));
  });
}
