// Two-shot all-reduce: two exchanges, 2 / n of the bytes of one-shot. The message is cut into n chunks
// of chunk_packets packets; rank r owns chunk r (the last chunks may be short or empty).
//
//   1. For every packet of every peer's chunk: load it from the input, send it to the owner.
//   2. For every packet of our own chunk: wait for it from all peers, reduce in rank order with our
//      own, write the output, send the result to all peers.
//   3. For every packet of every peer's chunk: wait for the owner's result, write the output.
//
// Nothing in step 1 waits, so the wire is busy from the start, and a packet of step 2 or 3 waits only
// for its own. A tile is 1 << tile_log2 packets of every chunk; block b takes tiles b, b + grid, ...
//
// Who writes, who reads: slot [0][sender][packet] of an inbox is written by the thread of `sender`
// that has (packet, us) in step 1, once an epoch, and read and cleaned by our thread that has
// `packet` in step 2; slot [1][owner][packet] is written by the owner's thread of step 2, and read and
// cleaned by our thread that has (packet, owner) in step 3. Input and output are touched by this rank
// alone. In place: output of our own chunk is written by the thread that loaded that packet of the
// input; output of a peer's chunk only after the owner's result came, for which the owner needed
// that packet of our input: it had been loaded.
//
// Order: see device/packet.h for the packets and device/epoch.h for the epoch. A rank whose chunk is
// empty hears from no peer in step 2, but what it hears in step 3 comes from an owner that heard from
// every rank in this epoch, so an earlier launch is over everywhere all the same.
#ifndef DIME_KERNELS_ALLREDUCE_TWO_SHOT_H
#define DIME_KERNELS_ALLREDUCE_TWO_SHOT_H

#include "../device/exchange.h"
#include "../device/message.h"
#include "../device/reduce.h"

namespace dime {

template <class Packet, class Reduction, int RANKS>
DIME_DEVICE void two_shot(const dime_args &args) {
  await_stream();
  const uint32_t ranks = RankCount<RANKS>::of(args);
  const uint32_t rank = args.rank;
  const uint64_t own_inbox = args.inbox[rank];
  SpinGuard guard(args.mailbox);
  const Ticket ticket(args, own_inbox);
  const LaunchStart start = ticket.start(ticket.await(guard));
  const uint32_t epoch = start.epoch;
  clear_stale_slice(own_inbox, start);

  typedef typename Packet::Data Data;
  const Message<Packet::WORDS> input(args.input, args.bytes), output(args.output, args.bytes);
  const uint32_t chunk = args.chunk_packets;
  const uint32_t slots = start.is_stopped ? 0u : chunk;  // of the chunk that this launch serves
  const Slots<Packet> contributions(args, epoch, 0, chunk), results(args, epoch, (ranks - 1u) * chunk, chunk);
  const uint32_t tile = 1u << args.tile_log2;
  const uint32_t first = block_index() << args.tile_log2;
  const uint32_t step = grid_blocks() << args.tile_log2;

  for (uint32_t base = first; base < slots; base += step) {
    for (uint32_t item = thread_index(); item < tile * (ranks - 1u); item += block_threads()) {
      const uint32_t slot = base + (item & (tile - 1u));
      const uint32_t owner = peer_at(rank, (item >> args.tile_log2) + 1u, ranks);
      const uint32_t packet = owner * chunk + slot;
      if (slot >= slots || packet >= args.packets) continue;
      Packet::send(contributions.at(args.inbox[owner], owner, rank, slot), input.load(packet), epoch);
    }
  }

  for (uint32_t base = first; base < slots; base += step) {
    for (uint32_t item = thread_index(); item < tile; item += block_threads()) {
      const uint32_t slot = base + item;
      const uint32_t packet = rank * chunk + slot;
      if (slot >= slots || packet >= args.packets) continue;
      const Data own = input.load(packet);
      const auto place = output.locate(packet);
      Data contribution[RankCount<RANKS>::ARRAY];
      if (!gather<Packet, RANKS>(args, contributions, slot, epoch, guard, own, contribution)) continue;
      const Data result = reduce<Reduction>(contribution, ranks, args.type, args.op);
#pragma unroll
      for (int distance = 1; distance < RankCount<RANKS>::ARRAY; ++distance)
        if (distance < ranks) {
          const uint32_t peer = peer_at(rank, distance, ranks);
          Packet::send(results.at(args.inbox[peer], peer, rank, slot), result, epoch);
        }
      output.store_if(true, place, result);
    }
  }

  for (uint32_t base = first; base < slots; base += step) {
    for (uint32_t item = thread_index(); item < tile * (ranks - 1u); item += block_threads()) {
      const uint32_t slot = base + (item & (tile - 1u));
      const uint32_t owner = peer_at(rank, (item >> args.tile_log2) + 1u, ranks);
      const uint32_t packet = owner * chunk + slot;
      if (slot >= slots || packet >= args.packets) continue;
      const auto place = output.locate(packet);
      Data result;
      const bool is_there = receive<Packet>(args, results.at(own_inbox, rank, owner, slot), owner, epoch, guard, result);
      output.store_if(is_there, place, result);
    }
  }
  ticket.end_and_advance(start, guard);
}

}  // namespace dime

#endif
