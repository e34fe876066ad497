// One-shot all-reduce, one exchange: each rank sends its whole message to every peer, and reduces everything
// itself. With two ranks one_shot_pair.h does it.
//
//   1. For each packet of the block's tiles and each peer: load the packet from the input, send it to the
//      peer.
//   2. Block barrier.
//   3. For each packet of the block's tiles: wait for it from all peers, reduce in rank order with this
//      rank's own, store the result to the output.
//
// The barrier has two reasons. A thread of step 3 may overwrite the input (in place), so all threads of the
// block must have loaded it for step 1. And the block advances the epoch words after the barrier, so all
// threads must have read theirs.
//
// A tile is 1 << tile_log2 consecutive packets; block b takes tiles b, b + grid, b + 2 grid, ... An item of
// step 1 is one packet for the rank at one distance, an item of step 3 one packet. Distance 0 is this rank
// itself, so those items have nothing to send.
//
// Who writes, who reads: slot [sender][packet] of an inbox is written once an epoch, by the thread of
// `sender` that has the item (packet, inbox's owner). The owner's thread that has `packet` in step 3 reads
// and cleans it. Input and output are accessed by this rank alone: several threads of one block load a packet
// before the barrier; after it one thread of that block loads and stores it.
//
// Order: device/packet.h for the packets, device/epoch.h for the epoch.
#ifndef DIME_KERNELS_ALLREDUCE_ONE_SHOT_H
#define DIME_KERNELS_ALLREDUCE_ONE_SHOT_H

#include "../device/exchange.h"
#include "../device/message.h"
#include "../device/reduce.h"

namespace dime {

template <class Packet, class Reduction, int RANKS>
DIME_DEVICE void one_shot(const dime_args &args) {
  await_stream();
  const uint32_t ranks = RankCount<RANKS>::of(args);
  const uint32_t rank = args.rank;
  const uint64_t own_inbox = args.inbox[rank];
  SpinGuard guard(args.mailbox);
  const Ticket ticket(args, own_inbox);
  const uint32_t stopped = ticket.await(guard);

  typedef typename Packet::Data Data;
  const Message<Packet::WORDS> input(args.input, args.bytes), output(args.output, args.bytes);
  const uint32_t tile = 1u << args.tile_log2;
  const uint32_t first = block_index() << args.tile_log2;
  const uint32_t step = grid_blocks() << args.tile_log2;

  // This thread's first packet, the same in steps 1 and 3. Its load overlaps with that of the epoch word.
  const Ticket::Words words = ticket.words();
  const uint32_t first_packet = first + (thread_index() & (tile - 1u));
  Data first_data = {};
  if (first_packet < args.packets) first_data = input.load(first_packet);
  const LaunchStart start = ticket.start(stopped, words);
  const uint32_t epoch = start.epoch;
  clear_stale_slice(own_inbox, start);
  const Slots<Packet> slots(args, epoch, 0, args.packets);
  const uint32_t packets = start.is_stopped ? 0u : args.packets;

  for (uint32_t base = first; base < packets; base += step) {
    for (uint32_t item = thread_index(); item < tile * ranks; item += block_threads()) {
      const uint32_t packet = base + (item & (tile - 1u));
      const uint32_t distance = item >> args.tile_log2;
      if (packet >= packets || distance == 0) continue;
      const uint32_t peer = peer_at(rank, distance, ranks);
      const Data data = packet == first_packet ? first_data : input.load(packet);
      Packet::send(slots.at(args.inbox[peer], peer, rank, packet), data, epoch);
    }
  }
  block_barrier();
  ticket.advance(epoch);

  Data own = first_data;
  for (uint32_t base = first; base < packets; base += step) {
    for (uint32_t item = thread_index(); item < tile; item += block_threads()) {
      const uint32_t packet = base + item;
      if (packet >= packets) continue;
      if (packet != first_packet) own = input.load(packet);
      Data contribution[RankCount<RANKS>::ARRAY];
      const auto destination = output.locate(packet);
      const bool has_arrived = gather<Packet, RANKS>(args, slots, packet, epoch, guard, own, contribution);
      const Data result = reduce<Reduction>(contribution, ranks, args.type, args.op);
      output.store_if(has_arrived, destination, result);
    }
  }
  ticket.end(start, guard);
}

}  // namespace dime

#endif
