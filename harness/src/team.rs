//! The workers of a run: which thread or process drives which ranks, and what happens when one of them fails.
//!
//! Four models: a thread for each GPU, one thread for all GPUs, a process for each GPU, and a process for each GPU that
//! sees no other. Worker processes are forked before this process touches CUDA or loads an NCCL; the parent only waits.
//! A run that takes longer than its limit is ended here, with a line about what each worker was doing.

use std::io::{Read, Write};
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::control::{Control, GAVE_UP};

/// Who drives the ranks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Model {
    /// One process, a thread for each GPU.
    Threads,
    /// One process, one thread that drives all GPUs in groups.
    OneThread,
    /// A process for each GPU; each sees all GPUs.
    Processes,
    /// A process for each GPU that sees only its own (CUDA_VISIBLE_DEVICES).
    OwnGpu,
}

impl Model {
    /// The name in options and reports.
    pub fn name(self) -> &'static str {
        match self {
            Model::Threads => "threads",
            Model::OneThread => "one-thread",
            Model::Processes => "processes",
            Model::OwnGpu => "own-gpu",
        }
    }

    fn workers(self, ranks: usize) -> usize {
        if self == Model::OneThread { 1 } else { ranks }
    }

    fn has_process_per_rank(self) -> bool {
        matches!(self, Model::Processes | Model::OwnGpu)
    }
}

/// A worker's place in a run.
pub struct Seat {
    /// Who drives the ranks.
    pub model: Model,
    /// Number of this worker, from 0.
    pub worker: usize,
    /// Workers of the whole run.
    pub workers: usize,
    /// Ranks of the whole run.
    pub total: usize,
    /// Ranks this worker drives.
    pub ranks: Range<usize>,
    /// CUDA ordinal, as this process sees it, of each rank of the run.
    pub ordinals: Vec<usize>,
    /// What all workers share.
    pub control: &'static Control,
    /// Longest wait for a stream or for another worker.
    pub wait_limit: Duration,
}

impl Seat {
    /// Waits for all workers.
    pub fn barrier(&self) -> Fallible<()> {
        self.control.barrier(self.workers, self.wait_limit)
    }

    /// Whether this worker acts for its whole process, for example when it sets a variable.
    pub fn leads_process(&self) -> bool {
        self.model.has_process_per_rank() || self.worker == 0
    }

    /// Ranks in this worker's process.
    pub fn ranks_in_process(&self) -> usize {
        if self.model.has_process_per_rank() { 1 } else { self.total }
    }

    /// Whether one thread drives several ranks, so that its calls must be grouped.
    pub fn must_group(&self) -> bool {
        self.ranks.len() > 1
    }

    /// Says what comes next, for the report of a hang or a crash.
    pub fn doing(&self, text: &str) {
        self.control.set_doing(self.worker, text);
    }

    /// Sets environment variables of the process while every worker waits. All workers must call this alike.
    pub fn set_variables(&self, variables: &[(&str, &str)]) -> Fallible<()> {
        self.barrier()?;
        if self.leads_process() {
            set_variables(variables);
        }
        self.barrier()
    }
}

/// Sets environment variables of this process; an empty value removes one.
pub fn set_variables(variables: &[(&str, &str)]) {
    for (name, value) in variables {
        // SAFETY: callers see to it that no other thread of ours runs code that reads the environment meanwhile.
        unsafe { if value.is_empty() { std::env::remove_var(name) } else { std::env::set_var(name, value) } }
    }
}

/// How to run a team.
pub struct Team<'a> {
    /// Who drives the ranks.
    pub model: Model,
    /// Device of each rank.
    pub devices: &'a [usize],
    /// What all workers share.
    pub control: &'static Control,
    /// Longest wait for a stream or for another worker.
    pub wait_limit: Duration,
    /// Time after which the whole run is ended.
    pub limit: Duration,
    /// Keep the workers in this process. Only for the threaded models, and the process cannot fork afterwards.
    pub in_process: bool,
}

impl Team<'_> {
    /// Runs `body` in every worker. An error says which worker failed first or what it was doing when it hung.
    pub fn run(&self, body: impl Fn(&Seat) -> Fallible<()> + Sync) -> Fallible<()> {
        if self.model.has_process_per_rank() {
            let workers: Vec<usize> = (0..self.devices.len()).collect();
            self.run_processes(&workers, |worker| {
                let mut ordinals = self.devices.to_vec();
                if self.model == Model::OwnGpu {
                    show_only(self.devices[worker]);
                    ordinals = vec![0; self.devices.len()];
                }
                self.run_worker(worker, ordinals, &body)
            })
        } else if self.in_process {
            self.with_watchdog(|| self.run_threads(&body))
        } else {
            self.run_processes(&[0], |_| self.run_threads(&body))
        }
    }

    fn run_worker(
        &self,
        worker: usize,
        ordinals: Vec<usize>,
        body: &(impl Fn(&Seat) -> Fallible<()> + Sync),
    ) -> Fallible<()> {
        let total = self.devices.len();
        let seat = Seat {
            model: self.model,
            worker,
            workers: self.model.workers(total),
            total,
            ranks: if self.model == Model::OneThread { 0..total } else { worker..worker + 1 },
            ordinals,
            control: self.control,
            wait_limit: self.wait_limit,
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(&seat))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(format!("panic: {}", text.unwrap_or_default()))
        });
        outcome.map_err(|error| {
            crate::cuda::abandon_cleanup();
            if error == GAVE_UP {
                return error;
            }
            let rank = if seat.must_group() { "all ranks" } else { &format!("rank {worker}") };
            // Some errors name their rank already.
            let named = if error.starts_with("rank ") { error } else { format!("{rank}: {error}") };
            let error = format!("{named} [while: {}]", self.control.doing(worker));
            self.control.log(&format!("FAILED {error}"));
            self.control.fail();
            error
        })
    }

    fn run_threads(&self, body: &(impl Fn(&Seat) -> Fallible<()> + Sync)) -> Fallible<()> {
        let workers = self.model.workers(self.devices.len());
        let outcomes: Vec<Fallible<()>> = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..workers)
                .map(|worker| scope.spawn(move || self.run_worker(worker, self.devices.to_vec(), body)))
                .collect();
            handles
                .into_iter()
                .map(|handle| handle.join().unwrap_or_else(|_| Err("a worker panicked".into())))
                .collect()
        });
        first_error(outcomes)
    }

    fn run_processes(&self, workers: &[usize], work: impl Fn(usize) -> Fallible<()>) -> Fallible<()> {
        let mut children: Vec<(usize, libc::pid_t)> = Vec::new();
        for &worker in workers {
            // SAFETY: this process has one thread and has not touched CUDA, so the child may run any code.
            match unsafe { libc::fork() } {
                -1 => {
                    self.control.fail();
                    return Err(format!("fork: {}", std::io::Error::last_os_error()));
                }
                0 => {
                    // SAFETY: plain system calls. The child must not outlive a parent that a time limit kills, and
                    // leaves without running exit handlers, which can hang behind a GPU that still spins.
                    unsafe {
                        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                        let code = if work(worker).is_ok() { 0 } else { 1 };
                        libc::_exit(code)
                    }
                }
                pid => children.push((worker, pid)),
            }
        }
        let start = Instant::now();
        let mut trouble = Vec::new();
        while !children.is_empty() {
            children.retain(|&(worker, pid)| {
                let mut status = 0;
                // SAFETY: pid is a child of ours that has not been waited for.
                let done = unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } == pid;
                if done && status != 0 {
                    if libc::WIFSIGNALED(status) {
                        trouble.push(format!(
                            "process {worker} died of signal {} while: {}",
                            libc::WTERMSIG(status),
                            self.control.doing(worker)
                        ));
                    }
                    self.control.fail();
                }
                !done
            });
            if start.elapsed() > self.limit && !children.is_empty() {
                self.control.fail();
                trouble.push(self.timeout_report());
                for &(_, pid) in &children {
                    // SAFETY: as above; these are processes this function started.
                    unsafe {
                        libc::kill(pid, libc::SIGKILL);
                        libc::waitpid(pid, std::ptr::null_mut(), 0);
                    }
                }
                children.clear();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        for line in &trouble {
            self.control.log(&format!("FAILED {line}"));
        }
        match (trouble.into_iter().next(), self.control.has_failed()) {
            (Some(line), _) => Err(line),
            (None, true) => Err("a worker failed; its message is above".to_owned()),
            (None, false) => Ok(()),
        }
    }

    fn timeout_report(&self) -> String {
        let mut text = format!("HANG: not done after {:.0} s", self.limit.as_secs_f64());
        for worker in 0..self.model.workers(self.devices.len()) {
            text.push_str(&format!("\n  worker {worker}: {}", self.control.doing(worker)));
        }
        text
    }

    /// Ends the process when the work takes longer than the limit: a thread stuck in the driver cannot be ended alone.
    fn with_watchdog(&self, work: impl FnOnce() -> Fallible<()>) -> Fallible<()> {
        let (done, waiting) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                if waiting.recv_timeout(self.limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                    self.control.log(&format!("FAILED {}", self.timeout_report()));
                    // SAFETY: leaves at once, without exit handlers that could wait for the GPU.
                    unsafe { libc::_exit(124) }
                }
            });
            let outcome = work();
            drop(done);
            outcome
        })
    }
}

/// Limits CUDA to one device of those visible so far.
fn show_only(device: usize) {
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok().filter(|list| !list.trim().is_empty());
    let name = visible
        .as_deref()
        .and_then(|list| list.split(',').nth(device))
        .map_or_else(|| device.to_string(), |name| name.trim().to_owned());
    set_variables(&[("CUDA_VISIBLE_DEVICES", &name)]);
}

fn first_error(outcomes: Vec<Fallible<()>>) -> Fallible<()> {
    let mut errors: Vec<String> = outcomes.into_iter().filter_map(Result::err).collect();
    // The one that failed by itself says more than those that followed it.
    errors.sort_by_key(|error| error == GAVE_UP);
    errors.into_iter().next().map_or(Ok(()), Err)
}

/// Runs a short question in a forked child and returns its answer, so that this process stays free of what the question loads.
pub fn ask_child(question: impl FnOnce() -> Fallible<Vec<u8>>) -> Fallible<Vec<u8>> {
    const ANSWERED: u8 = 0;
    const FAILED: u8 = 1;
    let (mut reader, mut writer) = std::io::pipe().map_err(|error| format!("pipe: {error}"))?;
    // SAFETY: called while this process has one thread; the child leaves by _exit.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let (kind, text) = match question() {
            Ok(answer) => (ANSWERED, answer),
            Err(error) => (FAILED, error.into_bytes()),
        };
        let written = writer.write_all(&[&[kind], text.as_slice()].concat());
        // SAFETY: leaves without exit handlers, as this process does.
        unsafe { libc::_exit(i32::from(written.is_err())) }
    }
    if pid < 0 {
        return Err(format!("fork: {}", std::io::Error::last_os_error()));
    }
    drop(writer);
    let mut answer = Vec::new();
    let read = reader.read_to_end(&mut answer);
    let mut status = 0;
    // SAFETY: the child of this call, which nobody else waits for.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    read.map_err(|error| format!("pipe: {error}"))?;
    if libc::WIFSIGNALED(status) {
        return Err(format!("a process that tries it dies of signal {}", libc::WTERMSIG(status)));
    }
    match answer.split_first() {
        Some((&ANSWERED, answer)) => Ok(answer.to_vec()),
        Some((_, text)) => Err(String::from_utf8_lossy(text).into_owned()),
        None => Err(format!("a process that tries it ends with status {}", libc::WEXITSTATUS(status))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    fn team(model: Model, devices: &[usize], limit_ms: u64, in_process: bool) -> Team<'_> {
        Team {
            model,
            devices,
            control: Control::new().unwrap(),
            wait_limit: Duration::from_secs(10),
            limit: Duration::from_millis(limit_ms),
            in_process,
        }
    }

    #[test]
    fn every_model_gives_each_rank_to_one_worker() {
        for (model, in_process) in [(Model::Threads, true), (Model::OneThread, true), (Model::Processes, false)] {
            let team = team(model, &[3, 1, 2], 10_000, in_process);
            team.run(|seat| {
                for rank in seat.ranks.clone() {
                    team.control.numbers[rank][0].fetch_add(1 + seat.ordinals[rank] as u64, Ordering::SeqCst);
                }
                seat.barrier()
            })
            .unwrap();
            let seen: Vec<u64> = (0..3).map(|rank| team.control.numbers[rank][0].load(Ordering::SeqCst)).collect();
            assert_eq!(seen, [4, 2, 3], "{}", model.name());
        }
    }

    #[test]
    fn a_failing_worker_stops_the_others_and_is_named() {
        for (model, in_process) in [(Model::Threads, true), (Model::Processes, false)] {
            let team = team(model, &[0, 1], 10_000, in_process);
            let outcome = team.run(|seat| {
                seat.doing("the second step");
                if seat.worker == 1 { Err("broken".to_owned()) } else { seat.barrier() }
            });
            assert!(outcome.is_err());
            assert!(team.control.log_text().contains("rank 1: broken [while: the second step]"));
        }
    }

    #[test]
    fn a_process_that_dies_or_hangs_is_reported_with_what_it_was_doing() {
        let dies = team(Model::Processes, &[0, 1], 10_000, false);
        let outcome = dies.run(|seat| {
            seat.doing("a deadly step");
            if seat.worker == 1 {
                // SAFETY: ends this forked child.
                unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            }
            seat.barrier()
        });
        assert!(outcome.unwrap_err().contains("process 1 died of signal 9 while: a deadly step"));
        let hangs = team(Model::Processes, &[0], 1_000, false);
        let outcome = hangs.run(|seat| {
            seat.doing("an endless step");
            std::thread::sleep(Duration::from_secs(60));
            Ok(())
        });
        let message = outcome.unwrap_err();
        assert!(message.contains("HANG") && message.contains("worker 0: an endless step"), "{message}");
    }
}
