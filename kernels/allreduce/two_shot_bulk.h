// Two-shot bulk all-reduce: the two exchanges of two_shot.h, with plain 16-byte stores and a release flag for
// each block, stage and peer instead of packets that prove their own arrival. Takes any type; every byte on
// the wire is payload.
//
// A chunk has stages x grid tiles of equal size; block b has tile b of every stage.
//
//   1. For each stage: store this rank's packets of each peer's tile into that owner's inbox; barrier; raise
//      this block's first flag at every peer (release).
//   2. For each stage: wait for this block's first flag from every peer (acquire); barrier; reduce the tile
//      of the own chunk in rank order, store the result into every peer's inbox and to the output; barrier;
//      raise this block's second flag at every peer (release).
//   3. For each stage: wait for this block's second flag from every owner (acquire); barrier; copy the
//      results to the output.
//
// A block gives up as a whole: if one thread gives up a wait, all threads leave these steps together, and the
// block raises no further flag.
//
// Who writes, who reads: slots as in two_shot.h, in the data region. A reader leaves them all ones, since the
// sentinel kernels use the same slots. Flag [exchange][stage][block][sender] is written once an epoch, by
// block `block` of the sender, and polled by block `block` of the inbox's owner.
//
// Order: the stores of a block happen before its barrier, and that before the release of its flag by a thread
// of the block. The acquire of the flag by a thread of the receiving block happens before that block's
// barrier, and that before its loads. A flag holds the epoch and is never reset, so no reset can hit the next
// launch's flag; the parity keeps the flags of two successive epochs apart. Slots are reused as in
// device/packet.h.
#ifndef DIME_KERNELS_ALLREDUCE_TWO_SHOT_BULK_H
#define DIME_KERNELS_ALLREDUCE_TWO_SHOT_BULK_H

#include "../device/exchange.h"
#include "../device/message.h"
#include "../device/reduce.h"

namespace dime {

DIME_DEVICE uint64_t bulk_flag(uint64_t inbox, uint32_t epoch, uint32_t exchange, uint32_t stage, uint32_t sender) {
  uint32_t index = ((exchange * DIME_MAX_STAGES + stage) * DIME_MAX_BLOCKS + block_index()) * DIME_MAX_RANKS + sender;
  return inbox + parity_offset(epoch) + DIME_FLAG_OFFSET + 4u * index;
}

// Raises this block's flag of (exchange, stage) at every peer, after all stores of the block. False:
// `is_stopped` holds for a thread of the block, and no flag is raised.
DIME_DEVICE bool raise_flags(const dime_args &args, uint32_t ranks, uint32_t epoch, uint32_t exchange, uint32_t stage,
                             bool is_stopped) {
  if (block_barrier_any(is_stopped)) return false;
  if (thread_index() < ranks && thread_index() != args.rank)
    store_release_sys_u32(bulk_flag(args.inbox[thread_index()], epoch, exchange, stage, args.rank), epoch);
  return true;
}

// Waits for this block's flag of (exchange, stage) from every peer. False: a thread of the block gave up a
// wait.
DIME_DEVICE bool await_flags(const dime_args &args, uint32_t ranks, uint32_t epoch, uint32_t exchange,
                             uint32_t stage, SpinGuard &guard) {
  if (thread_index() < ranks && thread_index() != args.rank) {
    const uint64_t flag = bulk_flag(args.inbox[args.rank], epoch, exchange, stage, thread_index());
    for (;;) {
      while (load_acquire_sys_u32(flag) != epoch && guard.keep_spinning()) {
      }
      if (!guard.takes_report_request()) break;
      report_wait(args, epoch, thread_index());
    }
  }
  return !block_barrier_any(guard.gave_up());
}

// Steps 1 to 3. All threads of a block return early together if one of them gave up a wait or must send
// nothing.
template <class Reduction, int RANKS>
DIME_DEVICE void exchange_by_flags(const dime_args &args, LaunchStart start, SpinGuard &guard) {
  const uint32_t ranks = RankCount<RANKS>::of(args);
  const uint32_t rank = args.rank;
  const uint64_t own_inbox = args.inbox[rank];
  const uint32_t epoch = start.epoch;
  typedef SentinelPacket Packet;  // for its size, its region and the cleaning of its slots
  typedef Packet::Data Data;
  const Message<Packet::WORDS> input(args.input, args.bytes), output(args.output, args.bytes);
  const uint32_t chunk = args.chunk_packets;
  const Slots<Packet> contributions(args, epoch, 0, chunk), results(args, epoch, (ranks - 1u) * chunk, chunk);
  const uint32_t stages = args.stages;
  const uint32_t tiles = stages * grid_blocks();
  const uint32_t tile = (chunk + tiles - 1u) / tiles;
  const uint32_t to_send = start.is_stopped ? 0u : chunk;

  for (uint32_t stage = 0; stage < stages; ++stage) {
    const uint32_t base = (stage * grid_blocks() + block_index()) * tile;
    for (uint32_t distance = 1; distance < ranks; ++distance) {
      const uint32_t owner = peer_at(rank, distance, ranks);
      for (uint32_t item = thread_index(); item < tile; item += block_threads()) {
        const uint32_t slot = base + item;
        const uint32_t packet = owner * chunk + slot;
        if (slot >= to_send || packet >= args.packets) continue;
        const Data data = input.load(packet);
        const Pair pair = {data.word[0], data.word[1]};
        store_plain_pair(contributions.at(args.inbox[owner], owner, rank, slot), pair);
      }
    }
    if (!raise_flags(args, ranks, epoch, 0, stage, start.is_stopped)) return;
  }

  for (uint32_t stage = 0; stage < stages; ++stage) {
    const uint32_t base = (stage * grid_blocks() + block_index()) * tile;
    if (!await_flags(args, ranks, epoch, 0, stage, guard)) return;
    for (uint32_t item = thread_index(); item < tile; item += block_threads()) {
      const uint32_t slot = base + item;
      const uint32_t packet = rank * chunk + slot;
      if (slot >= chunk || packet >= args.packets) continue;
      Data contribution[RankCount<RANKS>::ARRAY];
      const Data own = input.load(packet);
#pragma unroll
      for (int peer = 0; peer < RankCount<RANKS>::ARRAY; ++peer) {
        contribution[peer] = own;
        if (peer < ranks && peer != rank) {
          const Pair pair = load_plain_pair(contributions.at(own_inbox, rank, peer, slot));
          contribution[peer].word[0] = pair.lo;
          contribution[peer].word[1] = pair.hi;
        }
      }
      const Data result = reduce<Reduction>(contribution, ranks, args.type, args.op);
      const Pair pair = {result.word[0], result.word[1]};
#pragma unroll
      for (int distance = 1; distance < RankCount<RANKS>::ARRAY; ++distance)
        if (distance < ranks) {
          const uint32_t peer = peer_at(rank, distance, ranks);
          store_plain_pair(results.at(args.inbox[peer], peer, rank, slot), pair);
          Packet::clean(contributions.at(own_inbox, rank, peer, slot));
        }
      output.store(packet, result);
    }
    if (!raise_flags(args, ranks, epoch, 1, stage, false)) return;
  }

  for (uint32_t stage = 0; stage < stages; ++stage) {
    const uint32_t base = (stage * grid_blocks() + block_index()) * tile;
    if (!await_flags(args, ranks, epoch, 1, stage, guard)) return;
    for (uint32_t distance = 1; distance < ranks; ++distance) {
      const uint32_t owner = peer_at(rank, distance, ranks);
      for (uint32_t item = thread_index(); item < tile; item += block_threads()) {
        const uint32_t slot = base + item;
        const uint32_t packet = owner * chunk + slot;
        if (slot >= chunk || packet >= args.packets) continue;
        const uint64_t at = results.at(own_inbox, rank, owner, slot);
        const Pair pair = load_plain_pair(at);
        const Data data = {{pair.lo, pair.hi}};
        Packet::clean(at);
        output.store(packet, data);
      }
    }
  }
}

template <class Reduction, int RANKS>
DIME_DEVICE void two_shot_bulk(const dime_args &args) {
  await_stream();
  const uint64_t own_inbox = args.inbox[args.rank];
  SpinGuard guard(args.mailbox);
  const Ticket ticket(args, own_inbox);
  const LaunchStart start = ticket.start(ticket.await(guard));
  clear_stale_slice(own_inbox, start);
  exchange_by_flags<Reduction, RANKS>(args, start, guard);
  ticket.end_and_advance(start, guard);
}

}  // namespace dime

#endif
