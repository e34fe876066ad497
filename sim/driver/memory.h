// Memory as cuMemAlloc, cuMemHostAlloc and cuIpcOpenMemHandle give it, and memory of the application's that the driver registers.
// Addresses are the process's own, so a pointer means the same to the host and to every device; what is freed is unmapped, and
// whoever touches it ends.
//
// As with the real driver, whoever frees waits for the work of the device, and whoever frees memory of the host for that of all
// devices of the process.
#ifndef DIME_SIM_DRIVER_MEMORY_H
#define DIME_SIM_DRIVER_MEMORY_H

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

#include "allocation.h"
#include "context.h"

namespace sim {

class Memory {
 public:
  uint64_t allocate(Context &context, size_t bytes);
  void free(uint64_t address, Lock &lock);

  void *allocate_host(Context &context, size_t bytes);
  void free_host(void *address, Lock &lock);
  // Memory of the application's, until its context ends.
  void register_host(Context &context, void *address, size_t bytes);
  bool is_pinned(const void *address, size_t bytes) const;

  CUipcMemHandle share(uint64_t address) const;
  // The same memory opened twice has one address, and is closed twice.
  uint64_t open(Context &context, const CUipcMemHandle &handle);
  void close(uint64_t address, Lock &lock);

  // Whether a device may be given all of this.
  bool covers(uint64_t address, size_t bytes) const;

  void free_all_of(const Context &context);

 private:
  struct Range {
    size_t bytes;
    Context *context;
    std::shared_ptr<Allocation> allocation;  // null: host memory
    uint32_t opens;                          // 0: not another process's
    bool is_registered = false;              // the application's own
  };
  using Ranges = std::map<uint64_t, Range>;

  Ranges::const_iterator range_around(uint64_t address, size_t bytes) const;
  void unmap(Ranges::iterator range);

  Ranges ranges_;
};

}  // namespace sim

#endif
