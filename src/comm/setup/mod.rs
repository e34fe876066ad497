//! The setup of a communicator, at its first all-reduce that could be fast.
//!
//! Four rounds over the real communicator. In a round every rank sends one message to every rank ([`channel`],
//! [`hello`]). What the ranks conclude from the messages is in [`agreement`]:
//!
//! 1. Every rank says who it is: build, settings, host, GPU. All conclude the same from it. Then each rank loads the
//!    kernels and allocates scratch.
//! 2. Every rank has its scratch. Then descriptors are passed, each rank maps its peers' scratch and writes a pattern
//!    into it.
//! 3. Every rank has written its patterns. Then each rank checks what it received, and clears its scratch.
//! 4. Every rank has checked and cleared its scratch. The communicator is fast.
//!
//! A rank that cannot go on says so in its next message, and all forward ([`exchange`]). Nothing that belongs to the
//! application is touched. [`resumption`] takes the same steps again for a communicator that was suspended.

pub mod agreement;
pub mod beacon;
pub(crate) mod channel;
pub mod concurrent_setups;
mod exchange;
pub mod hello;
mod identity;
pub mod nccl_variables;
mod probe;
pub mod resumption;
pub mod sockets;
pub mod tuning;
pub mod under_way;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::comm::life::deferred_free;
use crate::comm::life::deferred_free::After;
use crate::comm::life::resources::Resources;
use crate::comm::life::watchdog;
use crate::comm::run::declared;
use crate::comm::run::declared::Declared;
use crate::comm::run::graph_order::GraphOrder;
use crate::comm::run::log_lines;
use crate::comm::run::stream_order::StreamOrder;
use crate::comm::setup::agreement::{Agreement, STEPS, Step, Verdict};
use crate::comm::setup::exchange::{Exchange, Objection, Offered, Terms, handle_of, memory, rank_and_device};
use crate::comm::setup::nccl_variables::NcclVariables;
use crate::comm::setup::under_way::UnderWay;
use crate::comm::table::fast::{Comm, Fast};
use crate::gpu::CUcontext;
use crate::gpu::context::{PrimaryContext, RelaxedCapture};
use crate::gpu::driver::{Driver, DriverResult};
use crate::gpu::functions::Functions;
use crate::gpu::mailbox::Mailbox;
use crate::gpu::memory::{PeerScratch, Scratch, Sharing};
use crate::gpu::topology;
use crate::gpu::topology::Link;
use crate::host::config::Config;
use crate::kernel::layout::{MAX_RANKS, SCRATCH_BYTES};
use crate::launch::{Enqueued, Target};
use crate::nccl::ncclComm_t;
use crate::route::tuning::Tuned;
use crate::route::{Agreed, Reason};

/// Sets a communicator up. Afterwards it is fast or forwards, or is poisoned.
pub fn set_up(comm: &'static Comm) {
    let began = Instant::now();
    let (mut config, _) = Config::from_env();
    // NCCL reads its own configuration files at its first communicator and may have set NCCL_DEBUG since.
    crate::observe::log::start(&config);
    crate::observe::nvtx::start();
    settle_batch_invariance(comm, &mut config);
    let _relaxed = RelaxedCapture::enter();
    let under_way = UnderWay::begin();
    let Some(mut run) = SetupRun::open(comm, &config) else { return };
    for step in STEPS {
        match step {
            Step::Round(round) => run.exchange.run_round(round, "setup"),
            Step::Allocate => run.step(|run| run.allocate(&config)),
            Step::PassScratch => run.step(|run| run.exchange.pass_scratch(&config)),
            Step::MapPeers => run.step(SetupRun::map_peers),
            Step::Check => run.step(|run| run.check(&config)),
        }
    }
    // From here on no other rank waits for this one.
    drop(under_way);
    run.finish(&config, began);
}

/// Whether a communicator is batch-invariant was decided when it was made: before the setup a rank must know whether a
/// large message begins it. Replaces the environment's value of now.
fn settle_batch_invariance(comm: &Comm, config: &mut Config) {
    static SAID: AtomicBool = AtomicBool::new(false);
    let handle = comm.handle() as ncclComm_t;
    let was_asked_for = beacon::is_batch_invariant(handle);
    if config.batch_invariant && !was_asked_for {
        log::warn!(
            "communicator {handle:p}: DIME_BATCH_INVARIANT=1 does not hold, since it was set after the communicator was made"
        );
    }
    config.batch_invariant = was_asked_for;
    if was_asked_for && config.threshold_bytes.is_some() && !SAID.swap(true, Ordering::Relaxed) {
        log::error!(
            "DIME_BATCH_INVARIANT=1 and DIME_THRESHOLD_BYTES are both set: floats of every size stay with Dime, and the \
             threshold holds for integers only. Unset one of them"
        );
    }
}

/// Why scratch is not shared by descriptors, for the log.
fn why_legacy_ipc(agreement: &Agreement, config: &Config, variables: &NcclVariables) -> String {
    let of_rank = agreement.hellos().iter().position(|hello| !hello.shares_descriptors);
    match of_rank {
        None => String::new(),
        Some(rank) if rank != agreement.rank() => format!(" (as rank {rank} needs it)"),
        Some(_) if config.legacy_ipc => " (DIME_LEGACY_IPC is set)".to_owned(),
        Some(_) if variables.avoids_cumem() => " (NCCL_CUMEM_ENABLE is 0)".to_owned(),
        Some(_) => " (the driver cannot share memory as file descriptors)".to_owned(),
    }
}

/// A setup that is under way, on one rank.
struct SetupRun {
    comm: &'static Comm,
    exchange: Exchange,
    variables: NcclVariables,
    declared: Declared,
    /// What was made so far.
    resources: Resources,
    kernels_ms: f64,
}

impl SetupRun {
    /// Collects what this rank says of itself, and opens the channel to the other ranks. A failure here is an error
    /// and not a forward: this rank cannot tell the other ranks, and they wait for it.
    fn open(comm: &'static Comm, config: &Config) -> Option<Self> {
        let driver = match Driver::get() {
            Ok(driver) => driver,
            Err(detail) => {
                // Forwarding is safe: a rank that other processes count on has lit its beacon, and for that it opened
                // the driver.
                comm.set_forward(Reason::NoDriver);
                log_lines::decided(comm.handle() as ncclComm_t, Reason::NoDriver, &format!(": {detail}"));
                return None;
            }
        };
        match Self::try_open(comm, config, driver) {
            Ok(run) => Some(run),
            Err(detail) => {
                log::error!(
                    "the setup of a communicator could not begin on this rank, and the other ranks wait for it: {detail}. \
                     Abort the communicator on all ranks"
                );
                comm.poison();
                None
            }
        }
    }

    fn try_open(comm: &'static Comm, config: &Config, driver: &'static Driver) -> Result<Self, String> {
        let handle = handle_of(comm).ok_or("the communicator was aborted")?;
        let (rank, ordinal) = rank_and_device(handle)?;
        let context = PrimaryContext::retain(driver, ordinal).map_err(|error| error.to_string())?;
        let variables = NcclVariables::from_env();
        let declared = declared::of(handle, &variables);
        let opened = Exchange::open(comm, (rank, ordinal), &context, |device| Terms {
            settings: identity::settings(config),
            shares_descriptors: device.shares_descriptors && !config.legacy_ipc && !variables.avoids_cumem(),
            shared_gpus: config.allow_shared_gpu,
            most_ctas: declared.most_ctas,
            tuning: tuning::digest(config, device.arch),
            refusal: identity::own_refusal(config, &variables, device),
        });
        match opened {
            Ok(exchange) => {
                Ok(Self { comm, exchange, variables, declared, resources: Resources::new(context), kernels_ms: 0.0 })
            }
            Err(error) => {
                // Only the first error is reported.
                let _ = context.release();
                Err(error)
            }
        }
    }

    /// Runs a step, unless this rank already cannot go on. A failure becomes its refusal in the next message.
    fn step(&mut self, step: impl FnOnce(&mut Self) -> Result<(), Objection>) {
        if self.exchange.begins_step()
            && let Err(objection) = step(self)
        {
            self.exchange.object(objection);
        }
    }

    fn driver(&self) -> &'static Driver {
        self.exchange.driver
    }

    fn in_context<T>(&self, work: impl FnOnce() -> DriverResult<T>) -> DriverResult<T> {
        self.exchange.in_context(work)
    }

    /// After round 1: links, kernels, scratch.
    fn allocate(&mut self, config: &Config) -> Result<(), Objection> {
        self.check_links(config)?;
        self.exchange.reach_peers()?;
        let (driver, context, agreement) = (self.driver(), self.exchange.context, &self.exchange.agreement);
        let (ranks, sharing) = (agreement.ranks(), agreement.sharing());
        let began = Instant::now();
        let arch = self.exchange.device.arch;
        let functions = self.in_context(|| Functions::load(driver, context, arch, ranks));
        self.resources.functions = Some(functions.map_err(|error| (Reason::Load, error.to_string()))?);
        self.kernels_ms = began.elapsed().as_secs_f64() * 1e3;
        let ordinal = self.exchange.device.ordinal;
        let scratch =
            self.exchange.in_context(|| Scratch::allocate(driver, ordinal, SCRATCH_BYTES, sharing)).map_err(memory)?;
        let scratch = self.resources.scratch.insert(scratch);
        let mut lease = None;
        if sharing == Sharing::LegacyIpc {
            let exported = self.exchange.in_context(|| scratch.export_ipc(driver));
            self.exchange.agreement.set_ipc_handle(exported.map_err(memory)?);
            if self.exchange.has_remote_peers() {
                lease = Some(scratch.lease().map_err(|error| (Reason::Memory, error.to_string()))?);
            }
        }
        self.exchange.offer(scratch, lease)?;
        self.resources.mailbox = Some(self.in_context(|| Mailbox::allocate(driver, context)).map_err(memory)?);
        self.resources.order = Some(self.in_context(|| StreamOrder::new(driver)).map_err(memory)?);
        let between_graphs = self.declared.mixes_graphs;
        self.resources.graph_order = Some(self.in_context(|| GraphOrder::new(driver, between_graphs)).map_err(memory)?);
        Ok(())
    }

    fn check_links(&self, config: &Config) -> Result<(), Objection> {
        let device = &self.exchange.device;
        for peer in self.exchange.peers() {
            let hello = &self.exchange.agreement.hellos()[peer];
            if hello.device_uuid == device.uuid {
                continue;
            }
            match topology::link(self.driver(), device, hello.device_uuid) {
                Link::Nvlink => {}
                Link::Other if config.allow_pcie && !self.variables.allows_pcie() => {
                    return Err((Reason::P2pDisabled, format!("to rank {peer}, over PCIe")));
                }
                Link::Other if config.allow_pcie => {}
                Link::Other => return Err((Reason::NoNvlink, format!("to rank {peer}"))),
                Link::None => return Err((Reason::NoPeerAccess, format!("to rank {peer}"))),
            }
        }
        Ok(())
    }

    /// Maps the peers' scratch, and writes a pattern into each.
    fn map_peers(&mut self) -> Result<(), Objection> {
        let (driver, device, context) = (self.driver(), self.exchange.device.ordinal, self.exchange.context);
        for peer in self.exchange.peers() {
            let offered = self.exchange.offered_by(peer)?;
            let agreement = &self.exchange.agreement;
            let mapped = self.in_context(|| match (offered, agreement.sharing()) {
                (Offered::Here(known), _) => {
                    PeerScratch::same_process(driver, device, context, known.key, known.context as CUcontext)
                }
                (Offered::Elsewhere(descriptor), Sharing::Descriptor) => {
                    PeerScratch::import_descriptor(driver, device, &descriptor, SCRATCH_BYTES)
                }
                (Offered::Elsewhere(lease), Sharing::LegacyIpc) => {
                    PeerScratch::import_ipc(driver, agreement.hellos()[peer].ipc_handle, SCRATCH_BYTES, lease)
                }
            });
            self.resources.peers.push((peer, mapped.map_err(memory)?));
        }
        self.exchange.close_export();
        match &self.resources.functions {
            Some(functions) => self.exchange.write_patterns(functions, &self.resources.peers),
            None => Ok(()),
        }
    }

    /// After round 3: checks what the peers wrote, then clears scratch.
    fn check(&mut self, config: &Config) -> Result<(), Objection> {
        match (&self.resources.functions, &self.resources.scratch) {
            (Some(functions), Some(scratch)) => {
                self.exchange.check_and_clear(functions, scratch.address, config.first_epoch.0)
            }
            _ => Ok(()),
        }
    }

    /// After round 4: makes the communicator fast, or makes it forward, or poisons it. Unless it is fast, the freeing
    /// of what was made is deferred.
    fn finish(self, config: &Config, began: Instant) {
        let Exchange { handle, device, agreement, objection, .. } = &self.exchange;
        let (rank, ranks) = (agreement.rank(), agreement.ranks());
        self.exchange.withdraw();
        beacon::put_out(*handle);
        let line = log_lines::name(*handle, rank, ranks, device.ordinal);
        match agreement.verdict() {
            Some(Verdict::Fast) => {}
            Some(Verdict::Forward(refusal)) => {
                let own = match objection {
                    Some((reason, detail)) if *reason == refusal.reason => format!("; this rank: {detail}"),
                    Some((reason, detail)) => format!("; this rank: {}: {detail}", reason.text()),
                    None => String::new(),
                };
                let why = format!("{} (rank {}{own})", refusal.reason.text(), refusal.rank);
                // Damaged memory is never as intended.
                let is_damaged = matches!(objection, Some((Reason::Probe, _)));
                let level = if is_damaged { log::Level::Warn } else { log::Level::Info };
                log_lines::forwards(&line, &why, level, config.batch_invariant);
                self.comm.set_forward(refusal.reason);
                return self.defer_free();
            }
            Some(Verdict::Failed) | None => {
                if let Some((reason, detail)) = objection {
                    log::info!("{line}: {}: {detail}", reason.text());
                }
                self.comm.poison();
                return self.defer_free();
            }
        }
        let Self { resources, .. } = &self;
        let (Some(functions), Some(scratch), Some(mailbox)) =
            (&resources.functions, &resources.scratch, &resources.mailbox)
        else {
            unreachable!("every step of this rank succeeded, or it is not fast")
        };
        let mut addresses = [0; MAX_RANKS];
        addresses[rank] = scratch.address;
        for (peer, mapped) in &resources.peers {
            addresses[*peer] = mapped.address;
        }
        let agreed = Agreed {
            ranks,
            arch: device.arch,
            multiprocessors: hello::sms_of_a_rank(agreement.hellos()),
            forced: config.kernel.0,
            threshold_setting: config.threshold_bytes.map(|bytes| bytes.0 as usize),
            batch_invariant: config.batch_invariant,
            blocks: config.blocks,
            threads: config.threads,
            most_ctas: hello::most_ctas(agreement.hellos()).map_or(u32::MAX, |most| most.get().into()),
            tuned: self.tuned(config, &line),
        };
        let target = Target {
            functions: *functions,
            scratch: addresses,
            mailbox: mailbox.device,
            early_launch: config.early_launch,
            first_epoch: config.first_epoch.0,
            rank: rank as u8,
            ranks: ranks as u8,
        };
        let words = mailbox.view();
        let (device, sharing, rounds_ms) = (device.ordinal, agreement.sharing(), self.exchange.rounds_ms);
        let why = why_legacy_ipc(agreement, config, &self.variables);
        deferred_free::defer_channel(self.exchange.channel, &self.resources.context);
        self.comm.set_fast(Fast {
            resources: self.resources,
            agreed,
            target,
            eager: Enqueued::default(),
            captured: Enqueued::default(),
            is_suspended_by_dime: AtomicBool::new(false),
        });
        if config.timeout_s != 0 {
            watchdog::begin(self.comm, rank, device, words, config.timeout_s);
        }
        log::info!(
            "{line}: all-reduces are fast: {} MiB of scratch by {:?}{why}, {}{}, set up in {:.0} ms (rounds {:.0} ms, kernels {:.0} ms)",
            SCRATCH_BYTES >> 20,
            sharing,
            log_lines::thresholds(&agreed),
            log_lines::tuning(&agreed),
            began.elapsed().as_secs_f64() * 1e3,
            rounds_ms,
            self.kernels_ms
        );
    }

    /// The rows of the tuning file, if there are some and all ranks have the same.
    fn tuned(&self, config: &Config, line: &str) -> Option<&'static Tuned> {
        if let Some(rank) = tuning::first_that_differs(self.exchange.agreement.hellos()) {
            log::warn!(
                "{line}: the built-in rows decide, since the ranks have different tuning files (rank 0 and rank {rank})"
            );
            return None;
        }
        if self.exchange.agreement.message().tuning == tuning::NO_ROWS {
            return None;
        }
        tuning::tuned(config, self.exchange.device.arch, self.exchange.agreement.ranks())
    }

    /// Defers the freeing of what was made: kernels of a step that failed half-way may still run, and peers may not
    /// have finished theirs.
    fn defer_free(self) {
        deferred_free::defer_setup(Resources { channel: Some(self.exchange.channel), ..self.resources });
        deferred_free::sweep(After::Setup(self.comm));
    }
}
