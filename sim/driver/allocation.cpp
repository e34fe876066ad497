#include "allocation.h"

#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "bad_link.h"
#include "device.h"
#include "failure.h"

namespace sim {

namespace {

// The file's name says to every process what it is: "dime-sim KIND HOST_NUMBER".
constexpr const char *NAME = "dime-sim %d %u";
constexpr const char *NAME_AS_LINK = "/memfd:dime-sim %d %u";

}  // namespace

std::shared_ptr<Allocation> Allocation::create(Device &device, Kind kind, size_t bytes) {
  device.take_memory(bytes);
  char name[64];
  snprintf(name, sizeof name, NAME, int(kind), device.description.host_number);
  const int descriptor = memfd_create(name, MFD_CLOEXEC);
  struct stat status;
  if (descriptor < 0 || ftruncate(descriptor, off_t(bytes)) != 0 || fstat(descriptor, &status) != 0) {
    perror("dime sim: no memory for a simulated device");
    if (descriptor >= 0) close(descriptor);
    device.give_back_memory(bytes);
    fail(CUDA_ERROR_OUT_OF_MEMORY);
  }
  return std::shared_ptr<Allocation>(
      new Allocation(&device, kind, device.description.host_number, bytes, descriptor, status.st_ino));
}

std::shared_ptr<Allocation> Allocation::adopt(int descriptor) {
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  char name[64] = {};
  struct stat status;
  int kind;
  unsigned host_number;
  if (readlink(link.c_str(), name, sizeof name - 1) < 0 || sscanf(name, NAME_AS_LINK, &kind, &host_number) != 2 ||
      fstat(descriptor, &status) != 0) {
    close(descriptor);
    return nullptr;
  }
  return std::shared_ptr<Allocation>(
      new Allocation(nullptr, Kind(kind), host_number, size_t(status.st_size), descriptor, status.st_ino));
}

Allocation::~Allocation() {
  close(descriptor);
  if (device_) device_->give_back_memory(bytes);
}

// A lock goes with the process that holds it, however that ends.
void Allocation::mark_as_open() const { flock(descriptor, LOCK_SH); }

bool Allocation::is_open_elsewhere() const {
  if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) return true;
  flock(descriptor, LOCK_UN);
  return false;
}

uint64_t Allocation::map(size_t map_bytes, int protection, void *at, CUresult otherwise) const {
  void *address = mmap(at, map_bytes, protection, MAP_SHARED | (at ? MAP_FIXED : 0), descriptor, 0);
  require(address != MAP_FAILED, otherwise);
  bad_link::mapped(uint64_t(address), map_bytes, host_number);
  return uint64_t(address);
}

}  // namespace sim
