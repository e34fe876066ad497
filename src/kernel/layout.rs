//! The Rust form of `kernels/layout.h`. A unit test compiles that header and compares.

use std::sync::atomic::{AtomicU32, AtomicU64};

/// The most ranks of a communicator that the kernels serve.
pub const MAX_RANKS: usize = 8;
/// Scratch lanes: 0 for eager calls, 1 for captured ones.
pub const LANES: usize = 2;
/// The lane of eager launches.
pub const EAGER_LANE: usize = 0;
/// The lane of captured launches. It is separate because a graph may be replayed while an eager launch runs.
pub const CAPTURED_LANE: usize = 1;
/// Bytes of one parity of a lane.
pub const PARITY_BYTES: usize = 16 << 20;
/// Bytes of a parity for packets without flags.
pub const DATA_BYTES: usize = 14 << 20;
/// Bytes of a parity for flags and epochs.
pub const CONTROL_BYTES: usize = 128 << 10;
/// Where a parity's ll slots begin.
pub const LL_OFFSET: usize = DATA_BYTES;
/// Bytes of a parity for ll slots.
pub const LL_BYTES: usize = (2 << 20) - CONTROL_BYTES;
/// Where a parity's control words begin.
pub const CONTROL_OFFSET: usize = PARITY_BYTES - CONTROL_BYTES;
/// Bytes of a lane.
pub const LANE_BYTES: usize = 2 * PARITY_BYTES;
/// Bytes of the whole scratch of a rank.
pub const SCRATCH_BYTES: usize = LANES * LANE_BYTES;
/// Most blocks of a launch.
pub const MAX_BLOCKS: u32 = 256;
/// Most stages of a bulk launch.
pub const MAX_STAGES: u32 = 4;
/// Where a lane's epoch words begin.
pub const EPOCH_OFFSET: usize = CONTROL_OFFSET + 2 * (MAX_STAGES * MAX_BLOCKS) as usize * MAX_RANKS * 4;
/// Where a lane's stop marks begin.
pub const STOP_OFFSET: usize = EPOCH_OFFSET + 4 * MAX_BLOCKS as usize;
/// Where a lane's count word lies: a stop mark, then the count of blocks.
pub const COUNT_OFFSET: usize = STOP_OFFSET + 4 * MAX_BLOCKS as usize;
/// The count's shift in bits within the count word.
pub const COUNT_SHIFT: u32 = 32;
/// The stop mark: later launches of this rank send nothing.
pub const STOPPED: u32 = 1;
/// Bytes between two of a sender's words in the probe.
pub const PROBE_STRIDE: usize = 4096;
/// Where the probe's reports begin, one for each sender.
pub const PROBE_REPORT_OFFSET: usize = 8 * MAX_RANKS;
/// Where the packets of a stride begin, in the strides that have any.
pub const PROBE_PACKETS_OFFSET: usize = 512;

/// The arguments of every all-reduce kernel; see `struct dime_args`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Args {
    /// Address of this rank's contribution.
    pub input: u64,
    /// Address of the result.
    pub output: u64,
    /// Bytes of the message.
    pub bytes: u64,
    /// Each rank's lane as mapped here.
    pub inbox: [u64; MAX_RANKS],
    /// Device address of the lane's [`LaneMailbox`].
    pub mailbox: u64,
    /// Packets of the message.
    pub packets: u32,
    /// Packets of a chunk.
    pub chunk_packets: u32,
    /// The epoch of this launch; 0 in a graph, which may be replayed.
    pub epoch: u32,
    /// This rank.
    pub rank: u8,
    /// Ranks of the communicator.
    pub ranks: u8,
    /// NCCL's number of the element type.
    pub element_type: u8,
    /// NCCL's number of the reduction operation.
    pub op: u8,
    /// A block takes tiles of `1 << tile_log2` packets.
    pub tile_log2: u8,
    /// Stages of a bulk launch.
    pub stages: u8,
    /// 1: the kernel triggers its dependents, so that the next launch of the stream may start. The launch is small and
    /// DIME_EARLY_LAUNCH is not 0.
    pub triggers_dependents: u8,
    /// The kernel's number.
    pub kernel: u8,
    /// In the eager lane: the ticket, that is, the blocks of the lane's launches before this one.
    pub blocks_before: u32,
}

/// The mailbox of a lane: the host's command to spinning kernels, and their report; see `struct dime_mailbox`.
#[repr(C)]
#[derive(Debug)]
pub struct LaneMailbox {
    /// One of the commands below.
    pub command: AtomicU32,
    /// Of the launch that reports: type, reduction operation and kernel, a byte each from the lowest.
    pub launch: AtomicU32,
    /// Bytes of that launch.
    pub bytes: AtomicU64,
    /// By rank: the epoch in which a kernel waits for it.
    pub waits: [AtomicU32; MAX_RANKS],
    /// Not used.
    pub reserved: [u32; 4],
}

/// What the probe found of one sender; see `struct dime_probe_report`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeReport {
    /// 64-bit words that are not what the sender wrote.
    pub differing: u32,
    /// Not used.
    pub reserved: u32,
    /// Offset in scratch of the differing word that was found first.
    pub offset: u64,
    /// What the sender wrote there.
    pub expected: u64,
    /// What was found there.
    pub found: u64,
}

/// Command: go on.
pub const COMMAND_GO_ON: u32 = 0;
/// Command: stop spinning and end.
pub const COMMAND_STOP: u32 = 1;
/// Command: go on, and report what is waited for.
pub const COMMAND_REPORT: u32 = 2;

/// The epoch `launches` launches after `first`. After the largest comes 2 (kernels/device/epoch.h).
pub fn epoch_after(first: u32, launches: u64) -> u32 {
    const CYCLE: u64 = u32::MAX as u64 - 1;
    let ahead = u64::from(first) + launches;
    if ahead <= u64::from(u32::MAX) { ahead as u32 } else { ((ahead - 2) % CYCLE + 2) as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::catalogue::{Entry, KERNELS};
    use std::mem::offset_of;
    use std::process::Command;

    /// What the C compiler makes of `kernels/layout.h` and `kernels/catalogue.h`, as lines of `name value`.
    const PROGRAM: &str = r#"
        #include <stddef.h>
        #include <stdio.h>
        #include "catalogue.h"
        #include "layout.h"
        #define KERNEL(name, packet_bytes, exchanges, carries_integers, has_pair_form, ...) \
          printf(#name " %d %d %d %d\n", packet_bytes, exchanges, carries_integers, has_pair_form);
        #define CONSTANT(name) printf(#name " %zu\n", (size_t)(name))
        #define MAILBOX(name) printf(#name " %zu\n", offsetof(struct dime_mailbox, name))
        #define REPORT(name) printf(#name " %zu\n", offsetof(struct dime_probe_report, name))
        #define FIELD(name) printf(#name " %zu\n", offsetof(struct dime_args, name))
        int main(void) {
          CONSTANT(DIME_MAX_RANKS); CONSTANT(DIME_LANES); CONSTANT(DIME_PARITY_BYTES); CONSTANT(DIME_DATA_BYTES);
          CONSTANT(DIME_CONTROL_BYTES); CONSTANT(DIME_LL_OFFSET); CONSTANT(DIME_LL_BYTES); CONSTANT(DIME_CONTROL_OFFSET);
          CONSTANT(DIME_LANE_BYTES); CONSTANT(DIME_SCRATCH_BYTES); CONSTANT(DIME_MAX_BLOCKS); CONSTANT(DIME_MAX_STAGES);
          CONSTANT(DIME_EPOCH_OFFSET); CONSTANT(DIME_STOP_OFFSET);
          CONSTANT(DIME_COUNT_OFFSET); CONSTANT(DIME_COUNT_SHIFT); CONSTANT(DIME_STOPPED); CONSTANT(DIME_PROBE_STRIDE);
          CONSTANT(DIME_PROBE_REPORT_OFFSET); CONSTANT(DIME_PROBE_PACKETS_OFFSET);
          REPORT(differing); REPORT(offset); REPORT(expected); REPORT(found); CONSTANT(sizeof(struct dime_probe_report));
          FIELD(input); FIELD(output); FIELD(bytes); FIELD(inbox); FIELD(mailbox); FIELD(packets); FIELD(chunk_packets);
          FIELD(epoch); FIELD(rank); FIELD(ranks); FIELD(type); FIELD(op); FIELD(tile_log2); FIELD(stages); FIELD(triggers_dependents); FIELD(kernel);
          FIELD(blocks_before);
          CONSTANT(sizeof(struct dime_args));
          MAILBOX(command); MAILBOX(launch); MAILBOX(bytes); MAILBOX(waits); CONSTANT(sizeof(struct dime_mailbox));
          CONSTANT(DIME_GO_ON); CONSTANT(DIME_STOP); CONSTANT(DIME_REPORT);
          DIME_KERNELS(KERNEL, )
          return 0;
        }"#;

    #[test]
    fn the_headers_of_the_kernels_say_the_same() {
        let folder = std::env::temp_dir().join(format!("dime-layout-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (source, program) = (folder.join("layout.c"), folder.join("layout"));
        std::fs::write(&source, PROGRAM).unwrap();
        let kernels = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels");
        let built =
            Command::new("cc").args(["-std=c11", "-I", kernels, "-o"]).arg(&program).arg(&source).status().unwrap();
        assert!(built.success());
        let output = Command::new(&program).output().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let ours = [
            ("DIME_MAX_RANKS", MAX_RANKS),
            ("DIME_LANES", LANES),
            ("DIME_PARITY_BYTES", PARITY_BYTES),
            ("DIME_DATA_BYTES", DATA_BYTES),
            ("DIME_CONTROL_BYTES", CONTROL_BYTES),
            ("DIME_LL_OFFSET", LL_OFFSET),
            ("DIME_LL_BYTES", LL_BYTES),
            ("DIME_CONTROL_OFFSET", CONTROL_OFFSET),
            ("DIME_LANE_BYTES", LANE_BYTES),
            ("DIME_SCRATCH_BYTES", SCRATCH_BYTES),
            ("DIME_MAX_BLOCKS", MAX_BLOCKS as usize),
            ("DIME_MAX_STAGES", MAX_STAGES as usize),
            ("DIME_EPOCH_OFFSET", EPOCH_OFFSET),
            ("DIME_STOP_OFFSET", STOP_OFFSET),
            ("DIME_COUNT_OFFSET", COUNT_OFFSET),
            ("DIME_COUNT_SHIFT", COUNT_SHIFT as usize),
            ("DIME_STOPPED", STOPPED as usize),
            ("DIME_PROBE_STRIDE", PROBE_STRIDE),
            ("DIME_PROBE_REPORT_OFFSET", PROBE_REPORT_OFFSET),
            ("DIME_PROBE_PACKETS_OFFSET", PROBE_PACKETS_OFFSET),
            ("differing", offset_of!(ProbeReport, differing)),
            ("offset", offset_of!(ProbeReport, offset)),
            ("expected", offset_of!(ProbeReport, expected)),
            ("found", offset_of!(ProbeReport, found)),
            ("sizeof(struct dime_probe_report)", size_of::<ProbeReport>()),
            ("input", offset_of!(Args, input)),
            ("output", offset_of!(Args, output)),
            ("bytes", offset_of!(Args, bytes)),
            ("inbox", offset_of!(Args, inbox)),
            ("mailbox", offset_of!(Args, mailbox)),
            ("packets", offset_of!(Args, packets)),
            ("chunk_packets", offset_of!(Args, chunk_packets)),
            ("epoch", offset_of!(Args, epoch)),
            ("rank", offset_of!(Args, rank)),
            ("ranks", offset_of!(Args, ranks)),
            ("type", offset_of!(Args, element_type)),
            ("op", offset_of!(Args, op)),
            ("tile_log2", offset_of!(Args, tile_log2)),
            ("stages", offset_of!(Args, stages)),
            ("triggers_dependents", offset_of!(Args, triggers_dependents)),
            ("kernel", offset_of!(Args, kernel)),
            ("blocks_before", offset_of!(Args, blocks_before)),
            ("sizeof(struct dime_args)", size_of::<Args>()),
            ("command", offset_of!(LaneMailbox, command)),
            ("launch", offset_of!(LaneMailbox, launch)),
            ("bytes", offset_of!(LaneMailbox, bytes)),
            ("waits", offset_of!(LaneMailbox, waits)),
            ("sizeof(struct dime_mailbox)", size_of::<LaneMailbox>()),
            ("DIME_GO_ON", COMMAND_GO_ON as usize),
            ("DIME_STOP", COMMAND_STOP as usize),
            ("DIME_REPORT", COMMAND_REPORT as usize),
        ];
        let mut ours: Vec<String> = ours.iter().map(|(name, value)| format!("{name} {value}")).collect();
        ours.extend(KERNELS.map(|kernel| {
            let Entry { name, packet, exchanges, has_pair_form, .. } = kernel.entry();
            let (integers, pair) = (i32::from(packet.carries_integers()), i32::from(*has_pair_form));
            format!("{name} {} {exchanges} {integers} {pair}", packet.bytes())
        }));
        let theirs = String::from_utf8(output.stdout).unwrap();
        assert_eq!(ours, theirs.lines().collect::<Vec<_>>());
    }

    #[test]
    fn epochs_are_counted_as_the_device_counts_them() {
        let device = |epoch: u32| if epoch == u32::MAX { 2 } else { epoch + 1 };
        for first in [1, 2, 1000, u32::MAX - 3, u32::MAX] {
            let mut epoch = first;
            for launches in 0..10 {
                assert_eq!(epoch_after(first, launches), epoch);
                epoch = device(epoch);
            }
        }
        assert_eq!(epoch_after(5, u64::from(u32::MAX) - 1), 5);
    }

    // The probe's words, reports and packets do not overlap, and the control words fit.
    const _: () = {
        assert!(PROBE_REPORT_OFFSET + MAX_RANKS * size_of::<ProbeReport>() <= PROBE_PACKETS_OFFSET);
        assert!(PROBE_PACKETS_OFFSET < PROBE_STRIDE && LL_OFFSET.is_multiple_of(PROBE_STRIDE));
        assert!(COUNT_OFFSET.is_multiple_of(8) && COUNT_OFFSET + 8 <= PARITY_BYTES);
        assert!(LL_OFFSET + LL_BYTES <= CONTROL_OFFSET);
    };
}
