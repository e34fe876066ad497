// The two kinds of packets that prove their own arrival. A slot is 16 bytes, two 64-bit words. Each word
// proves its own arrival, so the protocol needs neither an order between the words nor a fence.
//
//   LlPacket        8 data bytes, sent as {data32, epoch32} twice. A word has arrived when its epoch is the
//                   launch's. Takes any data, costs twice the bytes on the wire, and needs no cleaning: a
//                   slot with an old epoch is free.
//   SentinelPacket  16 data bytes. A word has arrived when it is not the sentinel, 64 one bits; the reader
//                   puts the sentinel back. The sentinel is a NaN in every float type. A sender flips the top
//                   bit of a payload word that equals it, which leaves a NaN. Integers have no value to spare
//                   for a sentinel.
//
// Who writes, who reads: the sender that a slot belongs to writes it once an epoch (relaxed, system scope). A
// thread of the inbox's owner polls it (relaxed, system scope), and cleans a sentinel slot with a plain
// store.
//
// Order: a slot of epoch e is written again in epoch e + 2. By then it was read and cleaned:
//
//   1. The sender has finished its launch e + 1.
//   2. For that it needed a packet that the reader sent in the reader's launch e + 1.
//   3. That launch began after the reader's launch e had ended.
//
// Packets are relaxed, so by the letter of the PTX model this chain orders nothing. Two facts carry it: the
// end of a launch completes all its accesses before the next launch begins, and a load cannot return what is
// stored later in time. docs/kernels.md says what a fence instead would cost.
#ifndef DIME_KERNELS_DEVICE_PACKET_H
#define DIME_KERNELS_DEVICE_PACKET_H

#include "../layout.h"
#include "ordered.h"

namespace dime {

const uint64_t SENTINEL = ~uint64_t(0);

// The payload of a packet: W words of 8 bytes each.
template <int W>
struct Words {
  uint64_t word[W];
};

struct LlPacket {
  static const int WORDS = 1;
  static const uint32_t BYTES = 8;
  static const uint32_t SLOT_BYTES = 16;
  static const uint32_t REGION_OFFSET = DIME_LL_OFFSET;
  typedef Words<WORDS> Data;

  DIME_DEVICE static void send(uint64_t slot, Data data, uint32_t epoch) {
    uint64_t flag = uint64_t(epoch) << 32;
    Pair pair = {(data.word[0] & 0xffffffffu) | flag, (data.word[0] >> 32) | flag};
    store_relaxed_sys(slot, pair);
  }
  DIME_DEVICE static bool arrived(Pair pair, uint32_t epoch) {
    return uint32_t(pair.lo >> 32) == epoch && uint32_t(pair.hi >> 32) == epoch;
  }
  DIME_DEVICE static Data data(Pair pair) {
    Data data = {{(pair.lo & 0xffffffffu) | (pair.hi << 32)}};
    return data;
  }
  DIME_DEVICE static void clean(uint64_t) {}
};

struct SentinelPacket {
  static const int WORDS = 2;
  static const uint32_t BYTES = 16;
  static const uint32_t SLOT_BYTES = 16;
  static const uint32_t REGION_OFFSET = 0;
  typedef Words<WORDS> Data;

  DIME_DEVICE static uint64_t sendable(uint64_t word) { return word == SENTINEL ? SENTINEL >> 1 : word; }

  DIME_DEVICE static void send(uint64_t slot, Data data, uint32_t) {
    Pair pair = {sendable(data.word[0]), sendable(data.word[1])};
    store_relaxed_sys(slot, pair);
  }
  DIME_DEVICE static bool arrived(Pair pair, uint32_t) { return pair.lo != SENTINEL && pair.hi != SENTINEL; }
  DIME_DEVICE static Data data(Pair pair) {
    Data data = {{pair.lo, pair.hi}};
    return data;
  }
  DIME_DEVICE static void clean(uint64_t slot) {
    Pair pair = {SENTINEL, SENTINEL};
    store_plain_pair(slot, pair);
  }
};

// The index of rank `sender` among the peers of rank `receiver`: the ranks in order, without the receiver.
DIME_DEVICE uint32_t sender_index(uint32_t sender, uint32_t receiver) { return sender - (sender > receiver ? 1u : 0u); }

// The inverse: the rank with sender index `index` at rank `receiver`.
DIME_DEVICE uint32_t sender_at(uint32_t index, uint32_t receiver) { return index + (index >= receiver ? 1u : 0u); }

}  // namespace dime

#endif
