// One-shot all-reduce: one exchange. Everybody sends its whole message to everybody and reduces all
// of them itself.
//
//   1. For every packet of the block's tiles and every peer: load the packet, send it to the peer.
//   2. Block barrier: all that others of the block send of a packet is read, so its output may be written (in place); and all have
//      read the epoch word, so it may be advanced.
//   3. For every packet of the block's tiles: wait for it from all peers, reduce in rank order with
//      our own, write the output.
//
// For two ranks there is one_shot_pair.h.
//
// A tile is 1 << tile_log2 consecutive packets; block b takes tiles b, b + grid, ... In step 1 a lane
// serves one (packet, peer), in step 3 one packet; the lanes at distance 0 have nothing to send and
// go on to wait.
//
// Who writes, who reads: slot [sender][packet] of an inbox is written by the thread of `sender` that
// has (packet, us), once an epoch, and read and cleaned by our thread that has `packet`. Input and
// output are touched by this rank alone; a packet of them is loaded by several threads of one
// block before the barrier and stored by one thread after it.
//
// Order: see device/packet.h for the packets and device/epoch.h for the epoch.
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

  // The first packet of this thread, to send or of its own, comes with the epoch.
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
      const auto place = output.locate(packet);
      const bool is_there = gather<Packet, RANKS>(args, slots, packet, epoch, guard, own, contribution);
      const Data result = reduce<Reduction>(contribution, ranks, args.type, args.op);
      output.store_if(is_there, place, result);
    }
  }
  ticket.end(start, guard);
}

}  // namespace dime

#endif
