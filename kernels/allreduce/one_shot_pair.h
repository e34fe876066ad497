// One-shot all-reduce of two ranks. The thread that sends a packet also waits for the peer's packet of the
// same number. So it keeps its own contribution in registers in between.
//
//   1. Load the thread's first packet and send it to the peer.
//   2. For each later packet of the thread: load it, send it, and only then finish the packet before it: wait
//      for the peer's, reduce in rank order, store the result to the output. So packets go out while earlier
//      ones come in.
//   3. Finish the last packet.
//
// Thread t of the T threads of the grid has the packets t, t + T, t + 2 T, ...
//
// Who writes, who reads: slot [packet] of an inbox is written once an epoch, by the peer's thread that has
// the packet; the owner's thread that has the packet reads and cleans it. One thread alone accesses a packet
// of input and output, so in place needs no barrier.
//
// No deadlock, whatever the two grids: each thread takes its packets in rising order, and sends a packet
// before it waits for any earlier one. So a thread that has not sent packet p yet waits for a packet before
// p, and the first packet that anyone waits for has been sent.
//
// Order: device/packet.h for the packets, device/epoch.h for the epoch. The block barrier is for the epoch
// words: they are advanced after it, when all threads of the block have read theirs.
#ifndef DIME_KERNELS_ALLREDUCE_ONE_SHOT_PAIR_H
#define DIME_KERNELS_ALLREDUCE_ONE_SHOT_PAIR_H

#include "../device/exchange.h"
#include "../device/message.h"
#include "../device/reduce.h"

namespace dime {

template <class Packet, class Reduction>
DIME_DEVICE void one_shot_pair(const dime_args &args) {
  await_stream();
  const uint32_t rank = args.rank, peer = 1u - rank;
  const uint64_t own_inbox = args.inbox[rank], peer_inbox = args.inbox[peer];
  SpinGuard guard(args.mailbox);
  const Ticket ticket(args, own_inbox);
  const uint32_t stopped = ticket.await(guard);

  typedef typename Packet::Data Data;
  const Message<Packet::WORDS> input(args.input, args.bytes), output(args.output, args.bytes);
  const uint32_t step = grid_blocks() * block_threads();
  uint32_t packet = block_index() * block_threads() + thread_index();

  // The load of the first packet overlaps with that of the epoch word.
  const Ticket::Words words = ticket.words();
  Data own = {};
  if (packet < args.packets) own = input.load(packet);
  const LaunchStart start = ticket.start(stopped, words);
  const uint32_t epoch = start.epoch;
  clear_stale_slice(own_inbox, start);
  const Slots<Packet> slots(args, epoch, 0, args.packets);
  const uint32_t packets = start.is_stopped ? 0u : args.packets;
  if (packet < packets) Packet::send(slots.at_index(peer_inbox, 0, packet), own, epoch);
  block_barrier();
  ticket.advance(epoch);

  for (; packet < packets; packet += step) {
    const uint32_t next = packet + step;
    Data next_own = {};
    if (next < packets) {
      next_own = input.load(next);
      Packet::send(slots.at_index(peer_inbox, 0, next), next_own, epoch);
    }
    const auto destination = output.locate(packet);
    Data other;
    const bool has_arrived = receive<Packet>(args, slots.at_index(own_inbox, 0, packet), peer, epoch, guard, other);
    const Data contribution[2] = {rank == 0 ? own : other, rank == 0 ? other : own};
    const Data result = reduce<Reduction>(contribution, 2u, args.type, args.op);
    output.store_if(has_arrived, destination, result);
    own = next_own;
  }
  ticket.end(start, guard);
}

}  // namespace dime

#endif
