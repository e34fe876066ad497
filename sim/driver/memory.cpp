#include "memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "bad_link.h"
#include "device.h"
#include "driver.h"
#include "failure.h"

namespace sim {

namespace {

constexpr size_t PAGE_BYTES = 4096;

size_t whole_pages(size_t bytes) { return (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES; }

// What a CUipcMemHandle holds: the process that allocated the memory, and its descriptor there.
struct SharedMemory {
  char magic[8];
  int32_t process;
  int32_t descriptor;
  uint64_t inode;
};
static_assert(sizeof(SharedMemory) <= sizeof(CUipcMemHandle));
constexpr char MAGIC[8] = {'d', 'i', 'm', 'e', ' ', 'i', 'p', 'c'};

}  // namespace

uint64_t Memory::allocate(Context &context, size_t bytes) {
  require(bytes != 0);
  require(bytes <= context.device.description.memory_bytes, CUDA_ERROR_OUT_OF_MEMORY);
  bytes = whole_pages(bytes);
  auto allocation = Allocation::create(context.device, Allocation::Kind::Plain, bytes);
  const uint64_t address = allocation->map(bytes, PROT_READ | PROT_WRITE, nullptr, CUDA_ERROR_OUT_OF_MEMORY);
  ranges_[address] = {bytes, &context, std::move(allocation), 0, false};
  return address;
}

// As the driver does, it waits for the device first.
void Memory::free(uint64_t address, Lock &lock) {
  auto range = ranges_.find(address);
  require(range != ranges_.end() && range->second.allocation && range->second.opens == 0);
  range->second.context->device.engine.synchronize(lock);
  // Another thread may have freed it meanwhile.
  range = ranges_.find(address);
  require(range != ranges_.end());
  if (range->second.allocation->is_open_elsewhere()) {
    // What CUDA says must not be done, and what it does then is undefined.
    fputs("dime sim: cuMemFree of memory that another process has open\n", stderr);
    abort();
  }
  unmap(range);
}

void *Memory::allocate_host(Context &context, size_t bytes) {
  require(bytes != 0);
  bytes = whole_pages(bytes);
  void *address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  require(address != MAP_FAILED, CUDA_ERROR_OUT_OF_MEMORY);
  ranges_[uint64_t(address)] = {bytes, &context, nullptr, 0, false};
  return address;
}

void Memory::free_host(void *address, Lock &lock) {
  auto range = ranges_.find(uint64_t(address));
  require(range != ranges_.end() && !range->second.allocation && !range->second.is_registered);
  for (const auto &device : Driver::instance().devices) device->engine.synchronize(lock);
  range = ranges_.find(uint64_t(address));
  require(range != ranges_.end());
  unmap(range);
}

void Memory::register_host(Context &context, void *address, size_t bytes) {
  require(bytes != 0 && uint64_t(address) % PAGE_BYTES == 0 && bytes % PAGE_BYTES == 0);
  for (const auto &[begin, range] : ranges_)
    require(begin >= uint64_t(address) + bytes || begin + range.bytes <= uint64_t(address),
            CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
  ranges_[uint64_t(address)] = {bytes, &context, nullptr, 0, true};
}

bool Memory::is_pinned(const void *address, size_t bytes) const {
  auto range = range_around(uint64_t(address), bytes);
  return range != ranges_.end() && !range->second.allocation;
}

CUipcMemHandle Memory::share(uint64_t address) const {
  auto range = ranges_.find(address);
  require(range != ranges_.end() && range->second.allocation && range->second.opens == 0);
  SharedMemory shared{};
  memcpy(shared.magic, MAGIC, sizeof MAGIC);
  shared.process = getpid();
  shared.descriptor = range->second.allocation->descriptor;
  shared.inode = range->second.allocation->inode;
  CUipcMemHandle handle{};
  memcpy(handle.reserved, &shared, sizeof shared);
  return handle;
}

uint64_t Memory::open(Context &context, const CUipcMemHandle &handle) {
  SharedMemory shared;
  memcpy(&shared, handle.reserved, sizeof shared);
  require(memcmp(shared.magic, MAGIC, sizeof MAGIC) == 0, CUDA_ERROR_INVALID_HANDLE);
  require(shared.process != getpid(), CUDA_ERROR_INVALID_CONTEXT);

  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd/%d", shared.process, shared.descriptor);
  const int descriptor = ::open(path, O_RDWR | O_CLOEXEC);
  require(descriptor >= 0, CUDA_ERROR_INVALID_HANDLE);
  auto allocation = Allocation::adopt(descriptor);
  // Freed meanwhile: the descriptor may be something else's.
  require(allocation && allocation->inode == shared.inode, CUDA_ERROR_INVALID_HANDLE);
  allocation->mark_as_open();

  const Driver &driver = Driver::instance();
  require(driver.sees(allocation->host_number), CUDA_ERROR_INVALID_DEVICE);
  require(driver.reaches(context.device, allocation->host_number), CUDA_ERROR_PEER_ACCESS_UNSUPPORTED);
  for (auto &[address, range] : ranges_) {
    if (range.opens == 0 || range.context != &context || range.allocation->inode != shared.inode) continue;
    range.opens += 1;
    return address;
  }
  const size_t bytes = allocation->bytes;
  const uint64_t address = allocation->map(bytes, PROT_READ | PROT_WRITE, nullptr, CUDA_ERROR_MAP_FAILED);
  ranges_[address] = {bytes, &context, std::move(allocation), 1, false};
  return address;
}

void Memory::close(uint64_t address, Lock &lock) {
  auto range = ranges_.find(address);
  require(range != ranges_.end() && range->second.opens != 0);
  range->second.context->device.engine.synchronize(lock);
  range = ranges_.find(address);
  require(range != ranges_.end() && range->second.opens != 0);
  if (--range->second.opens == 0) unmap(range);
}

bool Memory::covers(uint64_t address, size_t bytes) const { return range_around(address, bytes) != ranges_.end(); }

void Memory::free_all_of(const Context &context) {
  for (auto range = ranges_.begin(); range != ranges_.end();) {
    auto next = std::next(range);
    if (range->second.context == &context) unmap(range);
    range = next;
  }
}

Memory::Ranges::const_iterator Memory::range_around(uint64_t address, size_t bytes) const {
  auto range = ranges_.upper_bound(address);
  if (range == ranges_.begin()) return ranges_.end();
  --range;
  const uint64_t offset = address - range->first;
  return offset <= range->second.bytes && bytes <= range->second.bytes - offset ? range : ranges_.end();
}

void Memory::unmap(Ranges::iterator range) {
  bad_link::unmapped(range->first);
  if (!range->second.is_registered) munmap(reinterpret_cast<void *>(range->first), range->second.bytes);
  ranges_.erase(range);
}

}  // namespace sim
