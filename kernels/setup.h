// The probe of a communicator's setup, in two kernels. It proves that a peer's stores arrive where this rank
// loads them, over the whole range of scratch, and by the instructions that the all-reduce kernels use.
//
//   1. dime_probe_write: each rank writes a pattern into every peer's scratch.
//   2. The ranks synchronise, in a round of the setup.
//   3. dime_probe_check: each rank compares what every peer has written into its scratch.
//
// The pattern of one sender:
//
//   words             one in every stride of scratch, stored plainly
//   sentinel packets  3.5 KiB in the data region, sent by SentinelPacket
//   LL packets        3.5 KiB in the ll region, sent by LlPacket
//   pairs             3.5 KiB in the data region, stored plainly 16 bytes at a time, as the bulk kernel does
//
// Who writes, who reads: each sender writes slots of its own, at most one thread each, and only the owner of
// the scratch reads them. The checking kernel also writes the report on its sender, in the first stride.
//
// Order: the writing kernel of every rank has ended before the ranks synchronise, and the checking kernel
// starts after that. So each slot is loaded once, without a spin.
#ifndef DIME_KERNELS_SETUP_H
#define DIME_KERNELS_SETUP_H

#include "layout.h"
#include <backend/entry.h>
#include <backend/grid.h>
#include "device/ordered.h"
#include "device/packet.h"

namespace dime {

// What rank `from` writes into the scratch of rank `to`. Offsets are in bytes, within scratch.
struct ProbePattern {
  uint32_t from, to;
  uint64_t salt;

  static const uint32_t PACKETS = (DIME_PROBE_STRIDE - DIME_PROBE_PACKETS_OFFSET) / 16u;  // of each kind
  static const uint64_t WORDS = DIME_SCRATCH_BYTES / DIME_PROBE_STRIDE;

  DIME_DEVICE uint64_t word(uint64_t offset) const {
    uint64_t x = salt + offset / 8u * 0x9e3779b97f4a7c15ull + (uint64_t(from) << 56 | uint64_t(to) << 48);
    x ^= x >> 31;
    x *= 0xbf58476d1ce4e5b9ull;
    return x ^ (x >> 29);
  }
  DIME_DEVICE uint32_t epoch() const { return uint32_t(salt) | 1u; }

  DIME_DEVICE uint64_t word_offset(uint64_t index) const { return index * DIME_PROBE_STRIDE + 8u * from; }
  // `stride`: that of rank 0 for this kind of packets; those of the other ranks follow.
  DIME_DEVICE uint64_t packet_offset(uint64_t stride, uint32_t index) const {
    return (stride + from) * DIME_PROBE_STRIDE + DIME_PROBE_PACKETS_OFFSET + 16u * index;
  }
  DIME_DEVICE uint64_t sentinel_offset(uint32_t index) const { return packet_offset(0, index); }
  DIME_DEVICE uint64_t pair_offset(uint32_t index) const { return packet_offset(DIME_MAX_RANKS, index); }
  DIME_DEVICE uint64_t ll_offset(uint32_t index) const { return packet_offset(DIME_LL_OFFSET / DIME_PROBE_STRIDE, index); }

  DIME_DEVICE Pair pair(uint64_t offset) const { return {word(offset), word(offset + 8u)}; }
  DIME_DEVICE SentinelPacket::Data sentinel_data(uint64_t offset) const { return {{word(offset), word(offset + 8u)}}; }
  DIME_DEVICE LlPacket::Data ll_data(uint64_t offset) const { return {{word(offset)}}; }

  // What the packets look like in their slots.
  DIME_DEVICE Pair sentinel_slot(uint64_t offset) const {
    return {SentinelPacket::sendable(word(offset)), SentinelPacket::sendable(word(offset + 8u))};
  }
  DIME_DEVICE Pair ll_slot(uint64_t offset) const {
    const uint64_t data = word(offset), flag = uint64_t(epoch()) << 32;
    return {(data & 0xffffffffu) | flag, data >> 32 | flag};
  }
};

// The report on a sender. Its first differing word is the one whose thread adds the first to the count.
class ProbeReport {
 public:
  DIME_DEVICE explicit ProbeReport(uint64_t address) : address_(address) {}

  DIME_DEVICE void compare(uint64_t offset, uint64_t expected, uint64_t found) const {
    if (found == expected || fetch_add_relaxed_u32(address_, 1u) != 0) return;
    store_plain<uint64_t>(address_ + 8u, offset);
    store_plain<uint64_t>(address_ + 16u, expected);
    store_plain<uint64_t>(address_ + 24u, found);
  }
  DIME_DEVICE void compare(uint64_t offset, Pair expected, Pair found) const {
    compare(offset, expected.lo, found.lo);
    compare(offset + 8u, expected.hi, found.hi);
  }

 private:
  uint64_t address_;
};

}  // namespace dime

extern "C" __global__ void dime_probe_write(uint64_t scratch, uint32_t from, uint32_t to, uint64_t salt) {
  using namespace dime;
  const ProbePattern pattern = {from, to, salt};
  const uint32_t step = grid_blocks() * block_threads();
  const uint32_t first = block_index() * block_threads() + thread_index();
  for (uint64_t index = first; index < ProbePattern::WORDS; index += step) {
    const uint64_t offset = pattern.word_offset(index);
    store_plain(scratch + offset, pattern.word(offset));
  }
  for (uint32_t index = first; index < ProbePattern::PACKETS; index += step) {
    const uint64_t sentinel = pattern.sentinel_offset(index), pair = pattern.pair_offset(index), ll = pattern.ll_offset(index);
    SentinelPacket::send(scratch + sentinel, pattern.sentinel_data(sentinel), 0);
    LlPacket::send(scratch + ll, pattern.ll_data(ll), pattern.epoch());
    store_plain_pair(scratch + pair, pattern.pair(pair));
  }
}
DIME_ENTRY(dime_probe_write)

// Writes what differs from the pattern into the struct dime_probe_report at `report`, which is all zeros.
extern "C" __global__ void dime_probe_check(uint64_t scratch, uint32_t from, uint32_t to, uint64_t salt,
                                            uint64_t report) {
  using namespace dime;
  const ProbePattern pattern = {from, to, salt};
  const ProbeReport on_sender(report);
  const uint32_t step = grid_blocks() * block_threads();
  const uint32_t first = block_index() * block_threads() + thread_index();
  for (uint64_t index = first; index < ProbePattern::WORDS; index += step) {
    const uint64_t offset = pattern.word_offset(index);
    on_sender.compare(offset, pattern.word(offset), load_plain<uint64_t>(scratch + offset));
  }
  for (uint32_t index = first; index < ProbePattern::PACKETS; index += step) {
    const uint64_t sentinel = pattern.sentinel_offset(index), pair = pattern.pair_offset(index), ll = pattern.ll_offset(index);
    on_sender.compare(sentinel, pattern.sentinel_slot(sentinel), load_relaxed_sys(scratch + sentinel));
    on_sender.compare(ll, pattern.ll_slot(ll), load_relaxed_sys(scratch + ll));
    on_sender.compare(pair, pattern.pair(pair), load_plain_pair(scratch + pair));
  }
}
DIME_ENTRY(dime_probe_check)

#endif
