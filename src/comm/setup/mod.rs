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
//! A rank that cannot go on has an *objection*. Its next message says so, as the rank's *refusal*, and all forward.
//! Until then it takes part in every round, because the other ranks wait in it. Nothing that belongs to the application
//! is touched.

pub mod agreement;
pub mod beacon;
pub(crate) mod channel;
pub mod concurrent_setups;
pub mod hello;
mod identity;
pub mod nccl_variables;
mod probe;
pub mod sockets;
pub mod tuning;
pub mod under_way;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::comm::life::deferred_free;
use crate::comm::life::deferred_free::After;
use crate::comm::life::resources::Resources;
use crate::comm::life::watchdog;
use crate::comm::run::graph_order::GraphOrder;
use crate::comm::run::graph_usage;
use crate::comm::run::log_lines;
use crate::comm::run::stream_order::StreamOrder;
use crate::comm::setup::agreement::{Agreement, STEPS, Step, Verdict};
use crate::comm::setup::channel::Channel;
use crate::comm::setup::hello::Hello;
use crate::comm::setup::nccl_variables::NcclVariables;
use crate::comm::setup::sockets::{Listener, Party, Peer};
use crate::comm::setup::under_way::UnderWay;
use crate::comm::table::fast::{Comm, Fast};
use crate::gpu::context::PrimaryContext;
use crate::gpu::context::{RelaxedCapture, with_context};
use crate::gpu::driver::{Driver, DriverError, DriverResult};
use crate::gpu::functions::Functions;
use crate::gpu::mailbox::Mailbox;
use crate::gpu::memory::{IPC_HANDLE_BYTES, PeerScratch, SameProcessKey, Scratch, Sharing};
use crate::gpu::topology;
use crate::gpu::topology::{Device, Link};
use crate::gpu::{CUcontext, CUstream};
use crate::host::config::Config;
use crate::host::lock::{Held, Lock};
use crate::kernel::layout::{MAX_RANKS, SCRATCH_BYTES};
use crate::launch::{Enqueued, Target};
use crate::nccl::{ncclComm_t, ncclSuccess};
use crate::real;
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
            Step::Round(round) => run.run_round(round),
            Step::Allocate => run.step(|run| run.allocate(&config)),
            Step::PassScratch => run.step(|run| run.pass_scratch(&config)),
            Step::MapPeers => run.step(SetupRun::map_peers),
            Step::Check => run.step(|run| run.check_and_clear(&config)),
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

/// The handle of a communicator that this thread is in a call on. None: it was aborted meanwhile, and NCCL may have
/// freed it.
fn handle_of(comm: &Comm) -> Option<ncclComm_t> {
    // The handle is read first: an abort marks the communicator before it hides the handle.
    let handle = comm.handle() as ncclComm_t;
    (!comm.is_aborted()).then_some(handle)
}

/// Scratch of the ranks of this process that are being set up, by token.
static OF_THIS_PROCESS: Lock<Vec<([u8; 16], SameProcess)>> = Lock::new(Vec::new());

#[derive(Clone)]
struct SameProcess {
    key: SameProcessKey,
    context: usize,
}

fn of_this_process() -> Held<'static, Vec<([u8; 16], SameProcess)>> {
    OF_THIS_PROCESS.hold()
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
    handle: ncclComm_t,
    device: Device,
    variables: NcclVariables,
    agreement: Agreement,
    /// Why this rank cannot go on, if it cannot. Its next message says so.
    objection: Option<Objection>,
    /// What was made so far.
    resources: Resources,
    channel: Channel,
    listener: Option<Listener>,
    /// What is sent to every peer in another process: this rank's scratch as a descriptor, or a lease to it.
    exported: Option<OwnedFd>,
    received: Vec<(u32, OwnedFd)>,
    kernels_ms: f64,
    /// Time spent in the rounds: in NCCL, and waiting for the other ranks.
    rounds_ms: f64,
}

/// Why a step cannot be done, and a detail for the log.
type Objection = (Reason, String);

fn memory(error: DriverError) -> Objection {
    (Reason::Memory, error.to_string())
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
        let text = |error: DriverError| error.to_string();
        let handle = handle_of(comm).ok_or("the communicator was aborted")?;
        let ranks = comm.ranks();
        let (mut rank, mut ordinal) = (0, 0);
        // SAFETY: the handle is the application's; out pointers are ours.
        let asked = unsafe {
            match real::ncclCommUserRank(handle, &mut rank) {
                0 => real::ncclCommCuDevice(handle, &mut ordinal),
                failed => failed,
            }
        };
        if asked != ncclSuccess {
            return Err(format!("NCCL did not return this rank's number and device (NCCL error {asked})"));
        }
        let context = PrimaryContext::retain(driver, ordinal).map_err(text)?;
        let channel = match Channel::open(handle, ranks, driver, context.context) {
            Ok(channel) => channel,
            Err(error) => {
                // Only the first error is reported.
                let _ = context.release();
                return Err(text(error));
            }
        };
        // What this rank cannot find out about itself it reports in its first message, because the others wait for
        // that message.
        let mut objection: Option<Objection> = None;
        let mut object = |reason, detail| {
            objection.get_or_insert((reason, detail));
        };
        let device = Device::describe(driver, ordinal).unwrap_or_else(|error| {
            object(Reason::SelfUnknown, error.to_string());
            identity::unknown_device(ordinal)
        });
        let mut or_object = |bytes: io::Result<[u8; 16]>| {
            bytes.unwrap_or_else(|error| {
                object(Reason::SelfUnknown, format!("the kernel gave no random bytes: {error}"));
                [0; 16]
            })
        };
        let (socket, token) = (or_object(sockets::random()), or_object(sockets::random()));
        let process = or_object(identity::process_id());
        let boot_id = identity::boot_id().unwrap_or_else(|error| {
            object(Reason::SelfUnknown, error);
            [0; 16]
        });
        let variables = NcclVariables::from_env();
        let listener = if objection.is_none() { Listener::bind(&socket).map(Some) } else { Ok(None) };
        let listener = listener.unwrap_or_else(|error| {
            objection = Some((Reason::Sockets, error.to_string()));
            None
        });
        let refusal =
            identity::own_refusal(config, &variables, &device).or(objection.as_ref().map(|(reason, _)| *reason));
        let hello = Hello {
            round: 1,
            rank: rank as u32,
            ranks: ranks as u32,
            build: identity::build(),
            settings: identity::settings(config),
            boot_id,
            process,
            device_uuid: device.uuid,
            arch: device.arch,
            multiprocessors: device.multiprocessors,
            shares_descriptors: device.shares_descriptors && !config.legacy_ipc && !variables.avoids_cumem(),
            socket,
            token,
            refusal,
            ipc_handle: [0; IPC_HANDLE_BYTES],
            tuning: tuning::digest(config, device.arch),
        };
        Ok(Self {
            comm,
            handle,
            device,
            variables,
            agreement: Agreement::new(hello).allow_shared_gpus(config.allow_shared_gpu),
            objection,
            resources: Resources::new(context),
            channel,
            listener,
            exported: None,
            received: Vec::new(),
            kernels_ms: 0.0,
            rounds_ms: 0.0,
        })
    }

    /// Runs a step, unless this rank already cannot go on. A failure becomes its refusal in the next message.
    fn step(&mut self, step: impl FnOnce(&mut Self) -> Result<(), Objection>) {
        if self.agreement.is_working() {
            crate::observe::log::set_device(self.device.ordinal);
            if let Err(objection) = step(self) {
                self.object(objection);
            }
        }
    }

    /// Sends this rank's message of a round and receives those of all ranks.
    fn run_round(&mut self, round: u32) {
        // NCCL may have freed the handle of a communicator that was aborted.
        if self.comm.is_aborted() {
            self.agreement.fail();
        }
        if !self.agreement.takes_part() {
            return;
        }
        self.agreement.begin_round(round);
        let began = Instant::now();
        let outcome = channel::round(&self.channel, self.agreement.message());
        self.rounds_ms += began.elapsed().as_secs_f64() * 1e3;
        // The other ranks may not know of a failure, so this one must not forward alone.
        let failure = match outcome {
            Ok(gathered) if self.agreement.hear(&gathered) => return,
            Ok(_) => "some ranks' messages are missing".to_owned(),
            Err(detail) => {
                self.agreement.fail();
                detail
            }
        };
        log::error!(
            "the setup failed on rank {} in round {round}: {failure}. Abort the communicator on all ranks",
            self.agreement.rank()
        );
    }

    /// This rank cannot go on. Its next message says so.
    fn object(&mut self, objection: Objection) {
        self.agreement.object(objection.0);
        self.objection = Some(objection);
    }

    fn driver(&self) -> &'static Driver {
        self.resources.context.driver
    }

    fn context(&self) -> CUcontext {
        self.resources.context.context
    }

    fn in_context<T>(&self, work: impl FnOnce() -> DriverResult<T>) -> DriverResult<T> {
        self.resources.context.run(work)?
    }

    fn stream(&self) -> CUstream {
        self.channel.stream
    }

    fn synchronize(&self) -> DriverResult<()> {
        // SAFETY: our own stream.
        self.driver().check("cuStreamSynchronize", unsafe { (self.driver().stream_synchronize)(self.stream()) })
    }

    /// After round 1: links, kernels, scratch.
    fn allocate(&mut self, config: &Config) -> Result<(), Objection> {
        let rank = self.agreement.rank();
        for (peer, hello) in self.agreement.hellos().iter().enumerate().filter(|(peer, _)| *peer != rank) {
            if hello.device_uuid == self.device.uuid {
                continue;
            }
            match topology::link(self.driver(), &self.device, hello.device_uuid) {
                Link::Nvlink => {}
                Link::Other if config.allow_pcie && !self.variables.allows_pcie() => {
                    return Err((Reason::P2pDisabled, format!("to rank {peer}, over PCIe")));
                }
                Link::Other if config.allow_pcie => {}
                Link::Other => return Err((Reason::NoNvlink, format!("to rank {peer}"))),
                Link::None => return Err((Reason::NoPeerAccess, format!("to rank {peer}"))),
            }
        }
        self.reach_peers()?;
        let began = Instant::now();
        let (arch, ranks) = (self.device.arch, self.agreement.ranks());
        let functions = self.in_context(|| Functions::load(self.driver(), self.context(), arch, ranks));
        self.resources.functions = Some(functions.map_err(|error| (Reason::Load, error.to_string()))?);
        self.kernels_ms = began.elapsed().as_secs_f64() * 1e3;
        let (driver, context, sharing) = (self.driver(), self.context(), self.agreement.sharing());
        let scratch = self
            .in_context(|| Scratch::allocate(driver, self.device.ordinal, SCRATCH_BYTES, sharing))
            .map_err(memory)?;
        let key = scratch.same_process_key();
        let scratch = self.resources.scratch.insert(scratch);
        if sharing == Sharing::LegacyIpc {
            let exported = with_context(driver, context, || scratch.export_ipc(driver)).and_then(|inner| inner);
            self.agreement.set_ipc_handle(exported.map_err(memory)?);
        }
        // Exported here, not when it is passed: so round 2 announces a failure, and no peer waits for a descriptor
        // that cannot come.
        self.export_scratch()?;
        of_this_process().push((*self.agreement.token(), SameProcess { key, context: context as usize }));
        self.resources.mailbox = Some(self.in_context(|| Mailbox::allocate(driver, self.context())).map_err(memory)?);
        self.resources.order = Some(self.in_context(|| StreamOrder::new(driver)).map_err(memory)?);
        let between_graphs = graph_usage::mixes(self.handle, self.variables.mixes_graphs());
        self.resources.graph_order = Some(self.in_context(|| GraphOrder::new(driver, between_graphs)).map_err(memory)?);
        Ok(())
    }

    /// Checks that the peers in other processes can be reached. Done here, not when descriptors are passed, for the
    /// reason given in `allocate`: round 2 announces a failure.
    fn reach_peers(&self) -> Result<(), Objection> {
        self.agreement.remote_peers().try_for_each(|hello| {
            sockets::packet::reach(&hello.socket)
                .map_err(|error| (Reason::Sockets, format!("rank {} cannot be reached: {error}", hello.rank)))
        })
    }

    /// Exports what goes to other processes: this rank's scratch as a descriptor, or a lease to it.
    fn export_scratch(&mut self) -> Result<(), Objection> {
        let (sharing, driver, context) = (self.agreement.sharing(), self.driver(), self.context());
        if self.agreement.remote_peers().next().is_some()
            && let Some(scratch) = &mut self.resources.scratch
        {
            self.exported = Some(match sharing {
                Sharing::Descriptor => with_context(driver, context, || scratch.export_descriptor(driver))
                    .and_then(|inner| inner)
                    .map_err(memory)?,
                Sharing::LegacyIpc => scratch.lease().map_err(|error| (Reason::Memory, error.to_string()))?,
            });
        }
        Ok(())
    }

    /// Sends this rank's scratch, or the lease to it, to the other processes, and receives theirs.
    fn pass_scratch(&mut self, config: &Config) -> Result<(), Objection> {
        let Some(party) = self.party() else { return Ok(()) };
        let deadline = Instant::now() + Duration::from_secs(config.setup_timeout_s.0.into());
        let passed = sockets::pass(&[party], deadline, |_| self.comm.is_aborted());
        for received in passed {
            self.received = received.map_err(|error| (Reason::Sockets, error.to_string()))?;
        }
        Ok(())
    }

    /// What this rank passes to the other processes, and from which ranks it expects theirs.
    fn party(&self) -> Option<Party<'_>> {
        let peers = self.agreement.remote_peers().map(|hello| Peer {
            rank: hello.rank,
            socket: &hello.socket,
            token: &hello.token,
        });
        Some(Party {
            rank: self.agreement.rank() as u32,
            token: self.agreement.token(),
            listener: self.listener.as_ref()?,
            descriptor: self.exported.as_ref()?,
            peers: peers.collect(),
        })
    }

    /// Maps the peers' scratch, and writes a pattern into each.
    fn map_peers(&mut self) -> Result<(), Objection> {
        let (driver, device, rank) = (self.driver(), self.device.ordinal, self.agreement.rank());
        let here = self.agreement.message().process;
        for peer in (0..self.agreement.ranks()).filter(|peer| *peer != rank) {
            let hello = &self.agreement.hellos()[peer];
            let mapped = if hello.process == here {
                let known =
                    of_this_process().iter().find(|(token, _)| *token == hello.token).map(|(_, known)| known.clone());
                let known =
                    known.ok_or((Reason::Memory, format!("rank {peer} of this process allocated no scratch")))?;
                let (context, theirs) = (self.context(), known.context as CUcontext);
                self.in_context(|| PeerScratch::same_process(driver, device, context, known.key, theirs))
            } else {
                let index = self.received.iter().position(|(rank, _)| *rank as usize == peer);
                let index = index.ok_or((Reason::Sockets, format!("no descriptor came from rank {peer}")))?;
                let (_, descriptor) = self.received.swap_remove(index);
                self.in_context(|| match self.agreement.sharing() {
                    Sharing::Descriptor => PeerScratch::import_descriptor(driver, device, &descriptor, SCRATCH_BYTES),
                    Sharing::LegacyIpc => PeerScratch::import_ipc(driver, hello.ipc_handle, SCRATCH_BYTES, descriptor),
                })
            };
            self.resources.peers.push((peer, mapped.map_err(memory)?));
        }
        // The mappings keep the memory, so the descriptor is no longer needed.
        self.exported = None;
        self.in_context(|| {
            for (peer, scratch) in &self.resources.peers {
                self.launch_probe(scratch.address, rank, *peer, None)?;
            }
            self.synchronize()
        })
        .map_err(|error| (Reason::Probe, error.to_string()))
    }

    /// After round 4: makes the communicator fast, or makes it forward, or poisons it. Unless it is fast, the freeing
    /// of what was made is deferred.
    fn finish(self, config: &Config, began: Instant) {
        of_this_process().retain(|(token, _)| token != self.agreement.token());
        beacon::put_out(self.handle);
        let line = log_lines::name(self.handle, self.agreement.rank(), self.agreement.ranks(), self.device.ordinal);
        match self.agreement.verdict() {
            Some(Verdict::Fast) => {}
            Some(Verdict::Forward(refusal)) => {
                let own = match &self.objection {
                    Some((reason, detail)) if *reason == refusal.reason => format!("; this rank: {detail}"),
                    Some((reason, detail)) => format!("; this rank: {}: {detail}", reason.text()),
                    None => String::new(),
                };
                let why = format!("{} (rank {}{own})", refusal.reason.text(), refusal.rank);
                log_lines::forwards(&line, &why, config.batch_invariant);
                self.comm.set_forward(refusal.reason);
                return self.defer_free();
            }
            Some(Verdict::Failed) | None => {
                if let Some((reason, detail)) = &self.objection {
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
        addresses[self.agreement.rank()] = scratch.address;
        for (peer, mapped) in &resources.peers {
            addresses[*peer] = mapped.address;
        }
        let agreed = Agreed {
            ranks: self.agreement.ranks(),
            arch: self.device.arch,
            multiprocessors: hello::sms_of_a_rank(self.agreement.hellos()),
            forced: config.kernel.0,
            threshold_setting: config.threshold_bytes.map(|bytes| bytes.0 as usize),
            batch_invariant: config.batch_invariant,
            blocks: config.blocks,
            threads: config.threads,
            tuned: self.tuned(config, &line),
        };
        let target = Target {
            functions: *functions,
            scratch: addresses,
            mailbox: mailbox.device,
            early_launch: config.early_launch,
            first_epoch: config.first_epoch.0,
            rank: self.agreement.rank() as u8,
            ranks: self.agreement.ranks() as u8,
        };
        let words = mailbox.view();
        deferred_free::defer_channel(self.channel, &self.resources.context);
        self.comm.set_fast(Fast {
            resources: self.resources,
            agreed,
            target,
            eager: Enqueued::default(),
            captured: Enqueued::default(),
        });
        if config.timeout_s != 0 {
            let (rank, device) = (self.agreement.rank(), self.device.ordinal);
            watchdog::begin(self.comm, rank, device, words, config.timeout_s);
        }
        let why = why_legacy_ipc(&self.agreement, config, &self.variables);
        log::info!(
            "{line}: all-reduces are fast: {} MiB of scratch by {:?}{why}, {}{}, set up in {:.0} ms (rounds {:.0} ms, kernels {:.0} ms)",
            SCRATCH_BYTES >> 20,
            self.agreement.sharing(),
            log_lines::thresholds(&agreed),
            log_lines::tuning(&agreed),
            began.elapsed().as_secs_f64() * 1e3,
            self.rounds_ms,
            self.kernels_ms
        );
    }

    /// The rows of the tuning file, if there are some and all ranks have the same.
    fn tuned(&self, config: &Config, line: &str) -> Option<&'static Tuned> {
        if let Some(rank) = tuning::first_that_differs(self.agreement.hellos()) {
            log::warn!(
                "{line}: the built-in rows decide, since the ranks have different tuning files (rank 0 and rank {rank})"
            );
            return None;
        }
        if self.agreement.message().tuning == tuning::NO_ROWS {
            return None;
        }
        tuning::tuned(config, self.device.arch, self.agreement.ranks())
    }

    /// Defers the freeing of what was made: kernels of a step that failed half-way may still run, and peers may not
    /// have finished theirs.
    fn defer_free(self) {
        deferred_free::defer_setup(Resources { channel: Some(self.channel), ..self.resources });
        deferred_free::sweep(After::Setup(self.comm));
    }
}
