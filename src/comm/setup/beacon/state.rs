//! The beacons' state: this process's part in each communicator, by handle, and the parts whose handles NCCL writes later.

use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::comm::run::{declared, late_handle};
use crate::comm::setup::beacon::membership::Membership;
use crate::comm::setup::beacon::socket::{Beacon, OriginKey};
use crate::comm::table::Reservation;
use crate::host::lock::Lock;
use crate::nccl::ncclComm_t;

/// A communicator whose handle NCCL writes later, to `out`.
pub(super) struct LateHandle {
    /// The communicator of which it is a part.
    pub(super) parent: usize,
    pub(super) out: *const ncclComm_t,
    pub(super) membership: Membership,
}

// SAFETY: the pointer is the application's, which gave it to NCCL to be written by another thread.
unsafe impl Send for LateHandle {}

#[derive(Default)]
pub(super) struct State {
    pub(super) memberships: Vec<Membership>,
    pub(super) late: Vec<LateHandle>,
}

static STATE: Lock<State> = Lock::new(State { memberships: Vec::new(), late: Vec::new() });
/// Some communicator must be looked at when NCCL says that it is ready.
static AWAITS_READINESS: AtomicBool = AtomicBool::new(false);

/// Runs `change` on the state, under its lock.
pub(super) fn with_state<R>(change: impl FnOnce(&mut State) -> R) -> R {
    let mut state = STATE.hold();
    let result = change(&mut state);
    let awaits = !state.late.is_empty() || state.memberships.iter().any(|membership| membership.outcome.is_none());
    AWAITS_READINESS.store(awaits, Ordering::Relaxed);
    result
}

/// Whether some communicator must be looked at when NCCL says that it is ready.
#[inline(always)]
pub(super) fn awaits_readiness() -> bool {
    AWAITS_READINESS.load(Ordering::Relaxed)
}

impl State {
    pub(super) fn find(&mut self, handle: ncclComm_t) -> Option<&mut Membership> {
        self.memberships.iter_mut().find(|membership| membership.handle == handle as usize)
    }

    pub(super) fn beacon_of(&self, key: &OriginKey, member: usize) -> Option<Arc<UnixDatagram>> {
        self.memberships.iter().find_map(|membership| match &membership.beacon {
            Beacon::Lit(socket) if membership.beacon_key == *key && membership.member == member => Some(socket.clone()),
            _ => None,
        })
    }

    pub(super) fn add(&mut self, mut membership: Membership, handle: ncclComm_t) {
        membership.handle = handle as usize;
        self.memberships.retain(|other| other.handle != membership.handle);
        if membership.handle != 0 {
            self.memberships.push(membership);
        }
    }

    /// Adds the parts of `parent` whose handles NCCL has written since. NCCL says that the parent is ready.
    pub(super) fn adopt_parts(&mut self, parent: ncclComm_t) -> Vec<ncclComm_t> {
        let (ready, late) = std::mem::take(&mut self.late).into_iter().partition(|late| late.parent == parent as usize);
        self.late = late;
        ready.into_iter().map(|late| self.adopt(late)).collect()
    }

    /// Adds the communicator of this handle if NCCL has written it and its parent was not queried yet.
    pub(super) fn adopt_by_handle(&mut self, handle: ncclComm_t) {
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
        self.add(late.membership, made);
        made
    }
}

impl LateHandle {
    fn written(&self) -> ncclComm_t {
        // SAFETY: NCCL writes there from a thread of its own until the application knows that it has, which it learns
        // from a call of ours.
        unsafe { late_handle::read(self.out) }
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
