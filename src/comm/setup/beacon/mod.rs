//! Beacons: whether every rank of a communicator is on this host, has Dime in front of NCCL, and will take part in a
//! setup.
//!
//! A setup sends its messages over the communicator itself. So it must not begin if one rank would not answer: a rank
//! without Dime, or one that decided alone to forward, would take a setup message for a part of its own all-reduce.
//! All ranks must therefore reach the same conclusion before the first message, whatever fails on one of them alone.
//! They do, except in the two cases named below. The protocol:
//!
//! 1. *Light.* Before NCCL makes a communicator, each rank that will answer lights its beacon: it binds a socket to
//!    an abstract name, which every process in this network namespace can look up. Before that it takes everything
//!    that it needs to keep the promise: the driver, an entry in the communicator table, a socket to look up names
//!    with. It also looks up its own beacon. A rank that lacks any of these lights no beacon. A rank with
//!    DIME_DISABLE=1 lights none and makes no socket at all.
//!    Ranks with DIME_BATCH_INVARIANT=1 have names of their own.
//! 2. *Look.* NCCL has made a communicator only when every rank has called it. So every rank that lights a beacon has
//!    lit it by then. Directly after NCCL, each rank looks up all names and keeps its conclusion, because it may lose
//!    the ability to look later (a sandbox, a limit of descriptors). If some beacon is missing, it forwards. If it is lit
//!    under the name for the other value of DIME_BATCH_INVARIANT, it forwards too. If all are lit, it takes part in the
//!    setup. A rank without a beacon of its own forwards without looking.
//! 3. *Tell.* A rank that has concluded sends a verdict message, a datagram, to every beacon that it found.
//! 4. *Wait.* A rank that could not look waits in its first all-reduce for a verdict message. Usually the message is
//!    there already; it is not if no rank could look. If none comes within DIME_SETUP_TIMEOUT_S, the rank puts its
//!    beacon out and forwards. A verdict message that comes later fails to be delivered, so its sender forwards too.
//!    A process that got no verdict message once lights no more beacons: its later communicators forward without
//!    waiting.
//!
//! Why all ranks conclude the same: the set of lit beacons does not change between NCCL's return and the end of the
//! setup. Every rank that can look sees exactly this set. Every rank that cannot look is told by one that could. If
//! no rank could look, or no other rank has Dime, no rank is told and all forward. Only a rank that forwards puts its
//! beacon out earlier, and by then that is every rank's conclusion. `exhaustive.rs` checks all combinations.
//!
//! DIME_BATCH_INVARIANT is in the names because it decides before the setup: with it a message of floats of any size
//! begins the setup, without it a large one does not.
//!
//! In two cases ranks can conclude differently. First: between lighting and looking, a rank loses both the ability to
//! connect and the ability to read from an open socket, and another rank has no Dime or another DIME_BATCH_INVARIANT.
//! The rank counts as lit what it cannot look up. Second, a race: two ranks could not look, and a third looks when the
//! timeout of the one has passed and that of the other has not. It may have told the second that all beacons are lit
//! before it finds the first one's put out.
//!
//! A beacon's name contains a hash of what brings the ranks together, the *origin key*. Other processes can neither
//! guess the name nor learn anything from it. The key is a hash of NCCL's unique id; for a communicator made of
//! another one, a hash of the parent's key and of the call. Members are numbered as the ranks of the first
//! communicator with this key. Three ways of making communicators are special:
//! - ncclCommInitAll has all ranks in this process. They share one environment and one conclusion, so there is
//!   nothing to look up.
//! - For a non-blocking split or shrink, NCCL writes the handle later, from a thread of its own. It is read when
//!   ncclCommGetAsyncError says that NCCL is done.
//! - ncclCommGrow adds ranks that do not know the parent's key, and the parent's ranks do not know the id of the new
//!   ones. Only the rank that called ncclCommGetUniqueId, the *coordinator*, knows both. It alone looks up all
//!   beacons. The others look up only the coordinator's, and wait for its verdict message.
//!
//! A communicator that is made by any other call has no beacons, so all its ranks forward.
//!
//! A beacon is put out when the setup is over or the communicator ends. After that no rank looks for it.

mod conclusion;
#[cfg(test)]
mod exhaustive;
mod membership;
mod socket;

use std::ffi::c_void;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::comm::run::{declared, group};
use crate::comm::setup::beacon::conclusion::Heard;
use crate::comm::setup::beacon::membership::{MemberRange, Membership, View};
use crate::comm::setup::beacon::socket::{Beacon, OriginKey, key_of};
use crate::comm::setup::sockets;
use crate::comm::table::Reservation;
use crate::gpu::driver::Driver;
use crate::host::config::Config;
use crate::host::lock::Lock;
use crate::host::thread;
use crate::kernel::layout::MAX_RANKS;
use crate::nccl::{ncclComm_t, ncclInProgress, ncclResult_t, ncclSuccess};
use crate::observe::unused_library;
use crate::real;
use crate::route::Reason;

/// How long a split, shrink or grow whose parent is itself a grown communicator waits for the coordinator's verdict
/// message, which brings the parent's origin key. Usually the message has come.
const GROWN_LIMIT: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_millis(1);

/// A communicator whose handle NCCL writes later, to `out`.
struct LateHandle {
    parent: usize,
    out: *const ncclComm_t,
    arrived: Box<Arrived>,
}

// SAFETY: the pointer is the application's, which gave it to NCCL to be written by another thread.
unsafe impl Send for LateHandle {}

#[derive(Default)]
struct State {
    memberships: Vec<Membership>,
    late: Vec<LateHandle>,
}

static STATE: Lock<State> = Lock::new(State { memberships: Vec::new(), late: Vec::new() });
/// Some communicator must be looked at when NCCL says that it is ready.
static AWAITS_READINESS: AtomicBool = AtomicBool::new(false);

/// Runs `change` on the state, under its lock.
fn with_state<R>(change: impl FnOnce(&mut State) -> R) -> R {
    let mut state = STATE.hold();
    let result = change(&mut state);
    let awaits = !state.late.is_empty() || state.memberships.iter().any(|membership| membership.outcome.is_none());
    AWAITS_READINESS.store(awaits, Ordering::Relaxed);
    result
}

/// A rank that is about to call NCCL to make a communicator.
#[must_use]
pub struct Arrival(Option<Box<Arrived>>);

/// A communicator that was asked for in a group that is still open.
pub enum Pending {
    /// NCCL has written the handle. It is void if the group fails.
    Made(ncclComm_t),
    /// A part of another communicator: NCCL writes the handle to this address at the end of the group.
    Part(Arrival, *mut ncclComm_t),
}

struct Arrived {
    membership: Membership,
    /// The parent, of which this communicator is a part; NCCL then writes the handle last. 0: it is no part of
    /// another one.
    parent: usize,
}

impl Arrival {
    const UNTRACED: Self = Self(None);

    fn of(membership: Membership) -> Self {
        Self(Some(Box::new(Arrived { membership, parent: 0 })))
    }
}

/// This process could not look, and no verdict message came in time. It lights no more beacons, so that it does not
/// wait in vain again.
static NO_VERDICT_CAME: AtomicBool = AtomicBool::new(false);

/// Why this rank lights no beacon. None: it does.
fn reason_for_no_beacon(config: &Config) -> Option<Reason> {
    if config.disable {
        Some(Reason::Disabled)
    } else if NO_VERDICT_CAME.load(Ordering::Relaxed) {
        Some(Reason::NoBeacon)
    } else if Driver::get().is_err() {
        Some(Reason::NoDriver)
    } else {
        None
    }
}

/// Some communicator of this process was made with DIME_BATCH_INVARIANT=1. Makes the answer cheap for all others.
static ANY_BATCH_INVARIANT: AtomicBool = AtomicBool::new(false);

/// What this rank's environment decides about a communicator that is made now.
#[derive(Clone, Copy)]
struct Environment {
    /// Why this rank lights no beacon.
    obstacle: Option<Reason>,
    batch_invariant: bool,
}

impl Environment {
    fn read() -> Self {
        let (config, _) = Config::from_env();
        if config.batch_invariant {
            ANY_BATCH_INVARIANT.store(true, Ordering::Relaxed);
        }
        Self { obstacle: reason_for_no_beacon(&config), batch_invariant: config.batch_invariant }
    }
}

/// Whether a communicator was made with DIME_BATCH_INVARIANT=1. Then it was on all ranks, unless all forward.
pub fn is_batch_invariant(handle: ncclComm_t) -> bool {
    ANY_BATCH_INVARIANT.load(Ordering::Relaxed)
        && with_state(|state| {
            state.adopt_by_handle(handle);
            state.find(handle).is_some_and(|membership| membership.batch_invariant)
        })
}

impl State {
    fn find(&mut self, handle: ncclComm_t) -> Option<&mut Membership> {
        self.memberships.iter_mut().find(|membership| membership.handle == handle as usize)
    }

    /// The membership of a rank whose communicator is about to be made.
    fn arriving(
        &self,
        environment: Environment,
        key: OriginKey,
        member: usize,
        members: usize,
        view: View,
    ) -> Membership {
        let shared = |key: &OriginKey| self.beacon_of(key, member);
        let Environment { obstacle, batch_invariant } = environment;
        Membership::arriving(shared, obstacle, key, member, members, view, batch_invariant)
    }

    fn beacon_of(&self, key: &OriginKey, member: usize) -> Option<Arc<UnixDatagram>> {
        self.memberships.iter().find_map(|membership| match &membership.beacon {
            Beacon::Lit(socket) if membership.beacon_key == *key && membership.member == member => Some(socket.clone()),
            _ => None,
        })
    }

    fn add(&mut self, mut membership: Membership, handle: ncclComm_t) {
        membership.handle = handle as usize;
        self.memberships.retain(|other| other.handle != membership.handle);
        if membership.handle != 0 {
            self.memberships.push(membership);
        }
    }

    /// Adds the parts of `parent` whose handles NCCL has written since. NCCL says that the parent is ready.
    fn adopt_parts(&mut self, parent: ncclComm_t) -> Vec<ncclComm_t> {
        let (ready, late) = std::mem::take(&mut self.late).into_iter().partition(|late| late.parent == parent as usize);
        self.late = late;
        ready.into_iter().map(|late| self.adopt(late)).collect()
    }

    /// Adds the communicator of this handle if NCCL has written it and its parent was not queried yet.
    fn adopt_by_handle(&mut self, handle: ncclComm_t) {
        if self.find(handle).is_none()
            && let Some(index) = self.late.iter().position(|late| late.written() == handle)
        {
            let late = self.late.remove(index);
            self.adopt(late);
        }
    }

    fn adopt(&mut self, late: LateHandle) -> ncclComm_t {
        let made = late.written();
        declared::found(late.out, made);
        self.add(late.arrived.membership, made);
        made
    }
}

impl LateHandle {
    fn written(&self) -> ncclComm_t {
        // SAFETY: NCCL writes there from a thread of its own until the application knows that it has, which it learns
        // from a call of ours.
        unsafe { read(self.out) }
    }
}

/// Reads a handle that another thread may be writing.
///
/// # Safety
/// The pointer is valid.
unsafe fn read(out: *const ncclComm_t) -> ncclComm_t {
    // SAFETY: the caller's contract; NCCL stores the handle whole.
    unsafe { AtomicPtr::from_ptr(out.cast_mut().cast::<*mut c_void>()) }.load(Ordering::Acquire).cast()
}

/// The number of ranks of a communicator that NCCL has made.
fn ranks_of(handle: ncclComm_t) -> Option<usize> {
    let mut ranks = 0;
    // SAFETY: the handle is one that NCCL has just made; the out pointer is ours.
    let counted = unsafe { real::ncclCommCount(handle, &mut ranks) };
    usize::try_from(ranks).ok().filter(|_| counted == ncclSuccess)
}

/// NCCL has made these communicators: looks up the beacons of their ranks.
fn look_now(handles: &[ncclComm_t]) {
    for handle in handles.iter().copied().filter(|handle| !handle.is_null()) {
        let is_open = with_state(|state| state.find(handle).is_some_and(|membership| membership.outcome.is_none()));
        // No lock is held during the call to NCCL.
        if is_open && let Some(ranks) = ranks_of(handle) {
            unused_library::communicator_made(ranks);
            with_state(|state| state.find(handle).into_iter().for_each(|membership| membership.look(ranks)));
        }
    }
}

/// Call before NCCL makes a communicator of `ranks` ranks from these unique ids. Lights this rank's beacon.
pub fn arrive(ids: &[u8], ranks: i32, rank: i32) -> Arrival {
    let (Ok(members), Ok(member)) = (usize::try_from(ranks), usize::try_from(rank)) else { return Arrival::UNTRACED };
    if thread::is_inside_nccl() || ids.is_empty() || members < 2 || member >= members {
        return Arrival::UNTRACED;
    }
    let key = key_of(&[ids, &ranks.to_le_bytes()]);
    let environment = Environment::read();
    let membership = if members <= MAX_RANKS {
        let view = View::Beacons(vec![MemberRange { key, from: 0, to: members }]);
        with_state(|state| state.arriving(environment, key, member, members, view))
    } else {
        // It is never fast, but a communicator made of it may be.
        Membership::without_beacon(key, member, members, Err(Reason::ManyRanks))
    };
    Arrival::of(membership)
}

/// Call before NCCL makes a communicator of some ranks of `parent`. All ranks that will be in it pass the same
/// `what`. None: this rank will not be in one.
pub fn arrive_from(parent: ncclComm_t, what: Option<&[u8]>) -> Arrival {
    if thread::is_inside_nccl() {
        return Arrival::UNTRACED;
    }
    await_key(parent);
    let environment = Environment::read();
    let membership = with_state(|state| {
        let of = state.find(parent)?;
        of.children += 1;
        let key = key_of(&[of.origin_key.as_ref()?, &of.children.to_le_bytes(), what?]);
        let (member, members) = (of.member, of.members);
        let view = View::Beacons(vec![MemberRange { key, from: 0, to: members }]);
        Some(state.arriving(environment, key, member, members, view))
    });
    Arrival(membership.map(|membership| Box::new(Arrived { membership, parent: parent as usize })))
}

/// NCCL has made a unique id for ranks that will join this communicator. So this rank is the coordinator.
pub fn grows_by(parent: ncclComm_t, id: &[u8]) {
    if !thread::is_inside_nccl() {
        with_state(|state| {
            state.find(parent).into_iter().for_each(|membership| membership.growth_id = Some(id.to_vec()))
        });
    }
}

/// Call before NCCL makes a communicator of `ranks` ranks: those of `parent`, of which this is one, and new ones.
///
/// # Safety
/// The parent is a communicator.
pub unsafe fn arrive_growing(parent: ncclComm_t, ranks: i32) -> Arrival {
    if thread::is_inside_nccl() || with_state(|state| state.find(parent).is_none()) {
        return Arrival::UNTRACED;
    }
    await_key(parent);
    let environment = Environment::read();
    let mut member = 0;
    // SAFETY: the caller's contract; the out pointer is ours.
    let asked = unsafe { real::ncclCommUserRank(parent, &mut member) };
    // It keeps its rank.
    let member = usize::try_from(member).ok().filter(|_| asked == ncclSuccess);
    let (Some(member), Some(old_ranks), Ok(members)) = (member, ranks_of(parent), usize::try_from(ranks)) else {
        return Arrival::UNTRACED;
    };
    let membership = with_state(|state| {
        let of = state.find(parent)?;
        of.children += 1;
        let old = key_of(&[of.origin_key.as_ref()?, &of.children.to_le_bytes(), b"grown"]);
        let Some(id) = of.growth_id.take() else {
            let mut membership = state.arriving(environment, old, member, members, View::Coordinator(old));
            membership.origin_key = None;
            return Some(membership);
        };
        let new = key_of_new(&id, ranks);
        let parts = [(old, 0, old_ranks), (new, old_ranks, members)];
        let view = View::Beacons(parts.map(|(key, from, to)| MemberRange { key, from, to }).into());
        let mut membership = state.arriving(environment, old, member, members, view);
        membership.coordinate([&old, &new]);
        membership.origin_key = Some(key_of(&[&new, b"grown"]));
        Some(membership)
    });
    membership.map_or(Arrival::UNTRACED, Arrival::of)
}

/// Call before NCCL makes a grown communicator of `ranks` ranks, which this rank joins as a new one.
pub fn arrive_in_growing(id: &[u8], ranks: i32, rank: i32) -> Arrival {
    let (Ok(members), Ok(member)) = (usize::try_from(ranks), usize::try_from(rank)) else { return Arrival::UNTRACED };
    if thread::is_inside_nccl() || id.is_empty() || member >= members {
        return Arrival::UNTRACED;
    }
    let key = key_of_new(id, ranks);
    let environment = Environment::read();
    let mut membership = with_state(|state| state.arriving(environment, key, member, members, View::Coordinator(key)));
    membership.origin_key = None;
    Arrival::of(membership)
}

fn key_of_new(id: &[u8], ranks: i32) -> OriginKey {
    key_of(&[b"new ranks", id, &ranks.to_le_bytes()])
}

/// NCCL has made these communicators, whose ranks are all in this process.
pub fn all_made(handles: &[ncclComm_t]) {
    static MADE: AtomicU64 = AtomicU64::new(0);
    if thread::is_inside_nccl() || handles.len() < 2 {
        return;
    }
    unused_library::communicator_made(handles.len());
    let made = MADE.fetch_add(1, Ordering::Relaxed).to_le_bytes();
    let random = sockets::random().unwrap_or_default();
    let key = key_of(&[b"one process", &std::process::id().to_le_bytes(), &made, &random]);
    let Environment { obstacle, batch_invariant } = Environment::read();
    let is_disabled = obstacle == Some(Reason::Disabled);
    let reservations: Vec<_> = handles.iter().map(|_| if is_disabled { None } else { Reservation::make() }).collect();
    // All ranks have the same conclusion.
    let outcome = match &reservations {
        _ if is_disabled => Err(Reason::Disabled),
        reservations if reservations.iter().any(Option::is_none) => Err(Reason::TableFull),
        _ => Ok(()),
    };
    with_state(|state| {
        for (member, (handle, reservation)) in handles.iter().zip(reservations).enumerate() {
            let membership = Membership::without_beacon(key, member, handles.len(), outcome);
            state.add(Membership { reservation, batch_invariant, ..membership }, *handle);
        }
    });
}

/// Waits up to [`GROWN_LIMIT`] for the origin key of a grown communicator, of which another one is made now.
fn await_key(parent: ncclComm_t) {
    let deadline = Instant::now() + GROWN_LIMIT;
    loop {
        let ranks = with_state(|state| {
            let membership = state.find(parent)?;
            (membership.origin_key.is_none() && membership.outcome.is_none()).then_some(membership.members)
        });
        let Some(ranks) = ranks else { return };
        with_state(|state| state.find(parent).into_iter().for_each(|membership| membership.look(ranks)));
        if Instant::now() >= deadline {
            return;
        }
        std::thread::sleep(INTERVAL);
    }
}

impl Arrival {
    /// Call after NCCL was asked for the communicator and returned `result`. NCCL has written the handle to `out`, or
    /// will.
    ///
    /// # Safety
    /// `out` is the pointer that NCCL was given.
    pub unsafe fn made(self, out: *mut ncclComm_t, result: ncclResult_t) {
        let Some(arrived) = &self.0 else { return };
        if out.is_null() || (result != ncclSuccess && result != ncclInProgress) {
            return;
        }
        if group::is_open() {
            if arrived.parent != 0 {
                let pending = Pending::Part(self, out);
                return group::when_made(move |result| pending.group_ended(result));
            }
            // SAFETY: the caller's contract.
            let handle = unsafe { self.add(out, ncclInProgress) };
            let pending = Pending::Made(handle);
            return group::when_made(move |result| pending.group_ended(result));
        }
        // SAFETY: the caller's contract.
        unsafe { self.add(out, result) };
    }

    /// Adds the communicator that NCCL made with this result, and looks up its beacons if it is ready.
    ///
    /// # Safety
    /// `out` is the pointer that NCCL was given.
    unsafe fn add(self, out: *const ncclComm_t, result: ncclResult_t) -> ncclComm_t {
        let Some(arrived) = self.0 else { return std::ptr::null_mut() };
        // SAFETY: the caller's contract.
        let handle = unsafe { read(out) };
        with_state(|state| {
            // An address that is given to NCCL again holds no earlier handle any more.
            state.late.retain(|late| late.out != out);
            if handle.is_null() && result == ncclInProgress && arrived.parent != 0 {
                state.late.push(LateHandle { parent: arrived.parent, out, arrived });
            } else {
                state.add(arrived.membership, handle);
            }
        });
        if result == ncclSuccess {
            look_now(&[handle]);
        }
        handle
    }
}

impl Pending {
    /// Call after the outermost end of the group, which returned `result`.
    pub fn group_ended(self, result: ncclResult_t) {
        match self {
            Self::Made(handle) if result == ncclSuccess => look_now(&[handle]),
            Self::Made(_) if result == ncclInProgress => {}
            Self::Made(handle) => forget(handle),
            Self::Part(arrival, out) if result == ncclSuccess || result == ncclInProgress => {
                // SAFETY: the application gave the pointer to NCCL in this group, valid until NCCL is ready at least.
                unsafe { arrival.add(out, result) };
            }
            Self::Part(..) => {}
        }
    }
}

/// Call when NCCL says that a communicator is ready; its parts are then ready too. Cheap, since some programs poll.
#[inline(always)]
pub fn ready(handle: ncclComm_t) {
    if AWAITS_READINESS.load(Ordering::Relaxed) {
        look_at_ready(handle);
    }
}

#[cold]
fn look_at_ready(handle: ncclComm_t) {
    if thread::is_inside_nccl() {
        return;
    }
    let mut ready = with_state(|state| {
        state.adopt_by_handle(handle);
        state.adopt_parts(handle)
    });
    ready.push(handle);
    look_now(&ready);
}

/// Why all ranks forward, if this rank has concluded that already. Waits for nothing.
pub fn reason_so_far(handle: ncclComm_t) -> Option<Reason> {
    let membership = with_state(|state| {
        state.adopt_by_handle(handle);
        state.find(handle).map(|membership| membership.outcome.and_then(Result::err))
    });
    membership.unwrap_or_else(|| Some(reason_for_no_beacon(&Config::from_env().0).unwrap_or(Reason::Untraced)))
}

/// Whether all `ranks` ranks of a communicator will take part in a setup, or why all forward. Called at the first
/// all-reduce that could be fast, captured or not. A rank that could not look waits there for a verdict message until
/// `limit` has passed or the communicator is aborted.
pub fn await_outcome(
    handle: ncclComm_t,
    ranks: usize,
    limit: impl FnOnce() -> Duration,
    is_aborted: impl Fn() -> bool,
) -> Result<(), Reason> {
    let looked = with_state(|state| {
        let membership = state.find(handle).ok_or(Reason::Untraced)?;
        membership.look(ranks);
        Ok((membership.outcome, membership.beacon.clone(), membership.beacon_key))
    });
    let (outcome, beacon, key) = looked?;
    if let Some(outcome) = outcome {
        return outcome;
    }
    // No lock is held while it waits.
    let limit = limit();
    let (heard, message) = beacon.await_verdict(&key, Instant::now() + limit, &is_aborted);
    drop(beacon);
    if heard == Heard::Nothing && !is_aborted() && !NO_VERDICT_CAME.swap(true, Ordering::Relaxed) {
        log::warn!(
            "this process may not connect to the beacon sockets of the other ranks (a sandbox, or no descriptors left), \
             and no verdict message from them came within {} s (DIME_SETUP_TIMEOUT_S): all-reduces of its new \
             communicators are forwarded from now on",
            limit.as_secs()
        );
    }
    with_state(|state| {
        let membership = state.find(handle).ok_or(Reason::Untraced)?;
        match message {
            Some(message) => membership.conclude_from_message(message),
            None => membership.conclude(conclusion::after_waiting(heard)),
        }
        membership.outcome.unwrap_or(Err(Reason::Absent))
    })
}

/// NCCL reports an error of a communicator: it will not write the handles of its parts.
#[cold]
pub fn failed(handle: ncclComm_t) {
    if AWAITS_READINESS.load(Ordering::Relaxed) && !thread::is_inside_nccl() {
        with_state(|state| state.late.retain(|late| late.parent != handle as usize));
    }
}

/// Every rank has looked, because the setup is over: puts this rank's beacon out.
pub fn put_out(handle: ncclComm_t) {
    with_state(|state| state.find(handle).into_iter().for_each(Membership::put_out));
}

/// The table entry that is reserved for a communicator, if it has not been taken yet.
pub fn take_reservation(handle: usize) -> Option<Reservation> {
    with_state(|state| state.find(handle as ncclComm_t).and_then(|membership| membership.reservation.take()))
}

/// The communicator ends, or could not be made.
pub fn forget(handle: ncclComm_t) {
    with_state(|state| {
        state.memberships.retain(|membership| membership.handle != handle as usize);
        state.late.retain(|late| late.parent != handle as usize);
    });
}

/// Whether this process has made any communicator besides this one.
pub fn knows_others(than: usize) -> bool {
    with_state(|state| !state.late.is_empty() || state.memberships.iter().any(|membership| membership.handle != than))
}

#[cfg(test)]
mod tests {
    use super::conclusion::Conclusion;
    use super::socket::{Sight, Whose};
    use super::*;

    /// A communicator that NCCL has made, so that every rank has lit its beacon and can look.
    fn arrived(ids: &[u8], ranks: i32, rank: i32) -> Membership {
        let (member, members) = (rank as usize, ranks as usize);
        let key = key_of(&[ids, &ranks.to_le_bytes()]);
        let mut membership = Membership::without_beacon(key, member, members, Ok(()));
        membership.view = View::Beacons(vec![MemberRange { key, from: 0, to: members }]);
        membership.beacon = Beacon::light(&key, Whose::Member(member));
        membership.outcome = None;
        membership
    }

    fn add(membership: Membership, handle: usize) {
        with_state(|state| state.add(membership, handle as ncclComm_t));
    }

    fn of(handle: usize, ranks: usize) -> Result<(), Reason> {
        await_outcome(handle as ncclComm_t, ranks, || Duration::ZERO, || false)
    }

    /// Unique ids that no other test run has.
    fn ids(test: &str) -> Vec<u8> {
        format!("{test} {} {:?}", std::process::id(), Instant::now()).into_bytes()
    }

    #[test]
    fn a_conclusion_stays_when_a_beacon_is_put_out_later() {
        let ids = ids("come and go");
        (0..3).for_each(|rank| add(arrived(&ids, 3, rank), 0x100 + rank as usize));
        assert_eq!(of(0x100, 3), Ok(()));
        forget(0x101 as ncclComm_t);
        assert_eq!((of(0x100, 3), of(0x101, 3)), (Ok(()), Err(Reason::Untraced)));
        // A rank that looks only now sees that one beacon was put out.
        assert_eq!(of(0x102, 3), Err(Reason::Absent));
        [0x100, 0x102].iter().for_each(|handle| forget(*handle as ncclComm_t));
    }

    #[test]
    fn a_rank_without_a_beacon_forwards_without_looking_and_so_do_the_others() {
        let ids = ids("one without");
        let without = Membership { beacon: Beacon::Unlit, ..arrived(&ids, 2, 1) };
        add(arrived(&ids, 2, 0), 0x110);
        add(without, 0x111);
        assert_eq!([0x110, 0x111].map(|handle| of(handle, 2)), [Err(Reason::Absent); 2]);
        [0x110, 0x111].iter().for_each(|handle| forget(*handle as ncclComm_t));
    }

    #[test]
    fn a_rank_that_waited_in_vain_and_one_that_looks_afterwards_both_forward() {
        let ids = ids("too late");
        let waiting = arrived(&ids, 2, 1);
        let heard = waiting.beacon.await_verdict(&waiting.beacon_key, Instant::now(), || false).0;
        assert_eq!(conclusion::after_waiting(heard), Conclusion::SomeMissing);
        // Its beacon is still bound for a moment, but receives no message.
        add(arrived(&ids, 2, 0), 0x120);
        assert_eq!(of(0x120, 2), Err(Reason::Absent));
        forget(0x120 as ncclComm_t);
    }

    #[test]
    fn communicators_with_one_id_share_a_beacon() {
        // NCCL_COMM_ID makes such communicators.
        let key = key_of(&[&ids("again")]);
        let view = || View::Beacons(vec![MemberRange { key, from: 0, to: 2 }]);
        for handle in [0x130, 0x131] {
            let environment = Environment { obstacle: None, batch_invariant: false };
            let membership = with_state(|state| state.arriving(environment, key, 0, 2, view()));
            assert!(matches!(membership.beacon, Beacon::Lit(_)));
            add(membership, handle);
        }
        forget(0x130 as ncclComm_t);
        assert_eq!(socket::look(&key, Whose::Member(0)), Sight::Lit);
        forget(0x131 as ncclComm_t);
        assert_eq!(socket::look(&key, Whose::Member(0)), Sight::Missing);
    }

    #[test]
    fn ranks_that_differ_in_batch_invariance_all_forward_for_that_reason() {
        // `differing`: bit r is rank r's DIME_BATCH_INVARIANT.
        for (ranks, differing) in [(2, 0b10), (2, 0b01), (3, 0b010), (3, 0b101), (4, 0b0001)] {
            let key = key_of(&[&ids("differ"), &[ranks as u8, differing as u8]]);
            let handles: Vec<usize> = (0..ranks).map(|rank| 0x600 + rank).collect();
            for (rank, &handle) in handles.iter().enumerate() {
                let environment = Environment { obstacle: None, batch_invariant: differing >> rank & 1 == 1 };
                let view = View::Beacons(vec![MemberRange { key, from: 0, to: ranks }]);
                add(with_state(|state| state.arriving(environment, key, rank, ranks, view)), handle);
            }
            // One after the other: the later ones find the beacons of the earlier ones put out.
            for &handle in &handles {
                assert_eq!(of(handle, ranks), Err(Reason::Settings), "{ranks} {differing:b} {handle:x}");
            }
            handles.iter().for_each(|handle| forget(*handle as ncclComm_t));
        }
    }

    #[test]
    fn ranks_that_all_ask_for_batch_invariance_are_set_up() {
        let key = key_of(&[&ids("invariant")]);
        let environment = Environment { obstacle: None, batch_invariant: true };
        let view = || View::Beacons(vec![MemberRange { key, from: 0, to: 2 }]);
        (0..2).for_each(|rank| {
            add(with_state(|state| state.arriving(environment, key, rank, 2, view())), 0x610 + rank);
        });
        assert_eq!([0x610, 0x611].map(|handle| of(handle, 2)), [Ok(()); 2]);
        [0x610, 0x611].iter().for_each(|handle| forget(*handle as ncclComm_t));
    }

    #[test]
    fn a_coordinator_with_another_batch_invariance_is_seen_and_sees() {
        let ids = ids("grows differently");
        let (old, new) = (key_of(&[&ids, b"old"]), key_of(&[&ids, b"new"]));
        let arriving = |batch_invariant, key, member, view| {
            let environment = Environment { obstacle: None, batch_invariant };
            with_state(|state| state.arriving(environment, key, member, 2, view))
        };
        for coordinator_first in [false, true] {
            let parts = [(old, 0, 1), (new, 1, 2)].map(|(key, from, to)| MemberRange { key, from, to });
            let mut coordinator = arriving(true, old, 0, View::Beacons(parts.into()));
            coordinator.coordinate([&old, &new]);
            add(coordinator, 0x620);
            add(arriving(false, new, 1, View::Coordinator(new)), 0x621);
            let order = if coordinator_first { [0x620, 0x621] } else { [0x621, 0x620] };
            assert_eq!(of(order[0], 2), Err(Reason::Settings));
            let second = of(order[1], 2);
            // The waiting rank sends no message, so the coordinator finds only that it has gone.
            let expected = if coordinator_first { Reason::Settings } else { Reason::Absent };
            assert_eq!(second, Err(expected));
            [0x620, 0x621].iter().for_each(|handle| forget(*handle as ncclComm_t));
        }
    }

    #[test]
    fn parts_of_a_communicator_are_told_apart() {
        let key = |round: u64, color: u8| key_of(&[b"parts", &ids("parts")[..5], &round.to_le_bytes(), &[color]]);
        let part = |round: u64, member: usize| {
            let key = key(round, member as u8 % 2);
            let mut membership = Membership::without_beacon(key, member, 4, Ok(()));
            membership.view = View::Beacons(vec![MemberRange { key, from: 0, to: 4 }]);
            membership.beacon = Beacon::light(&key, Whose::Member(member));
            membership.outcome = None;
            membership
        };
        let random = u64::from_le_bytes(sockets::random().expect("random bytes")[..8].try_into().expect("8 bytes"));
        for round in [random, random.wrapping_add(1)] {
            (0..3).for_each(|member| add(part(round, member), 0x300 + member));
            assert_eq!(of(0x300, 2), Ok(()), "even members are 0 and 2");
            assert_eq!(of(0x301, 2), Err(Reason::Absent), "3 has not come");
        }
        (0x300..0x303).for_each(|handle| forget(handle as ncclComm_t));
    }

    #[test]
    fn a_rank_is_told_by_the_coordinator_of_a_communicator_that_grows() {
        let ids = ids("grows");
        let (old, new) = (key_of(&[&ids, b"old"]), key_of(&[&ids, b"new"]));
        let told = |key: OriginKey, member| {
            let mut membership = Membership::without_beacon(key, member, 3, Ok(()));
            (membership.view, membership.origin_key, membership.outcome) = (View::Coordinator(key), None, None);
            membership.beacon = Beacon::light(&key, Whose::Member(member));
            membership
        };
        for with_new in [false, true] {
            add(told(old, 0), 0x500);
            if with_new {
                add(told(new, 2), 0x502);
            }
            let mut membership = told(old, 1);
            let parts = [(old, 0, 2), (new, 2, 3)].map(|(key, from, to)| MemberRange { key, from, to });
            (membership.view, membership.origin_key) = (View::Beacons(parts.into()), Some([9; 32]));
            membership.coordinate([&old, &new]);
            add(membership, 0x501);
            assert_eq!(
                with_state(|state| state.find(0x500 as ncclComm_t).map(|membership| membership.outcome)),
                Some(None)
            );
            let expected = if with_new { Ok(()) } else { Err(Reason::Absent) };
            assert_eq!([0x501, 0x500].map(|handle| of(handle, 3)), [expected; 2]);
            assert_eq!(
                with_state(|state| state.find(0x500 as ncclComm_t).and_then(|membership| membership.origin_key)),
                Some([9; 32])
            );
            if with_new {
                assert_eq!(of(0x502, 3), Ok(()));
            }
            (0x500..0x503).for_each(|handle| forget(handle as ncclComm_t));
        }
        // If the coordinator has no Dime, no rank waits.
        add(told(old, 0), 0x500);
        assert_eq!(await_outcome(0x500 as ncclComm_t, 3, || Duration::from_secs(60), || false), Err(Reason::Absent));
        forget(0x500 as ncclComm_t);
    }

    #[test]
    fn an_impossible_rank_is_not_traced() {
        for (ranks, rank) in [(1, 0), (2, 2), (2, -1), (-3, 0)] {
            let mut handle = 0x400 as ncclComm_t;
            // SAFETY: the out pointer is ours.
            unsafe { arrive(&ids("impossible"), ranks, rank).made(&mut handle, ncclSuccess) };
            assert_eq!(of(0x400, 2), Err(Reason::Untraced), "{rank} of {ranks}");
        }
        assert!(arrive_from(0x400 as ncclComm_t, Some(b"of nobody")).0.is_none());
    }
}
