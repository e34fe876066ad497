#include "virtual_memory.h"

#include <sys/mman.h>

#include <algorithm>

#include "bad_link.h"
#include "driver.h"
#include "failure.h"
#include "variables.h"

namespace sim {

namespace {

void *pointer(uint64_t address) { return reinterpret_cast<void *>(address); }

constexpr int RESERVED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

}  // namespace

int VirtualMemory::Mapping::protection() const {
  int all = PROT_NONE;
  for (const auto &[device, protection] : protection_by_device) all |= protection;
  return all;
}

uint64_t VirtualMemory::reserve(size_t bytes, size_t alignment_bytes) {
  require(is_granular(bytes) && (alignment_bytes & (alignment_bytes - 1)) == 0);
  alignment_bytes = std::max(alignment_bytes, GRANULARITY_BYTES);
  require(bytes <= SIZE_MAX - alignment_bytes, CUDA_ERROR_OUT_OF_MEMORY);
  // More than is wanted, and what sticks out is given back.
  void *whole = mmap(nullptr, bytes + alignment_bytes, PROT_NONE, RESERVED, -1, 0);
  require(whole != MAP_FAILED, CUDA_ERROR_OUT_OF_MEMORY);
  const uint64_t begin = uint64_t(whole), address = (begin + alignment_bytes - 1) & ~uint64_t(alignment_bytes - 1);
  if (address != begin) munmap(whole, address - begin);
  if (begin + alignment_bytes != address) munmap(pointer(address + bytes), begin + alignment_bytes - address);
  reservations_[address] = bytes;
  return address;
}

void VirtualMemory::free(uint64_t address, size_t bytes) {
  auto reservation = reservations_.find(address);
  require(reservation != reservations_.end() && reservation->second == bytes);
  auto mapping = mappings_.lower_bound(address);
  require(mapping == mappings_.end() || mapping->first >= address + bytes);
  munmap(pointer(address), bytes);
  reservations_.erase(reservation);
}

void VirtualMemory::map(uint64_t address, size_t bytes, std::shared_ptr<Allocation> allocation) {
  require(is_granular(bytes) && address % GRANULARITY_BYTES == 0 && bytes <= allocation->bytes);
  require(is_in_one_reservation(address, bytes));
  auto later = mappings_.lower_bound(address);
  require(later == mappings_.end() || later->first >= address + bytes);
  if (later != mappings_.begin()) {
    auto earlier = std::prev(later);
    require(earlier->first + earlier->second.bytes <= address);
  }
  allocation->map(bytes, PROT_NONE, pointer(address), CUDA_ERROR_OUT_OF_MEMORY);
  mappings_[address] = {bytes, std::move(allocation), {}};
}

void VirtualMemory::unmap(uint64_t address, size_t bytes, Lock &lock) {
  std::vector<int> devices;
  static const bool waits = number_variable("DIME_SIM_UNMAP_WAITS", 1, 0, 1) != 0;
  for (uint64_t mapping : mappings_of(address, bytes))
    for (const auto &[device, protection] : mappings_[mapping].protection_by_device) devices.push_back(device);
  if (!waits) devices.clear();
  for (int device : devices) Driver::instance().devices[size_t(device)]->engine.synchronize(lock);
  for (uint64_t mapping : mappings_of(address, bytes)) {
    mmap(pointer(mapping), mappings_[mapping].bytes, PROT_NONE, RESERVED | MAP_FIXED, -1, 0);
    bad_link::unmapped(mapping);
    mappings_.erase(mapping);
  }
}

void VirtualMemory::set_access(uint64_t address, size_t bytes, const CUmemAccessDesc &access) {
  const Driver &driver = Driver::instance();
  require(access.location.id >= 0 && size_t(access.location.id) < driver.devices.size(), CUDA_ERROR_INVALID_DEVICE);
  int protection = PROT_NONE;
  if (access.flags == CU_MEM_ACCESS_FLAGS_PROT_READ) protection = PROT_READ;
  else if (access.flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE) protection = PROT_READ | PROT_WRITE;
  else require(access.flags == CU_MEM_ACCESS_FLAGS_PROT_NONE);

  const std::vector<uint64_t> mappings = mappings_of(address, bytes);
  for (uint64_t mapping : mappings)
    require(driver.reaches(*driver.devices[size_t(access.location.id)], mappings_[mapping].allocation->host_number),
            CUDA_ERROR_INVALID_DEVICE);
  for (uint64_t at : mappings) {
    Mapping &mapping = mappings_[at];
    mapping.protection_by_device[access.location.id] = protection;
    mprotect(pointer(at), mapping.bytes, mapping.protection());
  }
}

bool VirtualMemory::covers(uint64_t address, size_t bytes) const {
  const uint64_t end = address + bytes;
  auto mapping = mappings_.upper_bound(address);
  if (mapping == mappings_.begin()) return false;
  --mapping;
  // One after the other without a gap.
  for (uint64_t at = address; at < end; ++mapping) {
    if (mapping == mappings_.end() || at < mapping->first || at >= mapping->first + mapping->second.bytes) return false;
    if (mapping->second.protection() == PROT_NONE) return false;
    at = mapping->first + mapping->second.bytes;
  }
  return true;
}

bool VirtualMemory::is_in_one_reservation(uint64_t address, size_t bytes) const {
  auto reservation = reservations_.upper_bound(address);
  if (reservation == reservations_.begin()) return false;
  --reservation;
  const uint64_t offset = address - reservation->first;
  return offset <= reservation->second && bytes <= reservation->second - offset;
}

std::vector<uint64_t> VirtualMemory::mappings_of(uint64_t address, size_t bytes) const {
  std::vector<uint64_t> found;
  uint64_t at = address;
  for (auto mapping = mappings_.find(address); at < address + bytes; ++mapping) {
    require(mapping != mappings_.end() && mapping->first == at);
    found.push_back(at);
    at += mapping->second.bytes;
  }
  require(bytes != 0 && at == address + bytes);
  return found;
}

}  // namespace sim
