// A pipe from one rank to another (or to itself), in the shared memory of a communicator.
//
// The sender alone writes `produced_` and the ring between the two positions, the receiver alone `consumed_`. Each
// position is released by its writer and acquired by the other side, which orders the bytes in the ring. Both are
// multiples of UNIT: an element never straddles the end of the ring, and neither does a header.
#ifndef DIME_SIM_NCCL_PIPE_H
#define DIME_SIM_NCCL_PIPE_H

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace sim {

class Pipe {
 public:
  static constexpr size_t CAPACITY_BYTES = 256 << 10;
  static constexpr size_t UNIT_BYTES = 16;

  struct Run {
    const char *bytes;
    size_t length;
  };

  // For the sender: how many bytes fit.
  size_t room() const {
    const uint64_t produced = produced_.load(std::memory_order_relaxed);
    return CAPACITY_BYTES - size_t(produced - consumed_.load(std::memory_order_acquire));
  }

  // For the sender: no more bytes than there is room. Only the last write of a message may be no multiple of UNIT.
  void write(const void *from, size_t bytes) {
    const uint64_t produced = produced_.load(std::memory_order_relaxed);
    const size_t at = produced % CAPACITY_BYTES;
    const size_t before_end = std::min(bytes, CAPACITY_BYTES - at);
    memcpy(ring_ + at, from, before_end);
    memcpy(ring_, static_cast<const char *>(from) + before_end, bytes - before_end);
    produced_.store(produced + in_units(bytes), std::memory_order_release);
  }

  // For the receiver: what has arrived, up to the end of the ring.
  Run arrived() const {
    const uint64_t consumed = consumed_.load(std::memory_order_relaxed);
    const size_t waiting = size_t(produced_.load(std::memory_order_acquire) - consumed);
    const size_t at = consumed % CAPACITY_BYTES;
    return {ring_ + at, std::min(waiting, CAPACITY_BYTES - at)};
  }

  // For the receiver: these bytes are no longer needed. As with `write`, only the last ones of a message may be uneven.
  void discard(size_t bytes) {
    consumed_.store(consumed_.load(std::memory_order_relaxed) + in_units(bytes), std::memory_order_release);
  }

 private:
  static size_t in_units(size_t bytes) { return (bytes + UNIT_BYTES - 1) / UNIT_BYTES * UNIT_BYTES; }

  alignas(64) std::atomic<uint64_t> produced_;
  alignas(64) std::atomic<uint64_t> consumed_;
  alignas(64) char ring_[CAPACITY_BYTES];
};

}  // namespace sim

#endif
