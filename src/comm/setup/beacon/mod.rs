//! Who is here: whether every rank of a communicator is on this host with this library in front of NCCL, and will answer in a setup.
//!
//! A setup asks the other ranks over the communicator, so it must not begin when one of them would not answer: a rank without this
//! library would take the question for a part of its own all-reduce, and so would one that decided by itself to forward. So all ranks
//! must conclude the same before the first message, whatever is amiss in one of them alone. The protocol:
//!
//! 1. *Sign.* Before it has NCCL make a communicator, each rank that will answer gives a sign: a socket with an abstract name, which all in
//!    this network namespace can see. It first gets what it needs to keep that promise and could be without later: the driver, a place in
//!    the table of communicators, a socket to look with; and it looks at its own sign. A rank that lacks any of that gives none, and neither
//!    does one with DIME_DISABLE=1: that one makes no socket at all.
//! 2. *Look.* NCCL makes a communicator when every rank has come. So who gives a sign has given it by then. Directly after NCCL, each rank
//!    looks at all names and keeps what it concludes, since the ability to look can be taken away (a sandbox, a limit of descriptors): not all
//!    signs are there, and it forwards; or all are, and it comes to the setup. A rank without a sign of its own forwards without looking.
//! 3. *Word.* A rank that has concluded tells all whose signs it saw, by a datagram to the sign.
//! 4. *Wait.* A rank that cannot tell because it was kept from looking meanwhile waits in its first all-reduce for a word, which is there
//!    already unless the others are in the same position. Without one until DIME_SETUP_TIMEOUT_S it takes its sign away and forwards; a word
//!    that comes too late then finds no sign, and its sender forwards as well. A process that heard nothing once gives no more signs: its later
//!    communicators forward without waiting.
//!
//! Why all conclude the same: which signs there are does not change between NCCL's return and the end of the setup. Whoever looks sees
//! exactly them. Whoever can not, hears from one who looked; and where nobody could look, or nobody else has this library, nobody hears
//! anything and all forward. No sign is taken away earlier but by a rank that forwards, and that is by then what all conclude.
//! `exhaustive.rs` goes through all combinations. One case is left: a rank that between its sign and its look loses the ability both to connect
//! and to read from a socket that is open, beside a rank without this library. It counts as present what it cannot look at. And one of time: where two ranks were
//! kept from looking and a third comes to look when the limit of one of the two has passed and that of the other has not, it may have told the second
//! that all are here when it finds the first gone.
//!
//! The name is a hash of what brings the ranks together (the *line*), so nobody else can tell it or learn from it: NCCL's unique id; for a
//! communicator made of another one, that one's line and what was called on it. Members are numbered as the ranks of the first
//! communicator of the line. Three ways of making communicators are special:
//! - ncclCommInitAll has all ranks in this process: they have one environment and one conclusion, and there is nothing to look at.
//! - NCCL writes the handle of a non-blocking split or shrink later, from a thread of its own. It is found at its place when
//!   ncclCommGetAsyncError says that NCCL is done.
//! - ncclCommGrow brings in ranks that do not know the line, and those that are there do not know the id of the new ones. The rank
//!   that called ncclCommGetUniqueId, the *coordinator*, knows both. It alone looks at all; the others look only for its sign, and wait for its word.
//!
//! What is made in a way that is not known here has no signs, so all its ranks forward.
//!
//! A sign is taken away when the setup is over or the communicator ends. No other rank looks for it then.

#[cfg(test)]
mod exhaustive;
mod finding;
mod known;
mod sign;

use std::ffi::c_void;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::comm::run::group;
use crate::comm::setup::beacon::finding::Heard;
use crate::comm::setup::beacon::known::{Known, Members, View};
use crate::comm::setup::beacon::sign::{Key, Sign};
use crate::comm::setup::sockets;
use crate::comm::table::Reservation;
use crate::gpu::driver::Driver;
use crate::host::config::Config;
use crate::host::lock::Lock;
use crate::host::thread;
use crate::kernel::layout::MAX_RANKS;
use crate::nccl::{ncclComm_t, ncclInProgress, ncclResult_t, ncclSuccess};
use crate::observe::unused;
use crate::real;
use crate::route::Reason;

/// How long a call that makes a communicator of one that has grown waits for the coordinator's word, which is mostly there.
const GROWN_LIMIT: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_millis(1);

/// A communicator whose handle NCCL writes later.
struct Late {
    parent: usize,
    place: *const ncclComm_t,
    arrived: Box<Arrived>,
}

// SAFETY: the place is the application's, which gave it to NCCL to be written by another thread.
unsafe impl Send for Late {}

#[derive(Default)]
struct State {
    known: Vec<Known>,
    late: Vec<Late>,
}

static STATE: Lock<State> = Lock::new(State { known: Vec::new(), late: Vec::new() });
/// Something is to be done when NCCL says that a communicator is ready.
static AWAITS_READINESS: AtomicBool = AtomicBool::new(false);

/// Runs `change` on the state.
fn with_state<R>(change: impl FnOnce(&mut State) -> R) -> R {
    let mut state = STATE.hold();
    let result = change(&mut state);
    let awaits = !state.late.is_empty() || state.known.iter().any(|known| known.outcome.is_none());
    AWAITS_READINESS.store(awaits, Ordering::Relaxed);
    result
}

/// A rank that is about to have NCCL make a communicator.
#[must_use]
pub struct Arrival(Option<Box<Arrived>>);

/// What is made in a group that is still open.
pub enum Pending {
    /// NCCL has written its handle, and takes it back if the group fails.
    Made(ncclComm_t),
    /// NCCL writes its handle there at the end.
    Part(Arrival, *mut ncclComm_t),
}

struct Arrived {
    known: Known,
    /// The communicator that it is a part of, for which NCCL writes the handle at the end; else 0.
    parent: usize,
}

impl Arrival {
    const OF_NOBODY: Self = Self(None);

    fn of(known: Known) -> Self {
        Self(Some(Box::new(Arrived { known, parent: 0 })))
    }
}

fn key_of(parts: &[&[u8]]) -> Key {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// This process could not look, and nobody told it anything: it gives no more signs, so that nobody waits in vain again.
static HEARS_NOBODY: AtomicBool = AtomicBool::new(false);

/// Why this rank would give no sign.
fn own_hindrance() -> Option<Reason> {
    if Config::from_env().0.disable {
        Some(Reason::Disabled)
    } else if HEARS_NOBODY.load(Ordering::Relaxed) {
        Some(Reason::NoBeacon)
    } else if Driver::get().is_err() {
        Some(Reason::NoDriver)
    } else {
        None
    }
}

impl State {
    fn find(&mut self, handle: ncclComm_t) -> Option<&mut Known> {
        self.known.iter_mut().find(|known| known.handle == handle as usize)
    }

    /// A rank that arrives.
    fn arriving(&self, hindrance: Option<Reason>, key: Key, number: usize, numbers: usize, view: View) -> Known {
        Known::arriving(|| self.sign_of(&key, number), hindrance, key, number, numbers, view)
    }

    fn sign_of(&self, key: &Key, number: usize) -> Option<Arc<UnixDatagram>> {
        self.known.iter().find_map(|known| match &known.sign {
            Sign::Given(socket) if known.sign_key == *key && known.number == number => Some(socket.clone()),
            _ => None,
        })
    }

    fn add(&mut self, mut known: Known, handle: ncclComm_t) {
        known.handle = handle as usize;
        self.known.retain(|other| other.handle != known.handle);
        if known.handle != 0 {
            self.known.push(known);
        }
    }

    /// Takes over the parts of `parent`, which NCCL has written since: it says that the parent is ready.
    fn adopt_parts(&mut self, parent: ncclComm_t) -> Vec<ncclComm_t> {
        let (ready, late) = std::mem::take(&mut self.late).into_iter().partition(|late| late.parent == parent as usize);
        self.late = late;
        ready.into_iter().map(|late| self.adopt(late)).collect()
    }

    /// Takes over what was found at its place before its parent was asked.
    fn adopt_by_handle(&mut self, handle: ncclComm_t) {
        if self.find(handle).is_none()
            && let Some(place) = self.late.iter().position(|late| late.written() == handle)
        {
            let late = self.late.remove(place);
            self.adopt(late);
        }
    }

    fn adopt(&mut self, late: Late) -> ncclComm_t {
        let made = late.written();
        self.add(late.arrived.known, made);
        made
    }
}

impl Late {
    fn written(&self) -> ncclComm_t {
        // SAFETY: NCCL writes there from a thread of its own until the application knows that it has, which it learns from a call of ours.
        unsafe { read(self.place) }
    }
}

/// What NCCL has written to a place, from whatever thread.
///
/// # Safety
/// The place is there.
unsafe fn read(place: *const ncclComm_t) -> ncclComm_t {
    // SAFETY: the caller's contract; NCCL stores the handle whole.
    unsafe { AtomicPtr::from_ptr(place.cast_mut().cast::<*mut c_void>()) }.load(Ordering::Acquire).cast()
}

/// Ranks of a communicator that NCCL has made.
fn ranks_of(handle: ncclComm_t) -> Option<usize> {
    let mut ranks = 0;
    // SAFETY: the handle is one that NCCL has just made; the out pointer is ours.
    let counted = unsafe { real::ncclCommCount(handle, &mut ranks) };
    usize::try_from(ranks).ok().filter(|_| counted == ncclSuccess)
}

/// NCCL has made these: looks who is here.
fn look_now(handles: &[ncclComm_t]) {
    for handle in handles.iter().copied().filter(|handle| !handle.is_null()) {
        let is_open = with_state(|state| state.find(handle).is_some_and(|known| known.outcome.is_none()));
        // No lock is held while NCCL is asked.
        if is_open && let Some(ranks) = ranks_of(handle) {
            unused::communicator_made(ranks);
            with_state(|state| state.find(handle).into_iter().for_each(|known| known.look(ranks)));
        }
    }
}

/// Before NCCL makes a communicator of so many ranks that know these ids.
pub fn arrive(ids: &[u8], ranks: i32, rank: i32) -> Arrival {
    let (Ok(numbers), Ok(number)) = (usize::try_from(ranks), usize::try_from(rank)) else { return Arrival::OF_NOBODY };
    if thread::is_inside_nccl() || ids.is_empty() || numbers < 2 || number >= numbers {
        return Arrival::OF_NOBODY;
    }
    let key = key_of(&[ids, &ranks.to_le_bytes()]);
    let hindrance = own_hindrance();
    let known = if numbers <= MAX_RANKS {
        let view = View::Signs(vec![Members { key, from: 0, to: numbers }]);
        with_state(|state| state.arriving(hindrance, key, number, numbers, view))
    } else {
        // It is never fast; what is made of it may be.
        Known::without_sign(key, number, numbers, Err(Reason::ManyRanks))
    };
    Arrival::of(known)
}

/// Before NCCL makes a communicator of some ranks of another one. All who will be in it pass the same `what`; None: this rank will be
/// in none.
pub fn arrive_from(parent: ncclComm_t, what: Option<&[u8]>) -> Arrival {
    if thread::is_inside_nccl() {
        return Arrival::OF_NOBODY;
    }
    await_key(parent);
    let hindrance = own_hindrance();
    let known = with_state(|state| {
        let of = state.find(parent)?;
        of.children += 1;
        let key = key_of(&[of.key.as_ref()?, &of.children.to_le_bytes(), what?]);
        let (number, numbers) = (of.number, of.numbers);
        let view = View::Signs(vec![Members { key, from: 0, to: numbers }]);
        Some(state.arriving(hindrance, key, number, numbers, view))
    });
    Arrival(known.map(|known| Box::new(Arrived { known, parent: parent as usize })))
}

/// NCCL has made an id for ranks that this communicator takes in next: this rank is the coordinator.
pub fn grows_by(parent: ncclComm_t, id: &[u8]) {
    if !thread::is_inside_nccl() {
        with_state(|state| state.find(parent).into_iter().for_each(|known| known.growing = Some(id.to_vec())));
    }
}

/// Before NCCL makes a communicator of so many ranks: those of another one, of which this is one, and new ones.
///
/// # Safety
/// The parent is a communicator.
pub unsafe fn arrive_growing(parent: ncclComm_t, ranks: i32) -> Arrival {
    if thread::is_inside_nccl() || with_state(|state| state.find(parent).is_none()) {
        return Arrival::OF_NOBODY;
    }
    await_key(parent);
    let hindrance = own_hindrance();
    let mut number = 0;
    // SAFETY: the caller's contract; the out pointer is ours.
    let asked = unsafe { real::ncclCommUserRank(parent, &mut number) };
    // It keeps its number.
    let number = usize::try_from(number).ok().filter(|_| asked == ncclSuccess);
    let (Some(number), Some(old_ranks), Ok(numbers)) = (number, ranks_of(parent), usize::try_from(ranks)) else {
        return Arrival::OF_NOBODY;
    };
    let known = with_state(|state| {
        let of = state.find(parent)?;
        of.children += 1;
        let old = key_of(&[of.key.as_ref()?, &of.children.to_le_bytes(), b"grown"]);
        let Some(id) = of.growing.take() else {
            let mut known = state.arriving(hindrance, old, number, numbers, View::Told(old));
            known.key = None;
            return Some(known);
        };
        let new = key_of_new(&id, ranks);
        let parts = [(old, 0, old_ranks), (new, old_ranks, numbers)];
        let view = View::Signs(parts.map(|(key, from, to)| Members { key, from, to }).into());
        let mut known = state.arriving(hindrance, old, number, numbers, view);
        known.coordinate([&old, &new]);
        known.key = Some(key_of(&[&new, b"grown"]));
        Some(known)
    });
    known.map_or(Arrival::OF_NOBODY, Arrival::of)
}

/// Before NCCL makes a communicator of so many ranks, into which this one comes as a new one.
pub fn arrive_in_growing(id: &[u8], ranks: i32, rank: i32) -> Arrival {
    let (Ok(numbers), Ok(number)) = (usize::try_from(ranks), usize::try_from(rank)) else { return Arrival::OF_NOBODY };
    if thread::is_inside_nccl() || id.is_empty() || number >= numbers {
        return Arrival::OF_NOBODY;
    }
    let key = key_of_new(id, ranks);
    let hindrance = own_hindrance();
    let mut known = with_state(|state| state.arriving(hindrance, key, number, numbers, View::Told(key)));
    known.key = None;
    Arrival::of(known)
}

fn key_of_new(id: &[u8], ranks: i32) -> Key {
    key_of(&[b"new ranks", id, &ranks.to_le_bytes()])
}

/// NCCL has made these communicators, which have all their ranks in this process.
pub fn all_made(handles: &[ncclComm_t]) {
    static MADE: AtomicU64 = AtomicU64::new(0);
    if thread::is_inside_nccl() || handles.len() < 2 {
        return;
    }
    unused::communicator_made(handles.len());
    let made = MADE.fetch_add(1, Ordering::Relaxed).to_le_bytes();
    let random = sockets::random().unwrap_or_default();
    let key = key_of(&[b"one process", &std::process::id().to_le_bytes(), &made, &random]);
    let is_disabled = Config::from_env().0.disable;
    let places: Vec<_> = handles.iter().map(|_| if is_disabled { None } else { Reservation::make() }).collect();
    // One conclusion for all of them.
    let outcome = match &places {
        _ if is_disabled => Err(Reason::Disabled),
        places if places.iter().any(Option::is_none) => Err(Reason::TableFull),
        _ => Ok(()),
    };
    with_state(|state| {
        for (number, (handle, place)) in handles.iter().zip(places).enumerate() {
            let known = Known::without_sign(key, number, handles.len(), outcome);
            state.add(Known { place, ..known }, *handle);
        }
    });
}

/// Waits a little for the key of a communicator that has grown, from which another one is made now.
fn await_key(parent: ncclComm_t) {
    let deadline = Instant::now() + GROWN_LIMIT;
    loop {
        let ranks = with_state(|state| {
            let known = state.find(parent)?;
            (known.key.is_none() && known.outcome.is_none()).then_some(known.numbers)
        });
        let Some(ranks) = ranks else { return };
        with_state(|state| state.find(parent).into_iter().for_each(|known| known.look(ranks)));
        if Instant::now() >= deadline {
            return;
        }
        std::thread::sleep(INTERVAL);
    }
}

impl Arrival {
    /// After NCCL was asked for it with this result, and will write the handle there.
    ///
    /// # Safety
    /// `place` is what NCCL was given.
    pub unsafe fn made(self, place: *mut ncclComm_t, result: ncclResult_t) {
        let Some(arrived) = &self.0 else { return };
        if place.is_null() || (result != ncclSuccess && result != ncclInProgress) {
            return;
        }
        if group::is_open() {
            if arrived.parent != 0 {
                let pending = Pending::Part(self, place);
                return group::when_made(move |result| pending.group_ended(result));
            }
            // SAFETY: the caller's contract.
            let handle = unsafe { self.settle(place, ncclInProgress) };
            let pending = Pending::Made(handle);
            return group::when_made(move |result| pending.group_ended(result));
        }
        // SAFETY: the caller's contract.
        unsafe { self.settle(place, result) };
    }

    /// Keeps what NCCL made with this result, and looks who is here if it is ready.
    ///
    /// # Safety
    /// NCCL was given `place`.
    unsafe fn settle(self, place: *const ncclComm_t, result: ncclResult_t) -> ncclComm_t {
        let Some(arrived) = self.0 else { return std::ptr::null_mut() };
        // SAFETY: the caller's contract.
        let handle = unsafe { read(place) };
        with_state(|state| {
            // A place that is given to NCCL again has served.
            state.late.retain(|late| late.place != place);
            if handle.is_null() && result == ncclInProgress && arrived.parent != 0 {
                state.late.push(Late { parent: arrived.parent, place, arrived });
            } else {
                state.add(arrived.known, handle);
            }
        });
        if result == ncclSuccess {
            look_now(&[handle]);
        }
        handle
    }
}

impl Pending {
    /// After the outermost end of the group with this result.
    pub fn group_ended(self, result: ncclResult_t) {
        match self {
            Self::Made(handle) if result == ncclSuccess => look_now(&[handle]),
            Self::Made(_) if result == ncclInProgress => {}
            Self::Made(handle) => forget(handle),
            Self::Part(arrival, place) if result == ncclSuccess || result == ncclInProgress => {
                // SAFETY: the application gave the place to NCCL in this group, until it is ready at least.
                unsafe { arrival.settle(place, result) };
            }
            Self::Part(..) => {}
        }
    }
}

/// NCCL says that a communicator is ready: those made of it are, too. Asked again and again by some programs.
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

/// The reason to forward, as far as this rank has concluded that already.
pub fn forwards(handle: ncclComm_t) -> Option<Reason> {
    let known = with_state(|state| {
        state.adopt_by_handle(handle);
        state.find(handle).map(|known| known.outcome.and_then(Result::err))
    });
    known.unwrap_or_else(|| Some(own_hindrance().unwrap_or(Reason::Untraced)))
}

/// Whether all `ranks` ranks of a communicator will answer in a setup, or why all forward. At its first all-reduce, where a rank that was
/// kept from looking waits for a word until `limit` has passed or the communicator is aborted.
pub fn verdict(
    handle: ncclComm_t,
    ranks: usize,
    limit: impl FnOnce() -> Duration,
    is_aborted: impl Fn() -> bool,
) -> Result<(), Reason> {
    let looked = with_state(|state| {
        let known = state.find(handle).ok_or(Reason::Untraced)?;
        known.look(ranks);
        Ok((known.outcome, known.sign.clone(), known.sign_key))
    });
    let (outcome, sign, key) = looked?;
    if let Some(outcome) = outcome {
        return outcome;
    }
    // No lock is held meanwhile.
    let limit = limit();
    let (heard, word) = sign.await_word(&key, Instant::now() + limit, &is_aborted);
    drop(sign);
    if heard == Heard::Nothing && !is_aborted() && !HEARS_NOBODY.swap(true, Ordering::Relaxed) {
        log::warn!(
            "this process may not connect to the sockets of the other ranks (a sandbox, or no descriptors), and none of them told it within \
             {} s who is here: from now on its communicators forward",
            limit.as_secs()
        );
    }
    with_state(|state| {
        let known = state.find(handle).ok_or(Reason::Untraced)?;
        match word {
            Some(word) => known.follow(word),
            None => known.settle(finding::hear(heard)),
        }
        known.outcome.unwrap_or(Err(Reason::Absent))
    })
}

/// NCCL failed at a communicator: what is made of it will not be written.
#[cold]
pub fn failed(handle: ncclComm_t) {
    if AWAITS_READINESS.load(Ordering::Relaxed) && !thread::is_inside_nccl() {
        with_state(|state| state.late.retain(|late| late.parent != handle as usize));
    }
}

/// Every rank has looked: the setup of the communicator is over.
pub fn put_out(handle: ncclComm_t) {
    with_state(|state| state.find(handle).into_iter().for_each(Known::put_out));
}

/// The place in the table that a communicator has, if it has not got it yet.
pub fn take_reservation(handle: usize) -> Option<Reservation> {
    with_state(|state| state.find(handle as ncclComm_t).and_then(|known| known.place.take()))
}

/// The communicator ends, or failed.
pub fn forget(handle: ncclComm_t) {
    with_state(|state| {
        state.known.retain(|known| known.handle != handle as usize);
        state.late.retain(|late| late.parent != handle as usize);
    });
}

/// Whether anything is known of a communicator beside this one.
pub fn knows_others(than: usize) -> bool {
    with_state(|state| !state.late.is_empty() || state.known.iter().any(|known| known.handle != than))
}

#[cfg(test)]
mod tests {
    use super::finding::Finding;
    use super::sign::{Sight, Who};
    use super::*;

    /// A communicator that NCCL makes: when the last rank has come it has made it, and all look.
    fn arrived(ids: &[u8], ranks: i32, rank: i32) -> Known {
        let (number, numbers) = (rank as usize, ranks as usize);
        let key = key_of(&[ids, &ranks.to_le_bytes()]);
        let mut known = Known::without_sign(key, number, numbers, Ok(()));
        known.view = View::Signs(vec![Members { key, from: 0, to: numbers }]);
        known.sign = Sign::give(&key, Who::Member(number));
        known.outcome = None;
        known
    }

    fn add(known: Known, handle: usize) {
        with_state(|state| state.add(known, handle as ncclComm_t));
    }

    fn of(handle: usize, ranks: usize) -> Result<(), Reason> {
        verdict(handle as ncclComm_t, ranks, || Duration::ZERO, || false)
    }

    /// Ids that no other run has.
    fn ids(test: &str) -> Vec<u8> {
        format!("{test} {} {:?}", std::process::id(), Instant::now()).into_bytes()
    }

    #[test]
    fn what_was_concluded_stays_when_a_sign_goes() {
        let ids = ids("come and go");
        (0..3).for_each(|rank| add(arrived(&ids, 3, rank), 0x100 + rank as usize));
        assert_eq!(of(0x100, 3), Ok(()));
        forget(0x101 as ncclComm_t);
        assert_eq!((of(0x100, 3), of(0x101, 3)), (Ok(()), Err(Reason::Untraced)));
        // Who looks only now sees that one has gone.
        assert_eq!(of(0x102, 3), Err(Reason::Absent));
        [0x100, 0x102].iter().for_each(|handle| forget(*handle as ncclComm_t));
    }

    #[test]
    fn a_rank_without_a_sign_forwards_without_looking_and_so_do_the_others() {
        let ids = ids("one without");
        let without = Known { sign: Sign::None, ..arrived(&ids, 2, 1) };
        add(arrived(&ids, 2, 0), 0x110);
        add(without, 0x111);
        assert_eq!([0x110, 0x111].map(|handle| of(handle, 2)), [Err(Reason::Absent); 2]);
        [0x110, 0x111].iter().for_each(|handle| forget(*handle as ncclComm_t));
    }

    #[test]
    fn a_rank_that_waited_in_vain_and_one_that_looks_afterwards_both_forward() {
        let ids = ids("too late");
        let waiting = arrived(&ids, 2, 1);
        let heard = waiting.sign.await_word(&waiting.sign_key, Instant::now(), || false).0;
        assert_eq!(finding::hear(heard), Finding::NotAll);
        // Its sign is still there for a moment, but takes no word.
        add(arrived(&ids, 2, 0), 0x120);
        assert_eq!(of(0x120, 2), Err(Reason::Absent));
        forget(0x120 as ncclComm_t);
    }

    #[test]
    fn communicators_with_one_id_share_a_sign() {
        // As NCCL_COMM_ID makes them.
        let key = key_of(&[&ids("again")]);
        let view = || View::Signs(vec![Members { key, from: 0, to: 2 }]);
        for handle in [0x130, 0x131] {
            let known = with_state(|state| state.arriving(None, key, 0, 2, view()));
            assert!(matches!(known.sign, Sign::Given(_)));
            add(known, handle);
        }
        forget(0x130 as ncclComm_t);
        assert_eq!(sign::look(&key, Who::Member(0)), Sight::Here);
        forget(0x131 as ncclComm_t);
        assert_eq!(sign::look(&key, Who::Member(0)), Sight::Gone);
    }

    #[test]
    fn parts_of_a_communicator_are_told_apart() {
        let key = |round: u64, color: u8| key_of(&[b"parts", &ids("parts")[..5], &round.to_le_bytes(), &[color]]);
        let part = |round: u64, number: usize| {
            let key = key(round, number as u8 % 2);
            let mut known = Known::without_sign(key, number, 4, Ok(()));
            known.view = View::Signs(vec![Members { key, from: 0, to: 4 }]);
            known.sign = Sign::give(&key, Who::Member(number));
            known.outcome = None;
            known
        };
        let random = u64::from_le_bytes(sockets::random().expect("random bytes")[..8].try_into().expect("8 bytes"));
        for round in [random, random.wrapping_add(1)] {
            (0..3).for_each(|number| add(part(round, number), 0x300 + number));
            assert_eq!(of(0x300, 2), Ok(()), "even numbers are 0 and 2");
            assert_eq!(of(0x301, 2), Err(Reason::Absent), "3 has not come");
        }
        (0x300..0x303).for_each(|handle| forget(handle as ncclComm_t));
    }

    #[test]
    fn a_rank_is_told_by_the_coordinator_of_a_communicator_that_grows() {
        let ids = ids("grows");
        let (old, new) = (key_of(&[&ids, b"old"]), key_of(&[&ids, b"new"]));
        let told = |key: Key, number| {
            let mut known = Known::without_sign(key, number, 3, Ok(()));
            (known.view, known.key, known.outcome) = (View::Told(key), None, None);
            known.sign = Sign::give(&key, Who::Member(number));
            known
        };
        for with_new in [false, true] {
            add(told(old, 0), 0x500);
            if with_new {
                add(told(new, 2), 0x502);
            }
            let mut known = told(old, 1);
            let parts = [(old, 0, 2), (new, 2, 3)].map(|(key, from, to)| Members { key, from, to });
            (known.view, known.key) = (View::Signs(parts.into()), Some([9; 32]));
            known.coordinate([&old, &new]);
            add(known, 0x501);
            assert_eq!(with_state(|state| state.find(0x500 as ncclComm_t).map(|known| known.outcome)), Some(None));
            let expected = if with_new { Ok(()) } else { Err(Reason::Absent) };
            assert_eq!([0x501, 0x500].map(|handle| of(handle, 3)), [expected; 2]);
            assert_eq!(with_state(|state| state.find(0x500 as ncclComm_t).and_then(|known| known.key)), Some([9; 32]));
            if with_new {
                assert_eq!(of(0x502, 3), Ok(()));
            }
            (0x500..0x503).for_each(|handle| forget(handle as ncclComm_t));
        }
        // Without a coordinator that has this library nobody waits.
        add(told(old, 0), 0x500);
        assert_eq!(verdict(0x500 as ncclComm_t, 3, || Duration::from_secs(60), || false), Err(Reason::Absent));
        forget(0x500 as ncclComm_t);
    }

    #[test]
    fn what_cannot_be_is_not_known() {
        for (ranks, rank) in [(1, 0), (2, 2), (2, -1), (-3, 0)] {
            let mut handle = 0x400 as ncclComm_t;
            // SAFETY: the place is ours.
            unsafe { arrive(&ids("impossible"), ranks, rank).made(&mut handle, ncclSuccess) };
            assert_eq!(of(0x400, 2), Err(Reason::Untraced), "{rank} of {ranks}");
        }
        assert!(arrive_from(0x400 as ncclComm_t, Some(b"of nobody")).0.is_none());
    }
}
