//! Who is here: whether every rank of a communicator is on this host with this library in front of NCCL.
//!
//! A setup asks the other ranks over the communicator, so it must not begin when one of them would not answer: a rank without this
//! library would take the question for a part of its own all-reduce. So each rank gives a sign before it has NCCL make a communicator:
//! a socket with an abstract name, which all in this network namespace can see. NCCL makes it when every rank has come, so whoever
//! has the communicator sees the signs of all, or knows that one will never give any, and forwards. All ranks see the same.
//!
//! The name is a hash of what brings the ranks together, so nobody else can tell it or learn from it: NCCL's unique id; for a
//! communicator made of another one, that one's name and what was called on it. Members are numbered as the ranks of the first
//! communicator of the line. Of a communicator that was made in some other way nothing is known, and its setup begins without this:
//! ncclCommInitAll has all ranks in this process; NCCL writes the handle of a non-blocking split or shrink later, from a thread of its
//! own; ncclCommGrow brings in ranks that do not know the line.
//!
//! A sign is taken away when the setup is over or the communicator ends. No other rank looks for it then.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use once_cell::race::OnceBox;
use sha2::{Digest, Sha256};

use super::group;
use crate::api::abi::{ncclComm_t, ncclInProgress, ncclResult_t, ncclSuccess};
use crate::layout::MAX_RANKS;
use crate::lock::Lock;
use crate::real::thread;

/// What brings the ranks of a communicator together, the same on all of them.
type Line = [u8; 32];

/// A communicator of this process.
struct Known {
    handle: usize,
    line: Line,
    /// Our number among the members that there may be.
    number: usize,
    /// How many there may be.
    numbers: usize,
    /// Communicators made of it so far.
    children: u64,
    /// Its calls return when they are done.
    is_blocking: bool,
    /// Our sign, while another rank may look for it.
    sign: Option<UnixDatagram>,
}

static KNOWN: Lock<Vec<Known>> = Lock::new(Vec::new());

/// A rank that is about to have NCCL make a communicator.
#[must_use]
pub struct Arrival(Option<Arrived>);

/// What is made in a group that is still open.
pub enum Pending {
    /// NCCL has written its handle, and takes it back if the group fails.
    Made(ncclComm_t),
    /// NCCL writes its handle there at the end.
    Part(Arrival, *mut ncclComm_t),
}

struct Arrived {
    known: Known,
    is_part: bool,
}

/// Before NCCL makes a communicator of so many ranks that know these ids.
pub fn arrive(ids: &[u8], ranks: i32, rank: i32, is_blocking: bool) -> Arrival {
    let (Ok(numbers), Ok(number)) = (usize::try_from(ranks), usize::try_from(rank)) else { return Arrival(None) };
    if thread::is_inside_nccl() || ids.is_empty() || numbers < 2 || number >= numbers {
        return Arrival(None);
    }
    let line = Sha256::new().chain_update(ids).chain_update(ranks.to_le_bytes()).finalize().into();
    // Larger ones are never fast; what is made of them may be.
    let sign = if numbers <= MAX_RANKS { sign(&line, number) } else { None };
    let known = Known { handle: 0, line, number, numbers, children: 0, is_blocking, sign };
    Arrival(Some(Arrived { known, is_part: false }))
}

/// Before NCCL makes a communicator of some ranks of another one. All who will be in it pass the same `what`; None: this rank will be
/// in none. `is_blocking`: if its configuration says so or not.
pub fn arrive_from(parent: ncclComm_t, what: Option<&[u8]>, is_blocking: Option<bool>) -> Arrival {
    if thread::is_inside_nccl() {
        return Arrival(None);
    }
    let mut known = KNOWN.hold();
    let Some(parent) = known.iter_mut().find(|known| known.handle == parent as usize) else { return Arrival(None) };
    parent.children += 1;
    let is_blocking = is_blocking.unwrap_or(parent.is_blocking);
    let Some(what) = what.filter(|_| is_blocking && parent.is_blocking) else { return Arrival(None) };
    let hash = Sha256::new().chain_update(parent.line).chain_update(parent.children.to_le_bytes()).chain_update(what);
    let line = hash.finalize().into();
    let (number, numbers) = (parent.number, parent.numbers);
    let known = Known { handle: 0, line, number, numbers, children: 0, is_blocking, sign: sign(&line, number) };
    Arrival(Some(Arrived { known, is_part: true }))
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
        if group::is_open() && arrived.is_part {
            group::keep_pending(Pending::Part(self, place));
            return;
        }
        // SAFETY: the caller's contract.
        let handle = unsafe { self.settle(place) };
        if group::is_open() {
            group::keep_pending(Pending::Made(handle));
        }
    }

    /// # Safety
    /// NCCL was given `place`, and has written it.
    unsafe fn settle(self, place: *const ncclComm_t) -> ncclComm_t {
        // SAFETY: the caller's contract.
        let handle = unsafe { *place };
        if let Some(Arrived { mut known, .. }) = self.0 {
            known.handle = handle as usize;
            let mut all = KNOWN.hold();
            all.retain(|other| other.handle != known.handle);
            if known.handle != 0 {
                all.push(known);
            }
        }
        handle
    }
}

impl Pending {
    /// After the outermost end of the group with this result.
    pub fn group_ended(self, result: ncclResult_t) {
        let went_well = result == ncclSuccess || result == ncclInProgress;
        match self {
            Self::Made(handle) if !went_well => forget(handle),
            Self::Made(_) => {}
            Self::Part(arrival, place) if result == ncclSuccess => {
                // SAFETY: the application gave the place to NCCL in this group, until its end at least.
                unsafe { arrival.settle(place) };
            }
            Self::Part(..) => {}
        }
    }
}

/// Whether all `ranks` ranks of a communicator have given their signs. None: nothing is known of it.
pub fn are_all_here(handle: ncclComm_t, ranks: usize) -> Option<bool> {
    let known = KNOWN.hold();
    let known = known.iter().find(|known| known.handle == handle as usize)?;
    let looking = looking().ok();
    let is_here = |number: &usize| {
        let name = name(&known.line, *number);
        name.is_some_and(|name| looking.is_some_and(|socket| socket.connect_addr(&name).is_ok()))
    };
    let here = (0..known.numbers).filter(is_here).take(ranks).count();
    Some(here == ranks)
}

/// Every rank has looked: the setup of the communicator is over.
pub fn take_sign_away(handle: ncclComm_t) {
    let mut known = KNOWN.hold();
    let sign = known.iter_mut().find(|known| known.handle == handle as usize).map(|known| known.sign.take());
    drop(known);
    drop(sign);
}

/// The communicator ends.
pub fn forget(handle: ncclComm_t) {
    KNOWN.hold().retain(|known| known.handle != handle as usize);
}

/// Whether anything is known of a communicator beside this one.
pub fn knows_others(than: usize) -> bool {
    KNOWN.hold().iter().any(|known| known.handle != than)
}

/// Gives a sign. None: it cannot be given, and all ranks will see that it is not there.
fn sign(line: &Line, number: usize) -> Option<UnixDatagram> {
    let can_look = looking().is_ok();
    let name = name(line, number).filter(|_| can_look);
    name.and_then(|name| UnixDatagram::bind_addr(&name).ok())
}

/// The socket that looks for signs. Made before the first sign is given: who gave one and then could not look, for want of a
/// descriptor, would forward alone.
fn looking() -> io::Result<&'static UnixDatagram> {
    static LOOKING: OnceBox<UnixDatagram> = OnceBox::new();
    LOOKING.get_or_try_init(|| UnixDatagram::unbound().map(Box::new))
}

fn name(line: &Line, number: usize) -> Option<SocketAddr> {
    let half: String = line[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    SocketAddr::from_abstract_name(format!("dime-here-{half}-{number}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(ids: &[u8], ranks: i32, rank: i32, handle: usize) {
        let mut handle = handle as ncclComm_t;
        // SAFETY: the place is ours.
        unsafe { arrive(ids, ranks, rank, true).made(&mut handle, ncclSuccess) };
    }

    fn split(parent: usize, color: Option<&[u8]>, handle: usize) {
        let mut handle = handle as ncclComm_t;
        // SAFETY: the place is ours.
        unsafe { arrive_from(parent as ncclComm_t, color, None).made(&mut handle, ncclSuccess) };
    }

    fn all_here(handle: usize, ranks: usize) -> Option<bool> {
        are_all_here(handle as ncclComm_t, ranks)
    }

    /// Ids that no other run has.
    fn ids(test: &str) -> Vec<u8> {
        format!("{test} {} {:?}", std::process::id(), std::time::Instant::now()).into_bytes()
    }

    #[test]
    fn all_are_here_when_the_last_has_come_and_until_one_goes() {
        let ids = ids("come and go");
        arrived(&ids, 3, 0, 0x100);
        arrived(&ids, 3, 2, 0x102);
        assert_eq!(all_here(0x100, 3), Some(false));
        arrived(&ids, 3, 1, 0x101);
        assert_eq!([0x100, 0x101, 0x102].map(|handle| all_here(handle, 3)), [Some(true); 3]);
        forget(0x101 as ncclComm_t);
        assert_eq!((all_here(0x100, 3), all_here(0x101, 3)), (Some(false), None));
        take_sign_away(0x102 as ncclComm_t);
        forget(0x100 as ncclComm_t);
        forget(0x102 as ncclComm_t);
    }

    #[test]
    fn parts_of_a_communicator_are_told_apart() {
        let ids = ids("parts");
        for rank in 0..4 {
            arrived(&ids, 4, rank, 0x200 + rank as usize);
        }
        // Twice in the same way: the second has signs of its own.
        for round in 0..2 {
            for rank in 0..3 {
                split(0x200 + rank, Some(&[rank as u8 % 2]), 0x300 + round * 16 + rank);
            }
            assert_eq!(all_here(0x300 + round * 16, 2), Some(true), "even numbers are 0 and 2");
            assert_eq!(all_here(0x301 + round * 16, 2), Some(false), "3 has not come");
            split(0x203, if round == 0 { Some(&[1]) } else { None }, 0x303 + round * 16);
            assert_eq!(all_here(0x301 + round * 16, 2), Some(round == 0));
        }
        for handle in (0x200..0x204).chain(0x300..0x320) {
            forget(handle as ncclComm_t);
        }
    }

    #[test]
    fn what_cannot_be_is_not_known() {
        for (ranks, rank) in [(1, 0), (2, 2), (2, -1), (-3, 0)] {
            arrived(&ids("impossible"), ranks, rank, 0x400);
            assert_eq!(all_here(0x400, 2), None, "{rank} of {ranks}");
        }
        split(0x400, Some(b"of nobody"), 0x401);
        assert_eq!(all_here(0x401, 2), None);
    }
}
