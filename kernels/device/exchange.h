// What the all-reduce kernels share: where the slots of a launch lie, and waiting for packets of peers.
//
// Who writes, who reads, and the order of accesses: device/packet.h.
#ifndef DIME_KERNELS_DEVICE_EXCHANGE_H
#define DIME_KERNELS_DEVICE_EXCHANGE_H

#include "../layout.h"
#include "epoch.h"
#include <backend/grid.h>
#include "packet.h"
#include "spin.h"

namespace dime {

// RANKS is the number of ranks if it is known at compile time, else 0. ARRAY is the number of contributions
// that a thread holds in registers.
template <int RANKS>
struct RankCount {
  static const int ARRAY = RANKS == 0 ? DIME_MAX_RANKS : RANKS;
  DIME_DEVICE static uint32_t of(const dime_args &args) { return RANKS == 0 ? args.ranks : uint32_t(RANKS); }
};

// (rank + distance) mod ranks. Rank r sends to rank r + 1 first, so that the ranks do not all send to the
// same peer at once.
DIME_DEVICE uint32_t peer_at(uint32_t rank, uint32_t distance, uint32_t ranks) {
  uint32_t peer = rank + distance;
  return peer >= ranks ? peer - ranks : peer;
}

// The slots of one exchange of a launch: [sender index][packet], `stride` packets a sender.
template <class Packet>
class Slots {
 public:
  DIME_DEVICE Slots(const dime_args &args, uint32_t epoch, uint32_t first_packet, uint32_t stride)
      : offset_(parity_offset(epoch) + Packet::REGION_OFFSET + uint64_t(first_packet) * Packet::SLOT_BYTES),
        stride_(stride) {}

  // The slot in an inbox for `packet` of the sender with sender index `index`.
  DIME_DEVICE uint64_t at_index(uint64_t inbox, uint32_t index, uint32_t packet) const {
    return inbox + offset_ + (uint64_t(index) * stride_ + packet) * Packet::SLOT_BYTES;
  }

  // The slot for `packet` of rank `sender` in the inbox of rank `receiver`, whose lane is mapped at `inbox`.
  DIME_DEVICE uint64_t at(uint64_t inbox, uint32_t receiver, uint32_t sender, uint32_t packet) const {
    return at_index(inbox, sender_index(sender, receiver), packet);
  }

 private:
  uint64_t offset_;
  uint32_t stride_;
};

// Waits for `packet` of every peer, and cleans the slots. `contribution` then has all payloads by rank, `own`
// among them. The loads of a round are all in flight together. False: this thread gave up a wait, now or
// before, and `contribution` is worthless.
//
// If the number of ranks is known at compile time, the loops go over sender indices: the peers in rank order,
// without this rank. So no load stands under a condition. If it is not, each load stands under a condition
// anyway, and loops over ranks save moving each payload to its rank's entry.
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
      const Data from_lower = Packet::data(pair[peer < COUNT ? peer : 0]), from_higher = Packet::data(pair[peer > 0 ? peer - 1 : 0]);
      contribution[peer] = peer < rank ? from_lower : peer > rank ? from_higher : own;
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

// Waits for one packet of one sender, and cleans its slot. False: this thread gave up a wait, now or before,
// and `data` is worthless.
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
