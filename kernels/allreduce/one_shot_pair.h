// One-shot all-reduce of two ranks. There is one peer, so the thread that sends a packet is also the one that waits for the peer's: it
// keeps its own part in registers from the one to the other.
//
//   1. Load the thread's first packet and send it to the peer.
//   2. For every later packet of the thread: load it, send it, and then finish the one before: wait for the peer's part, reduce in rank
//      order, write the output. So packets go out while earlier ones come in.
//   3. Finish the last.
//
// Thread t of all T threads of the grid has the packets t, t + T, t + 2 T, ...
//
// Who writes, who reads: slot [packet] of an inbox is written by the peer's thread that has the packet, once an epoch, and read and
// cleaned by our thread that has it. A packet of input and output is touched by this thread alone, so in place needs no barrier. The
// threads of both ranks take their packets in rising order and send one before they wait for any that is before it: whatever the
// grids, what is waited for is sent.
//
// Order: see device/packet.h for the packets and device/epoch.h for the epoch. The block barrier is for the epoch word, which all threads
// have read behind it.
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

  // The first packet comes with the epoch.
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
    const auto place = output.locate(packet);
    Data other;
    const bool is_there = receive<Packet>(args, slots.at_index(own_inbox, 0, packet), peer, epoch, guard, other);
    const Data contribution[2] = {rank == 0 ? own : other, rank == 0 ? other : own};
    const Data result = reduce<Reduction>(contribution, 2u, args.type, args.op);
    output.store_if(is_there, place, result);
    own = next_own;
  }
  ticket.end(start, guard);
}

}  // namespace dime

#endif
