//! One rank's part in the rounds of a setup or a resumption: its messages, its refusal, and the passing of scratch
//! between processes.
//!
//! A rank that cannot go on has an *objection*. Its next message says so, as the rank's *refusal*, and all ranks
//! conclude the same. Until then it takes part in every round, because the other ranks wait in it.

use std::io;
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::comm::setup::agreement::Agreement;
use crate::comm::setup::channel::Channel;
use crate::comm::setup::hello::Hello;
use crate::comm::setup::sockets::{Listener, Party, Peer};
use crate::comm::setup::{channel, identity, sockets};
use crate::comm::table::fast::Comm;
use crate::gpu::context::{PrimaryContext, with_context};
use crate::gpu::driver::{Driver, DriverError, DriverResult};
use crate::gpu::memory::{IPC_HANDLE_BYTES, SameProcessKey, Scratch, Sharing};
use crate::gpu::topology::Device;
use crate::gpu::{CUcontext, CUstream};
use crate::host::config::Config;
use crate::host::lock::{Held, Lock};
use crate::nccl::{ncclComm_t, ncclSuccess};
use crate::real;
use crate::route::Reason;

/// Why a step cannot be done, and a detail for the log.
pub type Objection = (Reason, String);

/// The objection of a step that the driver failed.
pub fn memory(error: DriverError) -> Objection {
    (Reason::Memory, error.to_string())
}

/// What a rank says of itself beside who and where it is.
pub struct Terms {
    /// A hash of the settings in which the ranks must agree.
    pub settings: u64,
    /// Its scratch is shared as a descriptor.
    pub shares_descriptors: bool,
    /// Ranks may share a GPU. The ranks must agree in this setting.
    pub shared_gpus: bool,
    /// The most blocks of a kernel, if that is limited.
    pub most_ctas: Option<NonZeroU16>,
    /// A number for its rows of a tuning file.
    pub tuning: u64,
    /// Why it cannot take part.
    pub refusal: Option<Reason>,
}

/// Scratch of the ranks of this process that are being set up, by token.
static OF_THIS_PROCESS: Lock<Vec<([u8; 16], SameProcess)>> = Lock::new(Vec::new());

/// Scratch of a rank of this process, and its context.
#[derive(Clone)]
pub struct SameProcess {
    /// What a peer needs to map it.
    pub key: SameProcessKey,
    /// The rank's context.
    pub context: usize,
}

fn of_this_process() -> Held<'static, Vec<([u8; 16], SameProcess)>> {
    OF_THIS_PROCESS.hold()
}

/// The handle of a communicator that this thread is in a call on. None: it was aborted meanwhile, and NCCL may have
/// freed it.
pub fn handle_of(comm: &Comm) -> Option<ncclComm_t> {
    // The handle is read first: an abort marks the communicator before it hides the handle.
    let handle = comm.handle() as ncclComm_t;
    (!comm.is_aborted()).then_some(handle)
}

/// This rank's number and device, as NCCL has them.
pub fn rank_and_device(handle: ncclComm_t) -> Result<(i32, i32), String> {
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
    Ok((rank, ordinal))
}

/// One rank's part in the rounds.
pub struct Exchange {
    comm: &'static Comm,
    /// NCCL's handle.
    pub handle: ncclComm_t,
    /// This rank's device.
    pub device: Device,
    /// The opened driver.
    pub driver: &'static Driver,
    /// This rank's context.
    pub context: CUcontext,
    /// What the ranks said and concluded.
    pub agreement: Agreement,
    /// Why this rank cannot go on, if it cannot. Its next message says so.
    pub objection: Option<Objection>,
    /// Carries the messages.
    pub channel: Channel,
    listener: Option<Listener>,
    /// What is sent to every peer in another process: this rank's scratch as a descriptor, or a lease to it.
    exported: Option<OwnedFd>,
    received: Vec<(u32, OwnedFd)>,
    /// Time spent in the rounds: in NCCL, and waiting for the other ranks.
    pub rounds_ms: f64,
}

impl Exchange {
    /// Opens the channel to the other ranks, and collects what this rank says of itself. An error means that it cannot
    /// even tell the other ranks, which wait for it.
    pub fn open(
        comm: &'static Comm,
        (rank, ordinal): (i32, i32),
        context: &PrimaryContext,
        terms: impl FnOnce(&Device) -> Terms,
    ) -> Result<Self, String> {
        let driver = context.driver;
        let handle = handle_of(comm).ok_or("the communicator was aborted")?;
        let ranks = comm.ranks();
        let channel = Channel::open(handle, ranks, driver, context.context).map_err(|error| error.to_string())?;
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
        let listener = if objection.is_none() { Listener::bind(&socket).map(Some) } else { Ok(None) };
        let listener = listener.unwrap_or_else(|error| {
            objection = Some((Reason::Sockets, error.to_string()));
            None
        });
        let terms = terms(&device);
        let hello = Hello {
            round: 1,
            rank: rank as u32,
            ranks: ranks as u32,
            build: identity::build(),
            settings: terms.settings,
            boot_id,
            process,
            device_uuid: device.uuid,
            arch: device.arch,
            multiprocessors: device.multiprocessors,
            shares_descriptors: terms.shares_descriptors,
            socket,
            token,
            refusal: terms.refusal.or(objection.as_ref().map(|(reason, _)| *reason)),
            ipc_handle: [0; IPC_HANDLE_BYTES],
            most_ctas: terms.most_ctas,
            tuning: terms.tuning,
        };
        Ok(Self {
            comm,
            handle,
            device,
            driver,
            context: context.context,
            agreement: Agreement::new(hello).allow_shared_gpus(terms.shared_gpus),
            objection,
            channel,
            listener,
            exported: None,
            received: Vec::new(),
            rounds_ms: 0.0,
        })
    }

    /// Whether this rank does the next step. One that cannot go on, or whose rounds are over, does not.
    pub fn begins_step(&self) -> bool {
        let is_working = self.agreement.is_working();
        if is_working {
            crate::observe::log::set_device(self.device.ordinal);
        }
        is_working
    }

    /// This rank cannot go on. Its next message says so.
    pub fn object(&mut self, objection: Objection) {
        self.agreement.object(objection.0);
        self.objection = Some(objection);
    }

    /// Sends this rank's message of a round and receives those of all ranks. `what` is under way, for the log.
    pub fn run_round(&mut self, round: u32, what: &str) {
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
        // The other ranks may not know of a failure, so this one must not conclude anything alone.
        let failure = match outcome {
            Ok(gathered) if self.agreement.hear(&gathered) => return,
            Ok(_) => "some ranks' messages are missing".to_owned(),
            Err(detail) => {
                self.agreement.fail();
                detail
            }
        };
        log::error!(
            "the {what} failed on rank {} in round {round}: {failure}. Abort the communicator on all ranks",
            self.agreement.rank()
        );
    }

    /// Runs `work` with this rank's context current.
    pub fn in_context<T>(&self, work: impl FnOnce() -> DriverResult<T>) -> DriverResult<T> {
        with_context(self.driver, self.context, work)?
    }

    /// The stream of the rounds, on which the probe runs too.
    pub fn stream(&self) -> CUstream {
        self.channel.stream
    }

    /// Waits for the stream of the rounds.
    pub fn synchronize(&self) -> DriverResult<()> {
        // SAFETY: our own stream.
        self.driver.check("cuStreamSynchronize", unsafe { (self.driver.stream_synchronize)(self.stream()) })
    }

    /// Checks that the peers in other processes can be reached. Done before round 2, not when descriptors are passed:
    /// so round 2 announces a failure, and no peer waits for a descriptor that cannot come.
    pub fn reach_peers(&self) -> Result<(), Objection> {
        self.agreement.remote_peers().try_for_each(|hello| {
            sockets::packet::reach(&hello.socket)
                .map_err(|error| (Reason::Sockets, format!("rank {} cannot be reached: {error}", hello.rank)))
        })
    }

    /// Makes this rank's scratch known to the ranks of this process, and exports it for those in other processes: as a
    /// descriptor, or as the lease that is passed here. Done before round 2, for the reason given at
    /// [`Self::reach_peers`].
    pub fn offer(&mut self, scratch: &Scratch, lease: Option<OwnedFd>) -> Result<(), Objection> {
        if self.has_remote_peers() {
            self.exported = match self.agreement.sharing() {
                Sharing::Descriptor => {
                    Some(self.in_context(|| scratch.export_descriptor(self.driver)).map_err(memory)?)
                }
                Sharing::LegacyIpc => lease,
            };
        }
        let known = SameProcess { key: scratch.same_process_key(), context: self.context as usize };
        of_this_process().push((*self.agreement.token(), known));
        Ok(())
    }

    /// Whether a rank is in another process.
    pub fn has_remote_peers(&self) -> bool {
        self.agreement.remote_peers().next().is_some()
    }

    /// Sends this rank's scratch, or the lease to it, to the other processes, and receives theirs.
    pub fn pass_scratch(&mut self, config: &Config) -> Result<(), Objection> {
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

    /// The ranks but this one.
    pub fn peers(&self) -> impl Iterator<Item = usize> + use<> {
        let rank = self.agreement.rank();
        (0..self.agreement.ranks()).filter(move |peer| *peer != rank)
    }

    /// The scratch of a peer, after [`Self::pass_scratch`].
    pub fn offered_by(&mut self, peer: usize) -> Result<Offered, Objection> {
        let hello = &self.agreement.hellos()[peer];
        if hello.process == self.agreement.message().process {
            let known =
                of_this_process().iter().find(|(token, _)| *token == hello.token).map(|(_, known)| known.clone());
            return known
                .map(Offered::Here)
                .ok_or((Reason::Memory, format!("rank {peer} of this process allocated no scratch")));
        }
        let index = self.received.iter().position(|(rank, _)| *rank as usize == peer);
        let index = index.ok_or((Reason::Sockets, format!("no descriptor came from rank {peer}")))?;
        Ok(Offered::Elsewhere(self.received.swap_remove(index).1))
    }

    /// Closes what was exported: the peers' mappings keep the memory.
    pub fn close_export(&mut self) {
        self.exported = None;
    }

    /// The rounds are over: takes back what [`Self::offer`] made known.
    pub fn withdraw(&self) {
        of_this_process().retain(|(token, _)| token != self.agreement.token());
    }
}

/// The scratch of a peer, before it is mapped here.
pub enum Offered {
    /// Of a rank of this process.
    Here(SameProcess),
    /// The descriptor that came from another process: the scratch, or the lease to it.
    Elsewhere(OwnedFd),
}
