// Physical memory of a device: a file in memory, so that other processes can map it. It lives as long as a handle or a
// mapping of any process does.
#ifndef DIME_SIM_DRIVER_ALLOCATION_H
#define DIME_SIM_DRIVER_ALLOCATION_H

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "cuda_api.h"

namespace sim {

class Device;

class Allocation {
 public:
  enum class Kind {
    Plain,           // cuMemAlloc
    Private,         // cuMemCreate
    AsDescriptor,    // cuMemCreate, to be exported
  };

  // Fails with CUDA_ERROR_OUT_OF_MEMORY.
  static std::shared_ptr<Allocation> create(Device &device, Kind kind, size_t bytes);
  // Takes the descriptor over. Null: it is no memory of a simulated device.
  static std::shared_ptr<Allocation> adopt(int descriptor);

  ~Allocation();
  Allocation(const Allocation &) = delete;
  Allocation &operator=(const Allocation &) = delete;

  // `at`: null, or where to replace what is mapped there. Fails with `otherwise`.
  uint64_t map(size_t bytes, int protection, void *at, CUresult otherwise) const;

  // Of memory that another process allocated: its owner must not free it while this lives.
  void mark_as_open() const;
  // Whether a process has it open that did not allocate it.
  bool is_open_elsewhere() const;

  const Kind kind;
  const uint32_t host_number;  // of its device
  const size_t bytes;
  const int descriptor;
  const ino_t inode;  // the same in every process, and no other memory's

 private:
  Allocation(Device *device, Kind kind, uint32_t host_number, size_t bytes, int descriptor, ino_t inode)
      : kind(kind), host_number(host_number), bytes(bytes), descriptor(descriptor), inode(inode), device_(device) {}

  Device *const device_;  // null: another process allocated it
};

}  // namespace sim

#endif
