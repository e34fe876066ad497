//! The making of a communicator: before it calls NCCL a rank arrives, that is, lights its beacon; when NCCL has made the
//! communicator, the arrival becomes its membership.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::comm::run::{group, late_handle};
use crate::comm::setup::beacon::membership::{MemberRange, Membership, View};
use crate::comm::setup::beacon::outcome::{look_now, ranks_of, reason_for_no_beacon};
use crate::comm::setup::beacon::socket::{OriginKey, key_of};
use crate::comm::setup::beacon::state::{LateHandle, State, forget, with_state};
use crate::comm::setup::sockets;
use crate::comm::table::Reservation;
use crate::host::config::Config;
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

/// A rank that is about to call NCCL to make a communicator.
#[must_use]
pub struct Arrival(pub(super) Option<Box<Arrived>>);

/// A communicator that was asked for in a group that is still open.
pub enum Pending {
    /// NCCL has written the handle. It is void if the group fails.
    Made(ncclComm_t),
    /// A part of another communicator: NCCL writes the handle to this address at the end of the group.
    Part(Arrival, *mut ncclComm_t),
}

pub(super) struct Arrived {
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

/// Some communicator of this process was made with DIME_BATCH_INVARIANT=1. Makes the answer cheap for all others.
static ANY_BATCH_INVARIANT: AtomicBool = AtomicBool::new(false);

/// What this rank's environment decides about a communicator that is made now.
#[derive(Clone, Copy)]
pub(super) struct Environment {
    /// Why this rank lights no beacon.
    pub(super) obstacle: Option<Reason>,
    pub(super) batch_invariant: bool,
}

impl Environment {
    /// The membership of a rank whose communicator is about to be made.
    pub(super) fn arriving(
        self,
        state: &State,
        key: OriginKey,
        member: usize,
        members: usize,
        view: View,
    ) -> Membership {
        let shared = |key: &OriginKey| state.beacon_of(key, member);
        let Self { obstacle, batch_invariant } = self;
        Membership::arriving(shared, obstacle, key, member, members, view, batch_invariant)
    }

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
        with_state(|state| environment.arriving(state, key, member, members, view))
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
        Some(environment.arriving(state, key, member, members, view))
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
            let mut membership = environment.arriving(state, old, member, members, View::Coordinator(old));
            membership.origin_key = None;
            return Some(membership);
        };
        let new = key_of_new(&id, ranks);
        let parts = [(old, 0, old_ranks), (new, old_ranks, members)];
        let view = View::Beacons(parts.map(|(key, from, to)| MemberRange { key, from, to }).into());
        let mut membership = environment.arriving(state, old, member, members, view);
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
    let mut membership = with_state(|state| environment.arriving(state, key, member, members, View::Coordinator(key)));
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
        let handle = unsafe { late_handle::read(out) };
        with_state(|state| {
            // An address that is given to NCCL again holds no earlier handle any more.
            state.late.retain(|late| late.out != out);
            if handle.is_null() && result == ncclInProgress && arrived.parent != 0 {
                let Arrived { membership, parent } = *arrived;
                state.late.push(LateHandle { parent, out, membership });
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
