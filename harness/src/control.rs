//! What the workers of a run share: a barrier, a failure flag, small tables, what each is doing, and a log.
//!
//! It lies in anonymous shared memory made before workers exist, so threads and forked processes use it alike.
//! Every field is atomic, and all-zero bytes are its valid initial state.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::output::note;

/// Most workers, and most ranks, of a run.
pub const MAX_RANKS: usize = 8;
/// Most all-reduces between two barriers of a check.
pub const MAX_RUNS: usize = 512;
const TEXT_BYTES: usize = 400;
const LOG_BYTES: usize = 1 << 17;
/// Room for the result of a run.
pub const REPORT_BYTES: usize = 1 << 17;

/// A text that one worker writes and anyone reads, approximately.
struct Text<const BYTES: usize> {
    length: AtomicUsize,
    bytes: [AtomicU8; BYTES],
}

impl<const BYTES: usize> Text<BYTES> {
    fn set(&self, text: &str) {
        self.length.store(0, Ordering::Release);
        self.put(0, text);
        self.length.store(text.len().min(BYTES), Ordering::Release);
    }

    fn append(&self, text: &str) {
        let start = self.length.fetch_add(text.len(), Ordering::AcqRel);
        self.put(start, text);
    }

    fn put(&self, start: usize, text: &str) {
        for (place, byte) in self.bytes.iter().skip(start).zip(text.bytes()) {
            place.store(byte, Ordering::Release);
        }
    }

    fn get(&self) -> String {
        let length = self.length.load(Ordering::Acquire).min(BYTES);
        let bytes: Vec<u8> = self.bytes[..length].iter().map(|byte| byte.load(Ordering::Acquire)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Results of one batch, filled by every worker before a barrier and read by the first one behind it.
pub struct RunTable {
    /// Bit r: rank r found run i wrong.
    pub wrong: [AtomicU32; MAX_RUNS],
    /// Hash of the output of run i at rank r.
    pub hash: [[AtomicU64; MAX_RANKS]; MAX_RUNS],
    /// Route that rank r was told for run i.
    pub route: [[AtomicU32; MAX_RANKS]; MAX_RUNS],
}

/// The shared memory.
pub struct Control {
    arrived: AtomicU32,
    generation: AtomicU32,
    failed: AtomicU32,
    shown: AtomicUsize,
    unique_id: [AtomicU8; 128],
    doing: [Text<TEXT_BYTES>; MAX_RANKS],
    log: Text<LOG_BYTES>,
    report: Text<REPORT_BYTES>,
    /// The batch before which everyone stops; the first worker sets it before a barrier.
    pub stop_before: AtomicU64,
    /// Numbers each rank leaves for the others.
    pub numbers: [[AtomicU64; 16]; MAX_RANKS],
    /// Two of them, used in turn, so that reading one batch does not hold up the next.
    pub runs: [RunTable; 2],
}

impl Control {
    /// Maps a fresh one. It is never unmapped: a run has one, and its workers may outlive any scope.
    pub fn new() -> Fallible<&'static Control> {
        // SAFETY: an anonymous mapping of the struct's size is zeroed and page-aligned, and zero is valid for atomics.
        unsafe {
            let memory = libc::mmap(
                std::ptr::null_mut(),
                size_of::<Control>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if memory == libc::MAP_FAILED {
                return Err(format!("shared memory: {}", std::io::Error::last_os_error()));
            }
            let control = &*memory.cast::<Control>();
            control.stop_before.store(u64::MAX, Ordering::Release);
            Ok(control)
        }
    }

    /// Whether some worker gave up.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire) != 0
    }

    /// Tells all workers to give up at their next barrier.
    pub fn fail(&self) {
        self.failed.store(1, Ordering::Release);
    }

    /// Waits until `workers` have come here. Fails when one gave up or `limit` has passed.
    pub fn barrier(&self, workers: usize, limit: Duration) -> Fallible<()> {
        let generation = self.generation.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) as usize + 1 == workers {
            self.arrived.store(0, Ordering::Release);
            self.generation.store(generation.wrapping_add(1), Ordering::Release);
            return self.stop_if_failed();
        }
        let start = Instant::now();
        let mut spins = 0u32;
        while self.generation.load(Ordering::Acquire) == generation {
            self.stop_if_failed()?;
            spins = spins.saturating_add(1);
            if spins < 50_000 {
                std::hint::spin_loop();
            } else {
                // Short enough to go unnoticed by the batches, long enough to leave a busy machine to others.
                std::thread::sleep(Duration::from_micros(20));
                if start.elapsed() > limit {
                    crate::cuda::abandon_cleanup();
                    return Err(format!("a worker did not come to the barrier within {:.0} s", limit.as_secs_f64()));
                }
            }
        }
        self.stop_if_failed()
    }

    fn stop_if_failed(&self) -> Fallible<()> {
        if !self.has_failed() {
            return Ok(());
        }
        crate::cuda::abandon_cleanup();
        Err(GAVE_UP.to_owned())
    }

    /// Says what a worker is about to do, for the report of a hang or a crash.
    pub fn set_doing(&self, worker: usize, text: &str) {
        self.doing[worker].set(text);
    }

    /// What a worker last said.
    pub fn doing(&self, worker: usize) -> String {
        self.doing[worker].get()
    }

    /// Adds a line to the log and prints it.
    pub fn log(&self, line: &str) {
        note!("{line}");
        self.log.append(&format!("{line}\n"));
    }

    /// Logs one of many failures, as long as fewer than `most` have been.
    pub fn log_failure(&self, most: usize, line: &str) {
        if self.shown.fetch_add(1, Ordering::AcqRel) < most {
            self.log(line);
        }
    }

    /// Everything logged so far.
    pub fn log_text(&self) -> String {
        self.log.get()
    }

    /// Leaves the result of the run for the process that started it.
    pub fn set_report(&self, text: &str) {
        self.report.set(text);
    }

    /// The result left last; empty when there is none.
    pub fn report(&self) -> String {
        self.report.get()
    }

    /// Passes a communicator id to the other workers; a barrier must follow.
    pub fn put_unique_id(&self, id: &[u8; 128]) {
        for (place, byte) in self.unique_id.iter().zip(id) {
            place.store(*byte, Ordering::Release);
        }
    }

    /// The communicator id passed last.
    pub fn unique_id(&self) -> [u8; 128] {
        std::array::from_fn(|index| self.unique_id[index].load(Ordering::Acquire))
    }
}

/// The error of a worker that stops only because another one did.
pub const GAVE_UP: &str = "another worker gave up";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_passes_the_barrier_before_all_have_come() {
        let control = Control::new().unwrap();
        let counter = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 1..=200 {
                        counter.fetch_add(1, Ordering::SeqCst);
                        control.barrier(4, Duration::from_secs(20)).unwrap();
                        assert_eq!(counter.load(Ordering::SeqCst), 4 * round);
                        control.barrier(4, Duration::from_secs(20)).unwrap();
                    }
                });
            }
        });
    }

    #[test]
    fn a_failure_frees_those_who_wait() {
        let control = Control::new().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| control.barrier(2, Duration::from_secs(20)));
            control.fail();
            assert_eq!(waiting.join().unwrap(), Err(GAVE_UP.to_owned()));
        });
    }

    #[test]
    fn a_barrier_gives_up_when_nobody_comes() {
        let control = Control::new().unwrap();
        assert!(control.barrier(2, Duration::from_millis(50)).unwrap_err().contains("did not come"));
    }

    #[test]
    fn texts_are_cut_at_their_room() {
        let control = Control::new().unwrap();
        control.set_doing(3, &"x".repeat(2 * TEXT_BYTES));
        assert_eq!(control.doing(3).len(), TEXT_BYTES);
        control.set_doing(3, "short");
        assert_eq!(control.doing(3), "short");
    }
}
