//! The watchdog: an all-reduce that waits for a peer too long becomes an error that says who waits for whom, in what.
//!
//! Off unless DIME_TIMEOUT_S is set; then one thread a process looks after its fast communicators. Now and then it asks the kernels
//! that spin what they wait for ([`crate::gpu::mailbox`]). A launch that still answers with the same epoch when the time is over
//! is stuck: the communicator is poisoned, so that ncclCommGetAsyncError and every later call report it, and the log names it.
//! The kernel itself goes on waiting, as one of NCCL's would: ended, it would leave a wrong result that nobody need ever look
//! at the error of. ncclCommAbort ends it.
//!
//! It makes no CUDA call. It works for graphs too, whose replays nobody else sees.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::comm::table::fast::Comm;
use crate::gpu::mailbox::{Report, View};
use crate::host::background;
use crate::host::lock::Lock;
use crate::kernel::KERNELS;
use crate::kernel::layout::{CAPTURED_LANE, LANES, MAX_RANKS};
use crate::nccl::DataType;
use crate::nccl::RedOp;
use crate::nccl::ncclRemoteError;

/// Kernels look at the host's words about once in a millisecond, those of a simulated GPU more seldom.
const ANSWER_TIME: Duration = Duration::from_millis(40);

/// A communicator that is looked after.
struct Watched {
    comm: &'static Comm,
    rank: usize,
    device: i32,
    words: View,
    timeout: Duration,
    /// By lane: the epoch that was answered last, and when it was answered first.
    waits: [Option<(u32, Instant)>; LANES],
}

static WATCHED: Lock<Vec<Watched>> = Lock::new(Vec::new());

/// The process that the thread runs in. A child of fork has the parent's memory and not its thread.
static OF_PROCESS: AtomicU32 = AtomicU32::new(0);

/// From now on looks after a fast communicator of this process.
pub fn begin(comm: &'static Comm, rank: usize, device: i32, words: View, timeout_s: u32) {
    let timeout = Duration::from_secs(timeout_s.into());
    WATCHED.hold().push(Watched { comm, rank, device, words, timeout, waits: [None; LANES] });
    let process = std::process::id();
    if OF_PROCESS.swap(process, Ordering::AcqRel) == process {
        return;
    }
    if let Err(error) = background::spawn("dime-watchdog", watch) {
        log::warn!("DIME_TIMEOUT_S has no effect: no thread for it: {error}");
        return;
    }
    // The driver takes its memory away at the end of the process.
    static AT_EXIT: AtomicBool = AtomicBool::new(false);
    if !AT_EXIT.swap(true, Ordering::Relaxed) && !crate::host::exit::at_exit(forget_all) {
        log::warn!("the watchdog cannot be told of the end of the process");
    }
}

/// From now on leaves it alone: its words will be freed.
pub fn end(comm: &'static Comm) {
    WATCHED.hold().retain(|watched| !std::ptr::eq(watched.comm, comm));
}

extern "C" fn forget_all() {
    WATCHED.hold().clear();
}

fn watch() {
    loop {
        // The shortest timeout is a second.
        std::thread::sleep(Duration::from_millis(200));
        WATCHED.hold().iter().for_each(|watched| watched.words.ask());
        std::thread::sleep(ANSWER_TIME);
        let now = Instant::now();
        // Said when nothing is locked: the log may have to wait for who reads it.
        let mut stuck = Vec::new();
        WATCHED.hold().retain_mut(|watched| {
            watched.words.ask_no_more();
            let overdue = watched.overdue(now);
            if let Some((lane, report)) = overdue {
                watched.comm.poison_with(ncclRemoteError);
                stuck.push((watched.device, watched.describe(lane, &report)));
            }
            overdue.is_none()
        });
        for (device, text) in stuck {
            crate::observe::log::set_device(device);
            log::error!("{text}");
        }
    }
}

impl Watched {
    /// The lane and the launch that has waited too long.
    fn overdue(&mut self, now: Instant) -> Option<(usize, Report)> {
        let reports = self.words.reports();
        for (lane, report) in reports.into_iter().enumerate() {
            // No answer says nothing: a kernel that waits for the SMs' attention may miss a question.
            let Some(report) = report else { continue };
            match self.waits[lane] {
                Some((epoch, since)) if epoch == report.epoch => {
                    if now.duration_since(since) >= self.timeout {
                        return Some((lane, report));
                    }
                }
                _ => self.waits[lane] = Some((report.epoch, now)),
            }
        }
        None
    }

    fn describe(&self, lane: usize, report: &Report) -> String {
        format!(
            "rank {} has waited {} s for {}: {}. A rank is gone, hangs, or made other calls than this one. End it with ncclCommAbort",
            self.rank,
            self.timeout.as_secs(),
            ranks(report.missing),
            operation(lane, report)
        )
    }
}

/// `rank 3`, or `ranks 1 and 3`.
fn ranks(missing: u32) -> String {
    let names: Vec<String> =
        (0..MAX_RANKS).filter(|rank| missing >> rank & 1 == 1).map(|rank| rank.to_string()).collect();
    match names.split_last() {
        Some((last, [])) => format!("rank {last}"),
        Some((last, others)) => format!("ranks {} and {last}", others.join(", ")),
        None => "nobody".to_owned(),
    }
}

/// What the launch is, in words.
fn operation(lane: usize, report: &Report) -> String {
    let mut text = String::new();
    let kernel = KERNELS.get(usize::from(report.kernel)).map_or("?", |kernel| kernel.name());
    let datatype = DataType::from_nccl(report.datatype.into()).map_or("?", DataType::name);
    let op = RedOp::from_nccl(report.op.into()).map_or("?", RedOp::name);
    let _ = write!(text, "{op} of {} bytes of {datatype} with {kernel}, epoch {}", report.bytes, report.epoch);
    if lane == CAPTURED_LANE {
        text += ", in a graph";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_told_in_words() {
        let report = Report { epoch: 17, missing: 0b1010, datatype: 9, op: 0, kernel: 2, bytes: 4096 };
        assert_eq!(ranks(report.missing), "ranks 1 and 3");
        assert_eq!(ranks(0b111), "ranks 0, 1 and 2");
        assert_eq!(ranks(0b100), "rank 2");
        assert_eq!(operation(0, &report), "sum of 4096 bytes of bfloat16 with two_shot_ll, epoch 17");
        assert_eq!(
            operation(CAPTURED_LANE, &report),
            "sum of 4096 bytes of bfloat16 with two_shot_ll, epoch 17, in a graph"
        );
    }
}
