// Two-shot all-reduce, two exchanges, 2 / n of the bytes of one-shot. The message has n chunks of
// chunk_packets packets. Rank r owns chunk r; the last chunks may be short or empty.
//
//   1. For each packet of each peer's chunk: load it from the input, send it to the chunk's owner.
//   2. For each packet of the own chunk: wait for it from all peers, reduce in rank order with this rank's
//      own, send the result to all peers, store it to the output.
//   3. For each packet of each peer's chunk: wait for the owner's result, store it to the output.
//
// Step 1 waits for nothing, so the links are busy from the start. In steps 2 and 3 a packet waits only for
// packets of its own number. A tile is 1 << tile_log2 packets of every chunk; block b takes tiles b, b +
// grid, b + 2 grid, ...
//
// Who writes, who reads: slot [0][sender][packet] of an inbox is written once an epoch, by the thread of
// `sender` that has (packet, inbox's owner) in step 1; the owner's thread that has `packet` in step 2 reads
// and cleans it. Slot [1][owner][packet] is written once an epoch, by the chunk owner's thread that has
// `packet` in step 2; the thread of the inbox's rank that has (packet, owner) in step 3 reads and cleans it.
// Input and output are accessed by this rank alone.
//
// In place: a packet of the own chunk is stored by the thread that has loaded it. A packet of a peer's chunk
// is stored only after the owner's result has arrived; for that the owner needed this rank's packet, so it
// had been loaded.
//
// Order: device/packet.h for the packets, device/epoch.h for the epoch. The argument there, that a peer's
// previous launch has ended, needs a packet from every rank. A rank whose chunk is empty gets none from its
// peers in step 2. But in step 3 it hears from an owner that has heard from every rank in this epoch.
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
  const uint32_t slots = start.is_stopped ? 0u : chunk;  // of each chunk that this launch handles
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
      const auto destination = output.locate(packet);
      Data contribution[RankCount<RANKS>::ARRAY];
      if (!gather<Packet, RANKS>(args, contributions, slot, epoch, guard, own, contribution)) continue;
      const Data result = reduce<Reduction>(contribution, ranks, args.type, args.op);
#pragma unroll
      for (int distance = 1; distance < RankCount<RANKS>::ARRAY; ++distance)
        if (distance < ranks) {
          const uint32_t peer = peer_at(rank, distance, ranks);
          Packet::send(results.at(args.inbox[peer], peer, rank, slot), result, epoch);
        }
      output.store_if(true, destination, result);
    }
  }

  for (uint32_t base = first; base < slots; base += step) {
    for (uint32_t item = thread_index(); item < tile * (ranks - 1u); item += block_threads()) {
      const uint32_t slot = base + (item & (tile - 1u));
      const uint32_t owner = peer_at(rank, (item >> args.tile_log2) + 1u, ranks);
      const uint32_t packet = owner * chunk + slot;
      if (slot >= slots || packet >= args.packets) continue;
      const auto destination = output.locate(packet);
      Data result;
      const bool has_arrived = receive<Packet>(args, results.at(own_inbox, rank, owner, slot), owner, epoch, guard, result);
      output.store_if(has_arrived, destination, result);
    }
  }
  ticket.end_and_advance(start, guard);
}

}  // namespace dime

#endif
