//! One run of measurements: a process with a thread for each GPU, under a temporary tuning file.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dime::route::TypeKind;
use dime::route::tuning::{Tuning, TuningRow};
use dime_harness::control::Control;
use dime_harness::locate::Paths;
use dime_harness::number::{Dtype, Op};
use dime_harness::payload::{Kind, Payload};
use dime_harness::rig::{Communicator, Gpu, open_gpus};
use dime_harness::team::{Seat, Team, set_variables};
use dime_harness::{Fallible, cuda, stats};

use super::candidates::Candidate;
use crate::bench::connect;
use crate::bench::measure::{Measure, Place};
use crate::bench::plan::{Drive, Method, Mode};
use crate::bench::progress::Progress;
use crate::bench::row::{Column, Facts, Row};
use crate::bench::rows::RowFile;
use crate::bench::simulated::Node;

/// Seed of the data.
const SEED: u64 = 1;
/// Beyond its time a run needs this much for its beginning and end. On the simulated node everything takes longer.
const GRACE: Duration = Duration::from_secs(60);
const GRACE_SIMULATED: Duration = Duration::from_secs(600);

/// The types that are measured, each for a kind of type.
pub const TYPES: [(Dtype, TypeKind); 2] = [(Dtype::Bf16, TypeKind::FloatSum), (Dtype::I32, TypeKind::Integer)];

/// One message that is timed.
#[derive(Clone, PartialEq, Debug)]
pub struct Trial {
    /// An index of [`TYPES`].
    pub of_type: usize,
    /// Bytes of the message. In one run no other candidate of the type has a message of as many.
    pub bytes: usize,
    /// The row that serves it. None: the built-in one.
    pub candidate: Option<Candidate>,
    /// NCCL is timed in place of libdime.so.
    pub by_nccl: bool,
}

/// The times of a run.
pub struct Times {
    us: HashMap<(Dtype, usize, bool), Vec<f64>>,
    /// What was wrong with a result, if anything.
    pub wrong: Vec<String>,
    /// What all measurements have in common. None: there are none.
    pub facts: Option<Facts>,
}

impl Times {
    /// The median time of a trial. None: there was no time for it, or its row was not used.
    pub fn of(&self, trial: &Trial) -> Option<f64> {
        self.us.get(&(TYPES[trial.of_type].0, trial.bytes, trial.by_nccl)).map(|samples| stats::median(samples))
    }
}

/// A run.
pub struct Stage<'a> {
    pub paths: &'a Paths,
    pub node: &'a Node,
    pub ranks: usize,
    /// In the order in which they are timed.
    pub trials: Vec<Trial>,
    /// How often all of them are timed.
    pub repeats: usize,
    /// Replays that count for one time.
    pub replays: usize,
    /// No measurement begins after it.
    pub deadline: Instant,
}

impl Stage<'_> {
    /// Times all trials, as far as there is time.
    pub fn run(&self) -> Fallible<Times> {
        let tuning = TemporaryFile::write(&self.tuning().text([]))?;
        set_variables(&[("DIME_TUNING_FILE", tuning.name()?)]);
        let rows = RowFile::create(None)?;
        let payloads = TYPES.map(|(dtype, _)| Payload::new(dtype, Kind::Exact, &[Op::Sum], self.ranks, SEED));
        let devices: Vec<usize> = (0..self.ranks).collect();
        let grace = if self.node.is_simulated { GRACE_SIMULATED } else { GRACE };
        let team = Team {
            model: Drive::Threads.model(),
            devices: &devices,
            control: Control::new()?,
            wait_limit: Duration::from_secs(if self.node.is_simulated { 180 } else { 30 }),
            limit: self.deadline.saturating_duration_since(Instant::now()) + grace,
            in_process: false,
        };
        let progress = Mutex::new(Progress::new(self.ranks, self.trials.len() * self.repeats));
        let is_over = AtomicBool::new(false);
        team.run(|seat| {
            let worker =
                Worker { stage: self, seat, payloads: &payloads, rows: &rows, progress: &progress, is_over: &is_over };
            worker.run()
        })?;
        let (rows, facts) = rows.read()?;
        self.times(&rows, facts)
    }

    /// A row for each candidate's message, and thresholds that keep all messages with libdime.so.
    fn tuning(&self) -> Tuning {
        let row = |trial: &Trial| {
            let row = trial.candidate?.row(TYPES[trial.of_type].1);
            Some(TuningRow { min_bytes: trial.bytes, max_bytes: trial.bytes, ..row })
        };
        let thresholds = TuningRow { threshold_bytes: Some(usize::MAX), ..TuningRow::ANY };
        Tuning { rows: self.trials.iter().filter_map(row).chain([thresholds]).collect() }
    }

    fn times(&self, rows: &[Row], facts: Option<Facts>) -> Fallible<Times> {
        let mut times = Times { us: HashMap::new(), wrong: Vec::new(), facts };
        for row in rows {
            let by_nccl = row.column == Column::Nccl;
            if let Some(reason) = &row.reason {
                return Err(format!(
                    "all-reduces of {} ranks are forwarded: {reason}; dime doctor says what to do",
                    self.ranks
                ));
            }
            if !row.is_right() {
                let (dtype, size) = (row.dtype.name(), stats::show_bytes(row.bytes));
                times.wrong.push(format!("{} of {size} {dtype}: {}", row.kernel, row.check));
                continue;
            }
            let of = |trial: &&Trial| {
                (TYPES[trial.of_type].0, trial.bytes, trial.by_nccl) == (row.dtype, row.bytes, by_nccl)
            };
            let candidate = self.trials.iter().find(of).and_then(|trial| trial.candidate);
            if candidate.is_some_and(|candidate| candidate.kernel.name() != row.kernel) {
                return Err(format!("libdime.so ran {} in place of the temporary tuning file's kernel", row.kernel));
            }
            times.us.entry((row.dtype, row.bytes, by_nccl)).or_default().push(row.us);
        }
        Ok(times)
    }
}

/// One thread of the run.
struct Worker<'a> {
    stage: &'a Stage<'a>,
    seat: &'a Seat,
    payloads: &'a [Payload],
    rows: &'a RowFile,
    progress: &'a Mutex<Progress>,
    is_over: &'a AtomicBool,
}

impl Worker<'_> {
    fn run(&self) -> Fallible<()> {
        let (stage, seat) = (self.stage, self.seat);
        let libraries = stage.paths.libraries()?;
        cuda::init()?;
        let facts = Facts {
            gpu: stage.node.gpu.clone(),
            driver: cuda::kernel_driver_version().unwrap_or_else(|| "unknown".to_owned()),
            nccl_version: libraries.real.version()?,
            dime_version: libraries.dime.dime_version().unwrap_or_else(|| "unknown".to_owned()),
            in_place: false,
            drive: Drive::Threads,
            is_simulated: stage.node.is_simulated,
            date: stats::now_utc(),
        };
        let gpus = open_gpus(seat)?;
        let ours = connect(seat, &gpus, &Column::Dime, &libraries.dime, &self.payloads[0])?;
        let theirs = match stage.trials.iter().any(|trial| trial.by_nccl) {
            true => Some(connect(seat, &gpus, &Column::Nccl, &libraries.real, &self.payloads[0])?),
            false => None,
        };
        self.time_all(&gpus, &ours, theirs.as_ref(), &facts)?;
        for communicator in [Some(ours), theirs].into_iter().flatten() {
            communicator.check_async_error()?;
            communicator.destroy(seat, &gpus)?;
        }
        seat.barrier()
    }

    fn time_all(
        &self,
        gpus: &[Gpu],
        ours: &Communicator,
        theirs: Option<&Communicator>,
        facts: &Facts,
    ) -> Fallible<()> {
        let stage = self.stage;
        let largest = stage.trials.iter().map(|trial| trial.bytes).max().unwrap_or(0);
        let places = self.payloads.iter().map(|payload| Place::new(&gpus[0], payload, largest, false));
        let places = places.collect::<Fallible<Vec<Place>>>()?;
        let method = Method::new(None, Some(stage.replays), Some(2), 1, stage.node.is_simulated);
        'all: for repeat in 0..stage.repeats {
            for trial in &stage.trials {
                if self.is_time_over()? {
                    break 'all;
                }
                let (column, communicator) = match (trial.by_nccl, theirs) {
                    (true, Some(theirs)) => (Column::Nccl, theirs),
                    _ => (Column::Dime, ours),
                };
                let payload = &self.payloads[trial.of_type];
                self.show(&format!("{} {}, {}", payload.dtype.name(), stats::show_bytes(trial.bytes), column.label()))?;
                let measure = Measure {
                    seat: self.seat,
                    gpus,
                    communicator,
                    place: &places[trial.of_type],
                    payload,
                    op: Op::Sum,
                    count: trial.bytes / payload.dtype.bytes(),
                    method: &method,
                };
                for row in measure.all(&column, &[Mode::Graph])? {
                    self.rows.write(&Row { repeat, ..row }, facts)?;
                }
            }
        }
        // Freeing host memory waits for all GPUs of the process: no rank may be busy by then.
        self.seat.barrier()?;
        drop(places);
        self.seat.barrier()
    }

    /// All workers answer alike. The next barrier keeps the first worker from changing the answer before all have it.
    fn is_time_over(&self) -> Fallible<bool> {
        if self.seat.worker == 0 {
            self.is_over.store(Instant::now() > self.stage.deadline, Ordering::Release);
        }
        self.seat.barrier()?;
        let is_over = self.is_over.load(Ordering::Acquire);
        self.seat.barrier()?;
        Ok(is_over)
    }

    fn show(&self, what: &str) -> Fallible<()> {
        if self.seat.worker == 0 {
            self.progress.lock().map_err(|error| error.to_string())?.show(what);
        }
        Ok(())
    }
}

/// A file that is removed when this is dropped.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn write(text: &str) -> Fallible<Self> {
        let path = std::env::temp_dir().join(format!("dime-tune-{}.csv", std::process::id()));
        let failed = |error: std::io::Error| format!("{}: {error}; name a folder in TMPDIR", path.display());
        let mut file = std::fs::File::options().write(true).create_new(true).open(&path).map_err(failed)?;
        let file_of_ours = Self(path.clone());
        file.write_all(text.as_bytes()).map_err(failed)?;
        Ok(file_of_ours)
    }

    fn name(&self) -> Fallible<&str> {
        self.0.to_str().ok_or_else(|| format!("{}: is not UTF-8; name another folder in TMPDIR", self.0.display()))
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // It is one file in a folder for such files: that it stays is no reason to stop.
        let _ = std::fs::remove_file(&self.0);
    }
}
