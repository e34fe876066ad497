// A GPU that this process sees.
#ifndef DIME_SIM_DRIVER_DEVICE_H
#define DIME_SIM_DRIVER_DEVICE_H

#include <atomic>
#include <cstdint>
#include <memory>

#include "cuda_api.h"
#include "engine.h"
#include "topology.h"

namespace sim {

class Context;

class Device {
 public:
  Device(const DeviceDescription &description, CUdevice ordinal);

  const DeviceDescription description;
  const CUdevice ordinal;  // in this process
  Engine engine;
  const std::shared_ptr<Context> context;  // the primary one, the only kind there is

  // Fails with CUDA_ERROR_OUT_OF_MEMORY.
  void take_memory(uint64_t bytes);
  void give_back_memory(uint64_t bytes) { used_bytes_ -= bytes; }
  uint64_t free_bytes() const { return description.memory_bytes - used_bytes_; }

  // Fails where the real driver does not know the attribute or the simulator does not.
  int attribute(CUdevice_attribute attribute) const;

 private:
  std::atomic<uint64_t> used_bytes_{0};
};

}  // namespace sim

#endif
