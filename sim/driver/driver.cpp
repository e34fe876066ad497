#include "driver.h"

#include <sys/resource.h>
#include <unistd.h>

#include "failure.h"

namespace sim {

namespace {

// Every allocation is a file, and a process may have no more than 1024 open where nobody asks for more.
void allow_many_descriptors() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

Driver &Driver::instance() {
  static auto *driver = new Driver;
  return *driver;
}

void Driver::initialize() {
  if (initialized_in_ != 0) return;
  topology_ = Topology::read();
  for (uint32_t host_number : topology_.visible()) {
    devices.push_back(std::make_unique<Device>(topology_.devices()[host_number], CUdevice(devices.size())));
    devices.back()->context->handle = contexts.add(devices.back()->context);
  }
  require(!devices.empty(), CUDA_ERROR_NO_DEVICE);
  allow_many_descriptors();
  initialized_in_ = getpid();
}

bool Driver::is_initialized() const { return initialized_in_ == getpid(); }

bool Driver::is_forked_child() const { return initialized_in_ != 0 && initialized_in_ != getpid(); }

Device &Driver::device(CUdevice ordinal) const {
  require(ordinal >= 0 && size_t(ordinal) < devices.size(), CUDA_ERROR_INVALID_DEVICE);
  return *devices[size_t(ordinal)];
}

bool Driver::sees(uint32_t host_number) const {
  for (const auto &device : devices)
    if (device->description.host_number == host_number) return true;
  return false;
}

bool Driver::reaches(const Device &device, uint32_t host_number) const {
  if (device.description.host_number == host_number) return true;
  return host_number < topology_.devices().size() &&
         topology_.link(device.description.host_number, host_number) != Link::None;
}

Link Driver::link(const Device &device, const Device &peer) const {
  return topology_.link(device.description.host_number, peer.description.host_number);
}

}  // namespace sim
