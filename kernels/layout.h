// What the host and the kernels must agree on, byte for byte: the scratch layout, the arguments of
// a launch, the numbers of types, operations and kernels. src/layout.rs mirrors this file and
// a unit test there compares the two.
//
// Scratch is one allocation a rank, written by its peers ("inbox"). It holds DIME_LANES lanes, one
// for eager calls and one for captured ones, so that a replayed graph and an eager call never meet
// in one slot. A lane holds two parities; epoch e uses parity e & 1. A parity holds:
//
//   data     slots without flags: sentinel packets and bulk chunks; all ones when free
//   ll       slots of {data32, epoch32} words; a word is free when its epoch is not the current one
//   control  bulk flags; in parity 0 also the epoch words and the count of blocks of the lane's owner, and marks that stop every
//            later launch
//
// Within data and ll a kernel packs its slots without gaps: [exchange][sender][packet], where the
// sender's place leaves out the receiver itself: sender s at receiver r is place s - (s > r).
#ifndef DIME_KERNELS_LAYOUT_H
#define DIME_KERNELS_LAYOUT_H

#include <stdint.h>

#define DIME_MAX_RANKS 8
#define DIME_LANES 2
#define DIME_PARITIES 2

#define DIME_PARITY_BYTES (16u << 20)
#define DIME_DATA_BYTES (14u << 20)
#define DIME_LL_OFFSET DIME_DATA_BYTES
#define DIME_LL_BYTES ((2u << 20) - DIME_CONTROL_BYTES)
#define DIME_CONTROL_BYTES (128u << 10)
#define DIME_CONTROL_OFFSET (DIME_PARITY_BYTES - DIME_CONTROL_BYTES)
#define DIME_LANE_BYTES (DIME_PARITIES * DIME_PARITY_BYTES)
#define DIME_SCRATCH_BYTES (DIME_LANES * DIME_LANE_BYTES)

// Control: flags[exchange 2][stage][block][sender place 8], then the epoch of each block, then a stop mark for each block, 32 bits each, then the count
// word of 64 bits: a stop mark in its lower half, and the count of blocks in its upper one, which may wrap around. A stop mark is 0 or
// DIME_STOPPED.
#define DIME_MAX_BLOCKS 256u
#define DIME_MAX_STAGES 4u
#define DIME_FLAG_OFFSET DIME_CONTROL_OFFSET
#define DIME_FLAG_BYTES (2u * DIME_MAX_STAGES * DIME_MAX_BLOCKS * DIME_MAX_RANKS * 4u)
#define DIME_EPOCH_OFFSET (DIME_CONTROL_OFFSET + DIME_FLAG_BYTES)
#define DIME_STOP_OFFSET (DIME_EPOCH_OFFSET + 4u * DIME_MAX_BLOCKS)
#define DIME_COUNT_OFFSET (DIME_STOP_OFFSET + 4u * DIME_MAX_BLOCKS)
#define DIME_COUNT_SHIFT 32u  // within the count word
#define DIME_STOPPED 1u

// Every how many epochs a slice of the ll slots is cleared, so that no word can keep an epoch until
// the 32-bit counter comes round to it again. See device/epoch.h.
#define DIME_CLEAR_PERIOD 4096u

// The probe of a communicator's setup: one word of each sender every so many bytes, each sender at a place of its own.
#define DIME_PROBE_STRIDE 4096u

enum dime_type {
  DIME_INT8 = 0,
  DIME_UINT8 = 1,
  DIME_INT32 = 2,
  DIME_UINT32 = 3,
  DIME_INT64 = 4,
  DIME_UINT64 = 5,
  DIME_FLOAT16 = 6,
  DIME_FLOAT32 = 7,
  DIME_FLOAT64 = 8,
  DIME_BFLOAT16 = 9,
  DIME_FLOAT8E4M3 = 10,
  DIME_FLOAT8E5M2 = 11,
};

enum dime_op { DIME_SUM = 0, DIME_PROD = 1, DIME_MAX = 2, DIME_MIN = 3, DIME_AVG = 4 };

// What the host tells the spinning kernels of a lane: to go on, to stop, or to write down what they wait for.
enum dime_command { DIME_GO_ON = 0, DIME_STOP = 1, DIME_REPORT = 2 };

// Host memory, one for each lane, between the host and whoever spins. The host writes the order and, before it asks for a report,
// zeros into waits. A thread that finds DIME_REPORT writes the rest; all threads of a launch write the same.
struct dime_mailbox {
  uint32_t command;  // enum dime_command
  uint32_t shape;  // type, op and kernel of the launch, a byte each from the lowest
  uint64_t bytes;  // of the launch
  uint32_t waits[DIME_MAX_RANKS];  // by rank: the epoch in which it is waited for
  uint32_t reserved[4];
};

// The arguments of every all-reduce kernel, passed by value.
struct dime_args {
  uint64_t input;   // address of this rank's contribution, any element alignment
  uint64_t output;  // address of the result; may equal input
  uint64_t bytes;   // of the message, at least 1
  uint64_t inbox[DIME_MAX_RANKS];  // by rank: that rank's lane as mapped here; inbox[rank] is our own
  uint64_t mailbox;                  // address of the lane's struct dime_mailbox
  uint32_t packets;                // of the message, rounded up; packet size is the kernel's
  uint32_t chunk_packets;          // two-shot: packets of a chunk, rounded up; one-shot: packets
  uint32_t epoch;                  // this launch's, where the host knows it; 0 in a graph, which may be replayed
  uint8_t rank;
  uint8_t ranks;
  uint8_t type;       // enum dime_type
  uint8_t op;         // enum dime_op
  uint8_t tile_log2;  // a block takes tiles of 1 << tile_log2 packets (of every chunk); one-shots of two ranks do not look at it
  uint8_t stages;     // bulk: flags a block raises one after the other, 1..DIME_MAX_STAGES
  uint8_t triggers_dependents;  // 1: the next launch may take its place while this one runs
  uint8_t kernel;     // the host's number of it, for reports
  uint32_t blocks_before;  // with an epoch: blocks of the lane's launches before this one
};

#endif
