//! One communicator of this process: its rank's sign, where it looks for the others', and what it concluded.

use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use crate::comm::setup::beacon::finding;
use crate::comm::setup::beacon::finding::{Finding, Seen};
use crate::comm::setup::beacon::sign;
use crate::comm::setup::beacon::sign::{Key, Sight, Sign, Who, Word};
use crate::comm::table::Reservation;
use crate::route;
use crate::route::Reason;

/// Members of a line, by their numbers.
#[derive(Clone, Debug)]
pub(super) struct Members {
    pub(super) key: Key,
    pub(super) from: usize,
    pub(super) to: usize,
}

/// Where a rank can see whether all are here.
#[derive(Clone, Debug)]
pub(super) enum View {
    /// At the signs of these. A coordinator has two parts.
    Signs(Vec<Members>),
    /// It must be told by the coordinator of a communicator that has grown, whose sign has this key.
    Told(Key),
    /// Nowhere: all is known.
    Known,
}

/// A communicator of this process.
pub(super) struct Known {
    pub(super) handle: usize,
    /// For what is made of it. None: the coordinator has not told it.
    pub(super) key: Option<Key>,
    /// Our number among the members that there may be.
    pub(super) number: usize,
    /// How many there may be.
    pub(super) numbers: usize,
    /// Communicators made of it so far.
    pub(super) children: u64,
    /// The id by which it grows next, where this rank made it.
    pub(super) growing: Option<Vec<u8>>,
    pub(super) view: View,
    /// Our sign and its key, while another rank may look for it.
    pub(super) sign: Sign,
    pub(super) sign_key: Key,
    /// A coordinator's further signs.
    pub(super) more_signs: Vec<Sign>,
    /// A place in the table, until the communicator has it.
    pub(super) place: Option<Reservation>,
    /// What this rank concluded: the ranks come to the setup, or forward.
    pub(super) outcome: Option<Result<(), Reason>>,
}

impl Known {
    /// Of a rank with this number, which gives no sign.
    pub(super) fn without_sign(key: Key, number: usize, numbers: usize, outcome: Result<(), Reason>) -> Self {
        Self {
            handle: 0,
            key: Some(key),
            number,
            numbers,
            children: 0,
            growing: None,
            view: View::Known,
            sign: Sign::None,
            sign_key: key,
            more_signs: Vec::new(),
            place: None,
            outcome: Some(outcome),
        }
    }

    /// Of a rank that gives its sign if nothing hinders it. `shared`: the same sign, where this process has given it before.
    pub(super) fn arriving(
        shared: impl FnOnce() -> Option<Arc<UnixDatagram>>,
        hindrance: Option<Reason>,
        key: Key,
        number: usize,
        numbers: usize,
        view: View,
    ) -> Self {
        let mut known = Self { view, outcome: None, ..Self::without_sign(key, number, numbers, Ok(())) };
        if let Some(reason) = hindrance {
            known.outcome = Some(Err(reason));
            return known;
        }
        known.place = Reservation::make();
        if known.place.is_none() {
            known.outcome = Some(Err(Reason::TableFull));
            return known;
        }
        known.sign = match Sign::give(&key, Who::Member(number)) {
            // NCCL_COMM_ID makes the same id again and again: the sign of an earlier communicator says of this one what there is to say.
            Sign::Taken => shared().map_or(Sign::Taken, Sign::Given),
            sign => sign,
        };
        if !known.sign.is_seen() {
            known.outcome = Some(Err(Reason::NoBeacon));
        }
        known
    }

    /// Also gives the signs of a coordinator, without which nobody is told anything.
    pub(super) fn coordinate(&mut self, keys: [&Key; 2]) {
        if self.outcome.is_some() {
            return;
        }
        self.more_signs = keys.map(|key| Sign::give(key, Who::Coordinator)).into();
        if !self.more_signs.iter().all(|sign| matches!(sign, Sign::Given(_))) {
            self.conclude(Err(Reason::NoBeacon));
        }
    }

    pub(super) fn conclude(&mut self, outcome: Result<(), Reason>) {
        self.outcome = Some(outcome);
        if outcome.is_err() {
            self.put_out();
        }
    }

    pub(super) fn put_out(&mut self) {
        self.sign = Sign::None;
        self.more_signs.clear();
    }

    /// Looks for the signs of `ranks` ranks, if that has not been done. Not before NCCL has made the communicator.
    pub(super) fn look(&mut self, ranks: usize) {
        if self.outcome.is_some() {
            return;
        }
        if let Some(reason) = route::never_fast(ranks) {
            return self.conclude(Err(reason));
        }
        match self.view.clone() {
            View::Signs(parts) => self.look_at(&parts, ranks),
            View::Told(key) => {
                // In this order: who tells that not all are here takes its sign away behind the word.
                let is_gone = sign::look(&key, Who::Coordinator) == Sight::Gone;
                if let Some(word) = self.sign.hear(&self.sign_key) {
                    self.follow(word);
                } else if is_gone {
                    self.conclude(Err(Reason::Absent));
                }
            }
            View::Known => {}
        }
    }

    fn look_at(&mut self, parts: &[Members], ranks: usize) {
        let mut seen = Seen::default();
        let mut here = Vec::new();
        let everyone = parts.iter().flat_map(|part| (part.from..part.to).map(|number| (&part.key, number)));
        for (key, number) in everyone {
            match sign::look(key, Who::Member(number)) {
                Sight::Here => {
                    seen.here += 1;
                    here.push((key, number));
                }
                Sight::Hidden => seen.hidden += 1,
                Sight::Gone => {}
            }
            if seen.here == ranks {
                break;
            }
        }
        let is_coordinator = parts.len() > 1;
        let key_of_grown = self.key.filter(|_| is_coordinator).unwrap_or_default();
        here.retain(|(key, number)| (*key, *number) != (&self.sign_key, self.number));
        // False: a rank has taken its sign away meanwhile.
        let tell = |all_here: bool| {
            let word = Word { all_here, key: key_of_grown };
            here.iter().fold(true, |told, (key, number)| sign::tell(key, Who::Member(*number), &word) && told)
        };
        let finding = match finding::look(self.sign.is_seen(), seen, ranks) {
            Finding::All if tell(true) => Finding::All,
            Finding::Unclear => Finding::Unclear,
            Finding::All | Finding::NotAll => {
                tell(false);
                Finding::NotAll
            }
        };
        self.settle(finding);
    }

    pub(super) fn settle(&mut self, finding: Finding) {
        match finding {
            Finding::All => self.conclude(Ok(())),
            Finding::NotAll => self.conclude(Err(Reason::Absent)),
            Finding::Unclear => {}
        }
    }

    pub(super) fn follow(&mut self, word: Word) {
        if matches!(self.view, View::Told(_)) {
            self.key = Some(word.key);
        }
        self.settle(if word.all_here { Finding::All } else { Finding::NotAll });
    }
}
