// What the host and the kernels agree on, byte for byte: the layout of scratch, the arguments of a launch,
// the mailbox, and the numbers of types and operations. src/kernel/layout.rs mirrors this file, and a unit
// test there compares the two.
//
// Scratch is one allocation a rank, which its peers write: the rank's inbox. It has DIME_LANES lanes, one for
// eager launches and one for captured ones, so that a replayed graph and an eager call never share a slot. A
// lane has two parities; epoch e uses parity e & 1. A parity has three regions:
//
//   data     slots for sentinel packets and bulk chunks; a free slot is all ones
//   ll       slots of {data32, epoch32} words; a word is free when its epoch is not the current one
//   control  bulk flags; in parity 0 also the words of the lane's owner: epochs, stop marks, the count word
//
// Within data and ll a kernel packs its slots without gaps: [exchange][sender index][packet]. The sender
// index leaves out the receiver itself: sender s has index s - (s > r) at receiver r.
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

// The control region, in this order; words have 32 bits:
//
//   flags        [exchange, 2][stage, DIME_MAX_STAGES][block, DIME_MAX_BLOCKS][sender's rank, DIME_MAX_RANKS]
//   epoch words  one for each block
//   stop marks   one for each block, 0 or DIME_STOPPED
//   count word   64 bits: lower half a stop mark, upper half the count of blocks, which wraps around
#define DIME_MAX_BLOCKS 256u
#define DIME_MAX_STAGES 4u
#define DIME_FLAG_OFFSET DIME_CONTROL_OFFSET
#define DIME_FLAG_BYTES (2u * DIME_MAX_STAGES * DIME_MAX_BLOCKS * DIME_MAX_RANKS * 4u)
#define DIME_EPOCH_OFFSET (DIME_CONTROL_OFFSET + DIME_FLAG_BYTES)
#define DIME_STOP_OFFSET (DIME_EPOCH_OFFSET + 4u * DIME_MAX_BLOCKS)
#define DIME_COUNT_OFFSET (DIME_STOP_OFFSET + 4u * DIME_MAX_BLOCKS)
#define DIME_COUNT_SHIFT 32u  // within the count word
#define DIME_STOPPED 1u

// In the first two of every DIME_CLEAR_PERIOD epochs block 0 zeroes a slice of the LL slots and flags, so that
// no word keeps its epoch until the 32-bit counter comes round to it (device/epoch.h).
#define DIME_CLEAR_PERIOD 4096u

// The probe of a communicator's setup (setup.h) divides scratch into strides. Each begins with a word of every
// sender. In the first stride the reports on the senders follow. Packets lie behind DIME_PROBE_PACKETS_OFFSET,
// in a few strides that each belong to one sender.
#define DIME_PROBE_STRIDE 4096u
#define DIME_PROBE_REPORT_OFFSET (8u * DIME_MAX_RANKS)
#define DIME_PROBE_PACKETS_OFFSET 512u

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

// The host's command to the spinning kernels of a lane: go on, give up all waits, or report what they wait
// for.
enum dime_command { DIME_GO_ON = 0, DIME_STOP = 1, DIME_REPORT = 2 };

// The mailbox of a lane, in host memory. The host writes `command` and, before it asks for a report, zeros
// into `waits`. A thread that reads DIME_REPORT writes the other words; all threads of a launch write the
// same values.
struct dime_mailbox {
  uint32_t command;  // enum dime_command
  uint32_t launch;   // its type, op and kernel, a byte each from the lowest
  uint64_t bytes;    // of the launch's message
  uint32_t waits[DIME_MAX_RANKS];  // by rank: the epoch in which a thread waits for that rank; 0: none does
  uint32_t reserved[4];
};

// What the probe found of one sender, all zeros before.
struct dime_probe_report {
  uint32_t differing;  // 64-bit words that are not what the sender wrote
  uint32_t reserved;
  uint64_t offset;     // in scratch, of the differing word that was found first
  uint64_t expected;   // what the sender wrote there
  uint64_t found;
};

// The arguments of every all-reduce kernel, passed by value.
struct dime_args {
  uint64_t input;                  // address of this rank's contribution; any element alignment
  uint64_t output;                 // address of the result; may equal input
  uint64_t bytes;                  // of the message, at least 1
  uint64_t inbox[DIME_MAX_RANKS];  // by rank: that rank's lane as mapped here; inbox[rank] is this rank's own
  uint64_t mailbox;                // address of the lane's struct dime_mailbox
  uint32_t packets;                // of the message, rounded up; the kernel fixes the packet size
  uint32_t chunk_packets;          // two-shot: packets of a chunk, rounded up; one-shot: packets
  uint32_t epoch;                  // eager: of this launch; captured: 0, since a graph may be replayed
  uint8_t rank;
  uint8_t ranks;
  uint8_t type;                 // enum dime_type
  uint8_t op;                   // enum dime_op
  uint8_t tile_log2;            // a block takes tiles of 1 << tile_log2 packets (of every chunk); the one-shots
                                // of two ranks and bulk ignore it
  uint8_t stages;               // bulk: stages, each with flags of its own, 1..DIME_MAX_STAGES
  uint8_t triggers_dependents;  // 1: the next launch of the stream may start while this one runs
  uint8_t kernel;               // the host's number of the kernel, for reports
  uint32_t blocks_before;       // eager: the ticket, that is, the blocks of the lane's earlier launches
};

#endif
