// What the driver keeps for the process: its devices, and the tables of all handles.
#ifndef DIME_SIM_DRIVER_DRIVER_H
#define DIME_SIM_DRIVER_DRIVER_H

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <vector>

#include "allocation.h"
#include "capture.h"
#include "context.h"
#include "cuda_api.h"
#include "device.h"
#include "event.h"
#include "graph.h"
#include "memory.h"
#include "module.h"
#include "registry.h"
#include "stream.h"
#include "topology.h"
#include "user_object.h"
#include "virtual_memory.h"

namespace sim {

class Driver {
 public:
  // Never destroyed: engines may still run while the process exits.
  static Driver &instance();

  // Fails when no device is visible.
  void initialize();
  // False as well in a child of fork of a process that did: CUDA does not work there.
  bool is_initialized() const;
  bool is_forked_child() const;

  // Fails with CUDA_ERROR_INVALID_DEVICE.
  Device &device(CUdevice ordinal) const;
  bool sees(uint32_t host_number) const;
  // Whether there is peer access to that device, which this process may not see.
  bool reaches(const Device &device, uint32_t host_number) const;
  Link link(const Device &device, const Device &peer) const;

  std::vector<std::unique_ptr<Device>> devices;
  Memory memory;
  VirtualMemory virtual_memory;
  std::vector<std::shared_ptr<Capture>> captures;  // under way

  Registry<CUcontext, Context> contexts{1};
  Registry<CUstream, Stream> streams{2};
  Registry<CUevent, Event> events{3};
  Registry<CUgraph, Graph> graphs{4};
  Registry<CUgraphExec, ExecutableGraph> executable_graphs{5};
  Registry<CUuserObject, UserObject> user_objects{6};
  Registry<CUmodule, Module> modules{7};
  Registry<CUfunction, Function> functions{8};
  Registry<CUmemGenericAllocationHandle, Allocation> allocations{9};

 private:
  Topology topology_;
  std::atomic<pid_t> initialized_in_{0};  // the process; 0: none yet
};

// The object of a handle, or CUDA_ERROR_INVALID_HANDLE.
template <class Handle, class Object>
std::shared_ptr<Object> find(const Registry<Handle, Object> &registry, Handle handle) {
  auto object = registry.find(handle);
  require(object != nullptr, CUDA_ERROR_INVALID_HANDLE);
  return object;
}

}  // namespace sim

#endif
