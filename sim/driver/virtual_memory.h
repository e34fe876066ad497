// Virtual memory management: reserved addresses, and allocations mapped there. What is mapped cannot be touched until
// access is set. The rights of the devices that see one address are the process's, so one that has access gives it to
// all. Who unmaps waits for the devices that have access, as the real driver may; with DIME_SIM_UNMAP_WAITS=0 it
// does not, as the real one need not: then whoever touches what is gone ends.
#ifndef DIME_SIM_DRIVER_VIRTUAL_MEMORY_H
#define DIME_SIM_DRIVER_VIRTUAL_MEMORY_H

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "allocation.h"
#include "lock.h"

namespace sim {

class VirtualMemory {
 public:
  static constexpr size_t GRANULARITY_BYTES = 2 << 20;
  static bool is_granular(uint64_t bytes) { return bytes != 0 && bytes % GRANULARITY_BYTES == 0; }

  // `alignment_bytes`: 0, or a power of two.
  uint64_t reserve(size_t bytes, size_t alignment_bytes);
  void free(uint64_t address, size_t bytes);
  void map(uint64_t address, size_t bytes, std::shared_ptr<Allocation> allocation);
  void unmap(uint64_t address, size_t bytes, Lock &lock);
  void set_access(uint64_t address, size_t bytes, const CUmemAccessDesc &access);

  // Whether all of this is mapped, with access.
  bool covers(uint64_t address, size_t bytes) const;

 private:
  struct Mapping {
    size_t bytes;
    std::shared_ptr<Allocation> allocation;
    std::map<int, int> protection_by_device;

    int protection() const;
  };

  bool is_in_one_reservation(uint64_t address, size_t bytes) const;
  // The addresses of the mappings that make up exactly this range. Fails when none do.
  std::vector<uint64_t> mappings_of(uint64_t address, size_t bytes) const;

  std::map<uint64_t, size_t> reservations_;
  std::map<uint64_t, Mapping> mappings_;
};

}  // namespace sim

#endif
