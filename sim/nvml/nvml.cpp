// The management library of a simulated host, libnvidia-ml.so.1: how two GPUs are linked, also when a process sees only one
// of them. It has what libdime.so asks it, and no more.
#include <sim/driver/topology.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

namespace {

constexpr int SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_FOUND = 6;
constexpr unsigned CAPS_NVLINK = 2;
constexpr unsigned STATUS_OK = 0, STATUS_NOT_SUPPORTED = 5;

const sim::Topology &topology() {
  static const sim::Topology *read = new sim::Topology(sim::Topology::read());
  return *read;
}

unsigned users = 0;

// "GPU-81c665f0-c1ea-96eb-c4ce-56121c1310c6"
std::string text_of(const std::array<unsigned char, 16> &uuid) {
  std::string text = "GPU-";
  for (size_t i = 0; i < uuid.size(); ++i) {
    char byte[3];
    snprintf(byte, sizeof byte, "%02x", uuid[i]);
    text += byte;
    if (i == 3 || i == 5 || i == 7 || i == 9) text += '-';
  }
  return text;
}

// A handle is the device's number, from 1, so that null is none.
uint32_t number_of(const void *handle) { return uint32_t(reinterpret_cast<uintptr_t>(handle)); }

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED int nvmlInit_v2() {
  topology();
  ++users;
  return SUCCESS;
}

EXPORTED int nvmlShutdown() {
  if (users == 0) return UNINITIALIZED;
  --users;
  return SUCCESS;
}

EXPORTED int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
  if (users == 0) return UNINITIALIZED;
  if (!uuid || !device) return INVALID_ARGUMENT;
  for (const sim::DeviceDescription &description : topology().devices())
    if (text_of(description.uuid) == uuid) {
      *device = reinterpret_cast<void *>(uintptr_t(description.host_number) + 1);
      return SUCCESS;
    }
  return NOT_FOUND;
}

EXPORTED int nvmlDeviceGetP2PStatus(void *one, void *other, unsigned capability, unsigned *status) {
  if (users == 0) return UNINITIALIZED;
  const uint32_t count = uint32_t(topology().devices().size());
  if (!status || number_of(one) - 1 >= count || number_of(other) - 1 >= count) return INVALID_ARGUMENT;
  if (capability != CAPS_NVLINK) {
    fprintf(stderr, "dime sim: nvmlDeviceGetP2PStatus: capability %u is not simulated\n", capability);
    return INVALID_ARGUMENT;
  }
  const bool nvlink = topology().link(number_of(one) - 1, number_of(other) - 1) == sim::Link::Nvlink;
  *status = nvlink ? STATUS_OK : STATUS_NOT_SUPPORTED;
  return SUCCESS;
}
