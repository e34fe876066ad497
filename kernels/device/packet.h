// The two kinds of packets that carry their own proof of arrival. A slot is 16 bytes, two 64-bit
// words; each word proves itself, so neither order between the words nor a fence is needed.
//
//   LlPacket        8 data bytes: {data32, epoch32} twice. Twice the wire bytes, any data, and
//                   nothing to clean: an old epoch is a free slot.
//   SentinelPacket  16 data bytes: a word that is not all ones has arrived. The reader puts the all
//                   ones back. All ones is a NaN in every float type; a sender flips the top bit of
//                   such a word, which leaves a NaN. Integers have no word to spare.
//
// Who writes, who reads: the peer the slot belongs to writes it once in an epoch (relaxed, system
// scope); threads of the inbox's owner poll it (relaxed, system scope), and clean a sentinel slot with
// a plain store. It is written again two epochs later. By then the reader's launch is over: the
// sender has finished the epoch between, for which it needed a packet that the reader sent only
// after its earlier launch had ended. Packets are relaxed, so in the letter of the model that chain
// carries no order; what carries it is that the end of a launch completes every access of the
// launch before the next one starts. docs/kernels.md has the cost of a fence in its place.
#ifndef DIME_KERNELS_DEVICE_PACKET_H
#define DIME_KERNELS_DEVICE_PACKET_H

#include "../layout.h"
#include "ordered.h"

namespace dime {

const uint64_t SENTINEL = ~uint64_t(0);

// The payload of a packet: W words of 8 bytes.
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

// Where sender's packets lie among those of all senders at receiver.
DIME_DEVICE uint32_t sender_index(uint32_t sender, uint32_t receiver) { return sender - (sender > receiver ? 1u : 0u); }

// The other way.
DIME_DEVICE uint32_t sender_at(uint32_t place, uint32_t receiver) { return place + (place >= receiver ? 1u : 0u); }

}  // namespace dime

#endif
