//! Setting a communicator up, at its first all-reduce that could be ours.
//!
//! Four rounds over the real communicator, each a message of every rank to every rank ([`crate::comm::setup::exchange`], [`crate::comm::setup::hello`]);
//! what follows from the messages is [`crate::comm::setup::agreement`]'s:
//!
//!   1. Who we are: build, settings, host, GPU. All conclude the same from it.
//!   2. Scratch is allocated, kernels are loaded. Then: descriptors are passed, peers' scratch is mapped, and every rank
//!      writes a pattern into every peer's scratch.
//!   3. The pattern is written. Then: every rank checks what it got, and clears its scratch.
//!   4. Scratch is checked and clear. The communicator is fast.
//!
//! A rank that cannot go on says so in its next message, and all forward; whoever is in a round stays in step. Nothing of the
//! application's is touched.

pub mod agreement;
pub mod beacon;
pub mod concurrent_setups;
pub mod exchange;
pub mod hello;
pub mod nccl_variables;
mod probe;
pub mod sockets;

use std::io;
use std::os::fd::OwnedFd;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use once_cell::race::OnceBox;

use crate::comm::life::deferred_free;
use crate::comm::life::deferred_free::{After, Resources};
use crate::comm::life::watchdog;
use crate::comm::run::graph_order::GraphOrder;
use crate::comm::run::graph_usage;
use crate::comm::run::report;
use crate::comm::run::stream_order::StreamOrder;
use crate::comm::setup::agreement::{Agreement, STEPS, Step, Verdict};
use crate::comm::setup::exchange::Channel;
use crate::comm::setup::hello::Hello;
use crate::comm::setup::nccl_variables::NcclVariables;
use crate::comm::setup::sockets::{Listener, Party, Peer};
use crate::comm::table::fast::{Comm, Fast};
use crate::gpu::context::{RelaxedCapture, with_context};
use crate::gpu::driver::{Driver, DriverError, DriverResult};
use crate::gpu::graphs::Graphs;
use crate::gpu::images;
use crate::gpu::images::Functions;
use crate::gpu::mailbox::Mailbox;
use crate::gpu::memory::{IPC_HANDLE_BYTES, PeerScratch, SameProcessKey, Scratch, Sharing};
use crate::gpu::topology;
use crate::gpu::topology::{Device, Link};
use crate::gpu::{CUcontext, CUstream};
use crate::host::config::{Config, KernelChoice};
use crate::host::lock::{Held, Lock};
use crate::kernel::Kernel;
use crate::kernel::layout::{MAX_RANKS, SCRATCH_BYTES};
use crate::launch::{Enqueued, Target};
use crate::nccl::AllReduce;
use crate::nccl::{ncclComm_t, ncclSuccess};
use crate::real;
use crate::route::{Agreed, Reason};

/// ConcurrentSetups that are under way in this process.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// Whether a setup is under way in some thread. Then one rank may wait on its GPU for another thread that maps memory.
pub fn is_any_under_way() -> bool {
    UNDER_WAY.load(Ordering::SeqCst) != 0
}

/// While it lives a setup is under way.
struct UnderWay;

impl UnderWay {
    fn begin() -> Self {
        UNDER_WAY.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Sets a communicator up. Afterwards it is fast or forwards, or is poisoned.
pub fn set_up(comm: &'static Comm) {
    let began = Instant::now();
    let (config, _) = Config::from_env();
    // NCCL reads files of its own at its first communicator and may have set NCCL_DEBUG since.
    crate::observe::log::start(&config);
    crate::observe::nvtx::start();
    let _relaxed = RelaxedCapture::enter();
    let under_way = UnderWay::begin();
    let Some(mut candidate) = SetupRun::open(comm, &config) else { return };
    for stage in STEPS {
        match stage {
            Step::Round(round) => candidate.run_round(round),
            Step::Allocate => candidate.step(|candidate| candidate.allocate(&config)),
            Step::PassScratch => candidate.step(|candidate| candidate.pass_scratch(&config)),
            Step::MapPeers => candidate.step(SetupRun::map_peers),
            Step::Check => candidate.step(|candidate| candidate.check_and_clear(&config)),
        }
    }
    // The other ranks need nothing more of this one.
    drop(under_way);
    candidate.finish(&config, began);
}

/// Whether every rank of a communicator will answer in its setup, or why all forward. A rank that could not look waits to be told.
pub fn await_all(comm: &'static Comm, handle: ncclComm_t) -> Result<(), Reason> {
    let limit = || Duration::from_secs(Config::from_env().0.setup_timeout_s.0.into());
    beacon::verdict(handle, comm.ranks(), limit, || comm.is_aborted())
}

/// The handle of a communicator that we are busy with. None: it was aborted meanwhile, and NCCL may have freed it.
fn handle_of(comm: &Comm) -> Option<ncclComm_t> {
    // In this order: an abort marks the communicator before it takes the handle away.
    let handle = comm.handle() as ncclComm_t;
    (!comm.is_aborted()).then_some(handle)
}

/// Whether the call's stream is being captured, or another capture keeps it from being asked: then nothing may be set up. That is so on all
/// ranks or on none. Any other failure is this rank's alone, and must not keep it from the setup that the others come to.
pub fn is_captured(call: &AllReduce) -> bool {
    const OF_CAPTURES: std::ops::RangeInclusive<i32> = 900..=908;
    let Ok(driver) = Driver::get() else { return false };
    let mut status = 0;
    // SAFETY: the out pointer is ours; the others may be null.
    let code = unsafe {
        (driver.stream_get_capture_info)(
            call.stream.cast(),
            &mut status,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    OF_CAPTURES.contains(&code) || code == 0 && status != 0
}

/// Scratch of the ranks of this process, by token, while they are set up.
static OF_THIS_PROCESS: Lock<Vec<([u8; 16], SameProcess)>> = Lock::new(Vec::new());

#[derive(Clone)]
struct SameProcess {
    key: SameProcessKey,
    context: usize,
}

fn of_this_process() -> Held<'static, Vec<([u8; 16], SameProcess)>> {
    OF_THIS_PROCESS.hold()
}

/// A number that no other process has, a child of fork neither.
fn process_id() -> io::Result<[u8; 16]> {
    static RANDOM: OnceBox<[u8; 16]> = OnceBox::new();
    let mut id = *RANDOM.get_or_try_init(|| sockets::random().map(Box::new))?;
    id[..4].copy_from_slice(&std::process::id().to_le_bytes());
    Ok(id)
}

/// The host and its present boot.
fn boot_id() -> Result<[u8; 16], String> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(PATH).map_err(|error| format!("{PATH}: {error}"))?;
    let mut id = [0; 16];
    let digits: Vec<u8> =
        text.bytes().filter_map(|byte| (byte as char).to_digit(16).map(|digit| digit as u8)).collect();
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Ok(id)
}

fn build() -> u64 {
    u64::from_str_radix(env!("DIME_BUILD_HASH"), 16).unwrap_or(0)
}

/// The settings that decide anything, as one number.
fn settings(config: &Config) -> u64 {
    let text = format!(
        "{:?} {:?} {} {} {} {} {}",
        config.kernel,
        config.threshold_bytes,
        config.allow_pcie,
        config.allow_shared_gpu,
        config.first_epoch.0,
        config.blocks,
        config.threads
    );
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn forced(config: &Config) -> Option<Kernel> {
    match config.kernel {
        KernelChoice::Auto => None,
        KernelChoice::OneShotLl => Some(Kernel::OneShotLl),
        KernelChoice::OneShotSentinel => Some(Kernel::OneShotSentinel),
        KernelChoice::TwoShotLl => Some(Kernel::TwoShotLl),
        KernelChoice::TwoShotSentinel => Some(Kernel::TwoShotSentinel),
        KernelChoice::TwoShotBulk => Some(Kernel::TwoShotBulk),
    }
}

/// Why this rank will not take part, before it knows of the others.
fn own_refusal(config: &Config, switches: &NcclVariables, device: &Device) -> Option<Reason> {
    if config.disable {
        Some(Reason::Disabled)
    } else if !images::built_in() {
        Some(Reason::NoKernels)
    } else if std::env::var_os("CUDA_LAUNCH_BLOCKING").is_some_and(|value| value == "1") {
        Some(Reason::LaunchBlocking)
    } else if switches.forbids_peer_access() {
        Some(Reason::P2pDisabled)
    } else if device.mig {
        Some(Reason::Mig)
    } else {
        None
    }
}

/// What a rank says of its device when it does not know: it refuses anyway.
fn unknown_device(ordinal: i32) -> Device {
    Device { ordinal, uuid: [0; 16], arch: 0, multiprocessors: 0, mig: false, shares_descriptors: false }
}

/// Why scratch is not shared by descriptors, for the log.
fn why_legacy_ipc(agreement: &Agreement, config: &Config, switches: &NcclVariables) -> String {
    let of_rank = agreement.hellos().iter().position(|hello| !hello.shares_descriptors);
    match of_rank {
        None => String::new(),
        Some(rank) if rank != agreement.rank() => format!(" (as rank {rank} needs it)"),
        Some(_) if config.legacy_ipc => " (DIME_LEGACY_IPC is set)".to_owned(),
        Some(_) if switches.avoids_cumem() => " (NCCL_CUMEM_ENABLE is 0)".to_owned(),
        Some(_) => " (the driver cannot share memory as file descriptors)".to_owned(),
    }
}

/// A communicator that is being set up.
struct SetupRun {
    comm: &'static Comm,
    handle: ncclComm_t,
    driver: &'static Driver,
    device: Device,
    switches: NcclVariables,
    context: CUcontext,
    channel: Channel,
    agreement: Agreement,
    /// Why this rank cannot go on, once it has said so.
    objection: Option<Objection>,
    listener: Option<Listener>,
    functions: Option<Functions>,
    scratch: Option<Scratch>,
    mailbox: Option<Mailbox>,
    order: Option<StreamOrder>,
    graph_order: Option<GraphOrder>,
    /// What every peer in another process gets, and what came from those: scratch as a descriptor, or the lease to it.
    exported: Option<OwnedFd>,
    received: Vec<(u32, OwnedFd)>,
    peers: Vec<(usize, PeerScratch)>,
    kernels_ms: f64,
    /// Spent in the rounds: in NCCL, and waiting for the other ranks.
    exchange_ms: f64,
}

/// Why a step cannot be done, and in more words.
type Objection = (Reason, String);

fn memory(error: DriverError) -> Objection {
    (Reason::Memory, error.to_string())
}

impl SetupRun {
    /// Asks who we are and opens the way to the other ranks. Without that this rank cannot tell them anything, and they wait for
    /// it: an error, not a quiet forward.
    fn open(comm: &'static Comm, config: &Config) -> Option<Self> {
        let driver = match Driver::get() {
            Ok(driver) => driver,
            Err(detail) => {
                // One that other processes count on has given its sign, and so has a driver.
                comm.set_forward(Reason::NoDriver);
                let why = format!("{}: {detail}", Reason::NoDriver.text());
                report::decided(comm.handle() as ncclComm_t, &why);
                return None;
            }
        };
        match Self::try_open(comm, config, driver) {
            Ok(candidate) => Some(candidate),
            Err(detail) => {
                log::error!("a communicator cannot be set up, and its other ranks are waiting for this one: {detail}");
                comm.poison();
                None
            }
        }
    }

    fn try_open(comm: &'static Comm, config: &Config, driver: &'static Driver) -> Result<Self, String> {
        let text = |error: DriverError| error.to_string();
        let handle = handle_of(comm).ok_or("it was aborted")?;
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
            return Err(format!("NCCL does not tell rank and device ({asked})"));
        }
        let mut context: CUcontext = ptr::null_mut();
        // SAFETY: the out pointer is ours; released when the communicator is closed.
        let retained = unsafe { (driver.primary_ctx_retain)(&mut context, ordinal) };
        driver.check("cuDevicePrimaryCtxRetain", retained).map_err(text)?;
        let channel = Channel::open(handle, ranks, driver, context).map_err(|error| {
            // SAFETY: retained above. The error that counts is the first.
            unsafe { (driver.primary_ctx_release)(ordinal) };
            text(error)
        })?;
        // Whatever this rank does not find out about itself it says in its first message. The others wait for that.
        let mut objection: Option<Objection> = None;
        let mut object = |reason, detail| {
            objection.get_or_insert((reason, detail));
        };
        let device = Device::describe(driver, ordinal).unwrap_or_else(|error| {
            object(Reason::SelfUnknown, error.to_string());
            unknown_device(ordinal)
        });
        let mut or_object = |bytes: io::Result<[u8; 16]>| {
            bytes.unwrap_or_else(|error| {
                object(Reason::SelfUnknown, format!("no random bytes: {error}"));
                [0; 16]
            })
        };
        let (socket, token) = (or_object(sockets::random()), or_object(sockets::random()));
        let process = or_object(process_id());
        let boot_id = boot_id().unwrap_or_else(|error| {
            object(Reason::SelfUnknown, error);
            [0; 16]
        });
        let switches = NcclVariables::from_env();
        let listener = if objection.is_none() { Listener::bind(&socket).map(Some) } else { Ok(None) };
        let listener = listener.unwrap_or_else(|error| {
            objection = Some((Reason::Sockets, error.to_string()));
            None
        });
        let refusal = own_refusal(config, &switches, &device).or(objection.as_ref().map(|(reason, _)| *reason));
        let hello = Hello {
            round: 1,
            rank: rank as u32,
            ranks: ranks as u32,
            build: build(),
            settings: settings(config),
            boot_id,
            process,
            device_uuid: device.uuid,
            arch: device.arch,
            multiprocessors: device.multiprocessors,
            shares_descriptors: device.shares_descriptors && !config.legacy_ipc && !switches.avoids_cumem(),
            socket,
            token,
            refusal,
            ipc_handle: [0; IPC_HANDLE_BYTES],
        };
        Ok(Self {
            comm,
            handle,
            driver,
            device,
            switches,
            context,
            channel,
            agreement: Agreement::new(hello).allow_shared_gpus(config.allow_shared_gpu),
            objection,
            listener,
            functions: None,
            scratch: None,
            mailbox: None,
            order: None,
            graph_order: None,
            exported: None,
            received: Vec::new(),
            peers: Vec::new(),
            kernels_ms: 0.0,
            exchange_ms: 0.0,
        })
    }

    /// Runs a step, if this rank is still in. A failure becomes its refusal in the next message.
    fn step(&mut self, step: impl FnOnce(&mut Self) -> Result<(), Objection>) {
        if self.agreement.is_working() {
            crate::observe::log::set_device(self.device.ordinal);
            if let Err(objection) = step(self) {
                self.object(objection);
            }
        }
    }

    /// Exchanges the messages of a round.
    fn run_round(&mut self, round: u32) {
        // Of a communicator that was aborted NCCL may have freed the handle.
        if self.comm.is_aborted() {
            self.agreement.fail();
        }
        if !self.agreement.is_exchanging() {
            return;
        }
        self.agreement.begin_round(round);
        let began = Instant::now();
        let outcome = exchange::round(&self.channel, self.agreement.message());
        self.exchange_ms += began.elapsed().as_secs_f64() * 1e3;
        // The other ranks may not know of a failure, so this one must not quietly forward.
        let failure = match outcome {
            Ok(gathered) if self.agreement.hear(&gathered) => return,
            Ok(_) => "messages are missing".to_owned(),
            Err(detail) => {
                self.agreement.fail();
                detail
            }
        };
        log::error!("setup of rank {} failed in round {round}: {failure}", self.agreement.rank());
    }

    /// This rank cannot go on. It says so in the next message.
    fn object(&mut self, objection: Objection) {
        self.agreement.object(objection.0);
        self.objection = Some(objection);
    }

    fn in_context<T>(&self, work: impl FnOnce() -> DriverResult<T>) -> DriverResult<T> {
        with_context(self.driver, self.context, work)?
    }

    fn stream(&self) -> CUstream {
        self.channel.stream
    }

    fn synchronize(&self) -> DriverResult<()> {
        // SAFETY: our own stream.
        self.driver.check("cuStreamSynchronize", unsafe { (self.driver.stream_synchronize)(self.stream()) })
    }

    /// After round 1: links, kernels, scratch.
    fn allocate(&mut self, config: &Config) -> Result<(), Objection> {
        let rank = self.agreement.rank();
        for (peer, hello) in self.agreement.hellos().iter().enumerate().filter(|(peer, _)| *peer != rank) {
            if hello.device_uuid == self.device.uuid {
                continue;
            }
            match topology::link(self.driver, &self.device, hello.device_uuid) {
                Link::Nvlink => {}
                Link::Other if config.allow_pcie && !self.switches.allows_pcie() => {
                    return Err((Reason::P2pDisabled, format!("to rank {peer}, over PCIe")));
                }
                Link::Other if config.allow_pcie => {}
                Link::Other => return Err((Reason::NoNvlink, format!("to rank {peer}"))),
                Link::None => return Err((Reason::NoPeerAccess, format!("to rank {peer}"))),
            }
        }
        self.reach_peers()?;
        let began = Instant::now();
        let functions = self.in_context(|| Functions::load(self.driver, self.context, self.agreement.ranks()));
        self.functions = Some(functions.map_err(|error| (Reason::Load, error.to_string()))?);
        self.kernels_ms = began.elapsed().as_secs_f64() * 1e3;
        let (driver, sharing) = (self.driver, self.agreement.sharing());
        let scratch = self
            .in_context(|| Scratch::allocate(driver, self.device.ordinal, SCRATCH_BYTES, sharing))
            .map_err(memory)?;
        let key = scratch.same_process_key();
        let scratch = self.scratch.insert(scratch);
        if sharing == Sharing::LegacyIpc {
            let exported = with_context(driver, self.context, || scratch.export_ipc(driver)).and_then(|inner| inner);
            self.agreement.set_ipc_handle(exported.map_err(memory)?);
        }
        // Here and not when it is passed: what fails before round 2 is said in it, and nobody waits.
        self.export_scratch()?;
        of_this_process().push((*self.agreement.token(), SameProcess { key, context: self.context as usize }));
        self.mailbox = Some(self.in_context(|| Mailbox::allocate(driver, self.context)).map_err(memory)?);
        self.order = Some(self.in_context(|| StreamOrder::new(driver)).map_err(memory)?);
        let between_graphs = graph_usage::mixes(self.handle, self.switches.mixes_graphs());
        self.graph_order = Some(self.in_context(|| GraphOrder::new(driver, between_graphs)).map_err(memory)?);
        Ok(())
    }

    /// Whether a descriptor can go to the other processes. Here and not when it is passed, for the same reason as below.
    fn reach_peers(&self) -> Result<(), Objection> {
        self.agreement.remote_peers().try_for_each(|hello| {
            sockets::packet::reach(&hello.socket)
                .map_err(|error| (Reason::Sockets, format!("rank {} cannot be reached: {error}", hello.rank)))
        })
    }

    /// Our scratch as a descriptor, or the lease to it, where it goes to other processes.
    fn export_scratch(&mut self) -> Result<(), Objection> {
        let (sharing, driver, context) = (self.agreement.sharing(), self.driver, self.context);
        if self.agreement.remote_peers().next().is_some()
            && let Some(scratch) = &mut self.scratch
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

    /// Our scratch, or the lease to it, to the other processes, and theirs to us.
    fn pass_scratch(&mut self, config: &Config) -> Result<(), Objection> {
        let Some(party) = self.party() else { return Ok(()) };
        let deadline = Instant::now() + Duration::from_secs(config.setup_timeout_s.0.into());
        let passed = sockets::pass(&[party], deadline, |_| self.comm.is_aborted());
        for received in passed {
            self.received = received.map_err(|error| (Reason::Sockets, error.to_string()))?;
        }
        Ok(())
    }

    /// What this rank passes to the other processes, and from whom it waits for theirs.
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

    /// The peers' scratch is mapped, and a pattern written into each.
    fn map_peers(&mut self) -> Result<(), Objection> {
        let (driver, device, rank) = (self.driver, self.device.ordinal, self.agreement.rank());
        let here = self.agreement.message().process;
        for peer in (0..self.agreement.ranks()).filter(|peer| *peer != rank) {
            let hello = &self.agreement.hellos()[peer];
            let mapped = if hello.process == here {
                let known =
                    of_this_process().iter().find(|(token, _)| *token == hello.token).map(|(_, known)| known.clone());
                let known = known.ok_or((Reason::Memory, format!("rank {peer} of this process has no scratch")))?;
                let (context, theirs) = (self.context, known.context as CUcontext);
                self.in_context(|| PeerScratch::same_process(driver, device, context, known.key, theirs))
            } else {
                let place = self.received.iter().position(|(rank, _)| *rank as usize == peer);
                let place = place.ok_or((Reason::Sockets, format!("nothing from rank {peer}")))?;
                let (_, descriptor) = self.received.swap_remove(place);
                self.in_context(|| match self.agreement.sharing() {
                    Sharing::Descriptor => PeerScratch::import_descriptor(driver, device, &descriptor, SCRATCH_BYTES),
                    Sharing::LegacyIpc => PeerScratch::import_ipc(driver, hello.ipc_handle, SCRATCH_BYTES, descriptor),
                })
            };
            self.peers.push((peer, mapped.map_err(memory)?));
        }
        // They are mapped: what was passed has served.
        self.exported = None;
        self.in_context(|| {
            for (peer, scratch) in &self.peers {
                self.launch_probe(scratch.address, rank, *peer, None)?;
            }
            self.synchronize()
        })
        .map_err(|error| (Reason::Probe, error.to_string()))
    }

    /// After round 4: fast, or everything back and forward.
    fn finish(mut self, config: &Config, began: Instant) {
        of_this_process().retain(|(token, _)| token != self.agreement.token());
        beacon::take_sign_away(self.handle);
        let line = report::name(self.handle, self.agreement.rank(), self.agreement.ranks(), self.device.ordinal);
        match self.agreement.verdict() {
            Some(Verdict::Fast) => {}
            Some(Verdict::Forward(refusal)) => {
                let own = match &self.objection {
                    Some((reason, detail)) if *reason == refusal.reason => format!("; here: {detail}"),
                    Some((reason, detail)) => format!("; here: {}: {detail}", reason.text()),
                    None => String::new(),
                };
                log::info!("{line}: all-reduces are forwarded: {} (rank {}{own})", refusal.reason.text(), refusal.rank);
                self.comm.set_forward(refusal.reason);
                return self.give_back();
            }
            Some(Verdict::Failed) | None => {
                if let Some((reason, detail)) = &self.objection {
                    log::info!("{line}: {}: {detail}", reason.text());
                }
                self.comm.poison();
                return self.give_back();
            }
        }
        let parts =
            (self.functions, self.scratch.take(), self.mailbox.take(), self.order.take(), self.graph_order.take());
        let (Some(functions), Some(scratch), Some(mailbox), Some(order), Some(graph_order)) = parts else {
            unreachable!("every step of this rank succeeded, or it is not fast")
        };
        let mut addresses = [0; MAX_RANKS];
        addresses[self.agreement.rank()] = scratch.address;
        for (peer, mapped) in &self.peers {
            addresses[*peer] = mapped.address;
        }
        let plan = Agreed {
            ranks: self.agreement.ranks(),
            arch: self.device.arch,
            multiprocessors: hello::multiprocessors_of_a_rank(self.agreement.hellos()),
            forced: forced(config),
            threshold_bytes: config.threshold_bytes.map(|bytes| bytes.0 as usize),
            blocks: config.blocks,
            threads: config.threads,
        };
        let target = Target {
            functions,
            scratch: addresses,
            mailbox: mailbox.device,
            early_launch: config.early_launch,
            first_epoch: config.first_epoch.0,
            rank: self.agreement.rank() as u8,
            ranks: self.agreement.ranks() as u8,
        };
        deferred_free::keep_channel(self.channel, self.driver, self.context, self.device.ordinal);
        let words = mailbox.view();
        self.comm.set_fast(Fast {
            driver: self.driver,
            context: self.context,
            device: self.device.ordinal,
            plan,
            target,
            order,
            graph_order,
            mailbox,
            eager: Enqueued::default(),
            captured: Enqueued::default(),
            graphs: Graphs::default(),
            scratch,
            peers: self.peers.into_iter().map(|(_, mapped)| mapped).collect(),
        });
        if config.timeout_s != 0 {
            let (rank, device) = (self.agreement.rank(), self.device.ordinal);
            watchdog::begin(self.comm, rank, device, words, config.timeout_s);
        }
        let why = why_legacy_ipc(&self.agreement, config, &self.switches);
        log::info!(
            "{line}: all-reduces are fast: {} MiB of scratch by {:?}{why}, set up in {:.0} ms (exchanges {:.0} ms, kernels {:.0} ms)",
            SCRATCH_BYTES >> 20,
            self.agreement.sharing(),
            began.elapsed().as_secs_f64() * 1e3,
            self.exchange_ms,
            self.kernels_ms
        );
    }

    /// Leaves what was made to be given back: kernels of a step that failed half-way may still run, and peers may go on.
    fn give_back(self) {
        let nothing = Resources::nothing(self.driver, self.context, self.device.ordinal);
        deferred_free::keep(Resources {
            channel: Some(self.channel),
            scratch: self.scratch,
            peers: self.peers.into_iter().map(|(_, mapped)| mapped).collect(),
            mailbox: self.mailbox,
            order: self.order,
            graph_order: self.graph_order,
            ..nothing
        });
        deferred_free::sweep(After::Setup(self.comm));
    }
}
