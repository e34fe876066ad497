//! The watchdog: reports an all-reduce that waits for a peer longer than DIME_TIMEOUT_S, and says which rank waits
//! for whom in which operation.
//!
//! It is off unless DIME_TIMEOUT_S is set. Then one thread in the process watches the fast communicators. At
//! intervals it asks spinning kernels what they wait for ([`crate::gpu::mailbox`]). A launch that still reports the
//! same epoch after the timeout is stuck. The watchdog then poisons the communicator, so that ncclCommGetAsyncError
//! and every later call report it, and writes a log line. The kernel goes on waiting, as one of NCCL's would: if it
//! ended, it would leave a wrong result, and the application need not look at the error. ncclCommAbort ends it.
//!
//! The watchdog makes no CUDA call. It sees graphs too, whose replays the host does not see otherwise.

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

/// How long kernels get to answer. They poll the mailbox about once in a millisecond, those of a simulated GPU less
/// often.
const ANSWER_TIME: Duration = Duration::from_millis(40);

/// A communicator that is watched.
struct Watched {
    comm: &'static Comm,
    rank: usize,
    device: i32,
    words: View,
    timeout: Duration,
    /// By lane: the epoch of the last report, and when it was first reported.
    waits: [Option<(u32, Instant)>; LANES],
}

static WATCHED: Lock<Vec<Watched>> = Lock::new(Vec::new());

/// The process in which the thread runs. A child of fork has the parent's memory but not its thread.
static OF_PROCESS: AtomicU32 = AtomicU32::new(0);

/// Watches a fast communicator of this process from now on.
pub fn begin(comm: &'static Comm, rank: usize, device: i32, words: View, timeout_s: u32) {
    let timeout = Duration::from_secs(timeout_s.into());
    WATCHED.hold().push(Watched { comm, rank, device, words, timeout, waits: [None; LANES] });
    let process = std::process::id();
    if OF_PROCESS.swap(process, Ordering::AcqRel) == process {
        return;
    }
    if let Err(error) = background::spawn("dime-watchdog", watch) {
        log::warn!("DIME_TIMEOUT_S has no effect: its thread could not be started: {error}");
        return;
    }
    // The driver unregisters the mailboxes at the end of the process.
    static AT_EXIT: AtomicBool = AtomicBool::new(false);
    if !AT_EXIT.swap(true, Ordering::Relaxed) && !crate::host::exit::at_exit(forget_all) {
        log::warn!("the watchdog cannot register for the end of the process");
    }
}

/// Stops watching it: its mailbox will be reused.
pub fn end(comm: &'static Comm) {
    WATCHED.hold().retain(|watched| !std::ptr::eq(watched.comm, comm));
}

extern "C" fn forget_all() {
    WATCHED.hold().clear();
}

fn watch() {
    loop {
        // The shortest timeout is 1 s, so this interval is fine enough.
        std::thread::sleep(Duration::from_millis(200));
        WATCHED.hold().iter().for_each(|watched| watched.words.request_reports());
        std::thread::sleep(ANSWER_TIME);
        let now = Instant::now();
        // Logged after the lock is released: writing the log may block.
        let mut stuck = Vec::new();
        WATCHED.hold().retain_mut(|watched| {
            watched.words.end_request();
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
    /// The lane and the launch that has waited longer than the timeout.
    fn overdue(&mut self, now: Instant) -> Option<(usize, Report)> {
        let reports = self.words.reports();
        for (lane, report) in reports.into_iter().enumerate() {
            // A missing report proves nothing: a kernel that does not get SM time may miss the command.
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
            "rank {} has waited {} s for {}: {}. A rank has ended, hangs, or made other calls than this one. End the wait with ncclCommAbort",
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

/// The operation of a launch, for the log.
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
