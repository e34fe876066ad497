// What the all-reduce kernels share: where a launch's slots are, and waiting for one packet of every
// peer.
#ifndef DIME_KERNELS_DEVICE_EXCHANGE_H
#define DIME_KERNELS_DEVICE_EXCHANGE_H

#include "../layout.h"
#include "epoch.h"
#include <backend/grid.h>
#include "packet.h"
#include "spin.h"

namespace dime {

// RANKS is the number of ranks when known at compile time, or 0. ARRAY is how many contributions
// the registers hold.
template <int RANKS>
struct RankCount {
  static const int ARRAY = RANKS == 0 ? DIME_MAX_RANKS : RANKS;
  DIME_DEVICE static uint32_t of(const dime_args &args) { return RANKS == 0 ? args.ranks : uint32_t(RANKS); }
};

// (rank + distance) mod ranks. Rank r starts with peer r + 1, so that no peer is everyone's first.
DIME_DEVICE uint32_t peer_at(uint32_t rank, uint32_t distance, uint32_t ranks) {
  uint32_t peer = rank + distance;
  return peer >= ranks ? peer - ranks : peer;
}

// The slots of one exchange of a launch: [sender place][packet], `stride` packets a sender.
template <class Packet>
class Slots {
 public:
  DIME_DEVICE Slots(const dime_args &args, uint32_t epoch, uint32_t first_packet, uint32_t stride)
      : offset_(parity_offset(epoch) + Packet::REGION_OFFSET + uint64_t(first_packet) * Packet::SLOT_BYTES),
        stride_(stride) {}

  // The slot in an inbox for `packet` of the sender at `place`.
  DIME_DEVICE uint64_t at_index(uint64_t inbox, uint32_t place, uint32_t packet) const {
    return inbox + offset_ + (uint64_t(place) * stride_ + packet) * Packet::SLOT_BYTES;
  }

  // The slot at `receiver`, whose lane is mapped at `inbox`, for `packet` of `sender`.
  DIME_DEVICE uint64_t at(uint64_t inbox, uint32_t receiver, uint32_t sender, uint32_t packet) const {
    return at_index(inbox, sender_index(sender, receiver), packet);
  }

 private:
  uint64_t offset_;
  uint32_t stride_;
};

// Waits for `packet` of every peer and puts the payloads in rank order around our own; cleans the
// slots. All loads are in flight together. False: this thread gave up a wait, now or before, and what it has is worthless.
//
// Where the number of ranks is compiled in, the loops go over places: the peers in rank order, without this rank. Loops over ranks would
// have every load under a condition. Where it is not, they are under one anyway, and to move what came to its rank's place costs more.
template <class Packet, int RANKS>
DIME_DEVICE bool gather(const dime_args &args, const Slots<Packet> &slots, uint32_t packet, uint32_t epoch,
                        SpinGuard &guard, typename Packet::Data own,
                        typename Packet::Data (&contribution)[RankCount<RANKS>::ARRAY]) {
  typedef typename Packet::Data Data;
  const bool BY_INDEX = RANKS != 0;
  const int ARRAY = RankCount<RANKS>::ARRAY, COUNT = BY_INDEX ? ARRAY - 1 : ARRAY;
  const uint32_t ranks = RankCount<RANKS>::of(args);
  const uint32_t rank = args.rank;
  const uint64_t inbox = args.inbox[rank];
  const auto is_peer = [&](int index) { return BY_INDEX || (index < ranks && index != rank); };
  const auto sender = [&](int index) { return BY_INDEX ? sender_at(index, rank) : uint32_t(index); };
  const auto slot = [&](int index) {
    return BY_INDEX ? slots.at_index(inbox, index, packet) : slots.at(inbox, rank, index, packet);
  };
  Pair pair[COUNT];
  for (;;) {
    bool all;
    do {
#pragma unroll
      for (int index = 0; index < COUNT; ++index)
        if (is_peer(index)) pair[index] = load_relaxed_sys(slot(index));
      all = true;
#pragma unroll
      for (int index = 0; index < COUNT; ++index)
        if (is_peer(index)) all = all && Packet::arrived(pair[index], epoch);
    } while (!all && guard.keep_spinning());
    if (!guard.takes_report_request()) break;
#pragma unroll
    for (int index = 0; index < COUNT; ++index)
      if (is_peer(index) && !Packet::arrived(pair[index], epoch)) report_wait(args, epoch, sender(index));
  }
#pragma unroll
  for (int peer = 0; peer < ARRAY; ++peer) {
    if (BY_INDEX) {
      const Data before = Packet::data(pair[peer < COUNT ? peer : 0]), behind = Packet::data(pair[peer > 0 ? peer - 1 : 0]);
      contribution[peer] = peer < rank ? before : peer > rank ? behind : own;
      if (peer < COUNT) Packet::clean(slot(peer));
    } else if (is_peer(peer)) {
      contribution[peer] = Packet::data(pair[peer]);
      Packet::clean(slot(peer));
    } else {
      contribution[peer] = own;
    }
  }
  return !guard.gave_up();
}

// Waits for one packet of one sender, and cleans its slot. False: as above.
template <class Packet>
DIME_DEVICE bool receive(const dime_args &args, uint64_t slot, uint32_t sender, uint32_t epoch, SpinGuard &guard,
                         typename Packet::Data &data) {
  Pair pair;
  for (;;) {
    do {
      pair = load_relaxed_sys(slot);
    } while (!Packet::arrived(pair, epoch) && guard.keep_spinning());
    if (!guard.takes_report_request()) break;
    report_wait(args, epoch, sender);
  }
  Packet::clean(slot);
  data = Packet::data(pair);
  return !guard.gave_up();
}

}  // namespace dime

#endif
