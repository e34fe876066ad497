//! One rank's membership in a communicator: its beacon, which beacons it looks up, and what it concluded.

use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use crate::comm::setup::beacon::conclusion;
use crate::comm::setup::beacon::conclusion::{Conclusion, Seen};
use crate::comm::setup::beacon::socket;
use crate::comm::setup::beacon::socket::{Beacon, OriginKey, Sight, VerdictMessage, Whose, beacon_key};
use crate::comm::table::Reservation;
use crate::route;
use crate::route::Reason;

/// Members `from..to` of the communicators with this origin key.
#[derive(Clone, Debug)]
pub(super) struct MemberRange {
    pub(super) key: OriginKey,
    pub(super) from: usize,
    pub(super) to: usize,
}

/// How a rank finds out whether all beacons are lit.
#[derive(Clone, Debug)]
pub(super) enum View {
    /// It looks up the beacons of these members. A coordinator has two ranges: the parent's ranks and the new ones.
    Beacons(Vec<MemberRange>),
    /// It waits for the verdict message of a grown communicator's coordinator, whose beacon has this key.
    Coordinator(OriginKey),
    /// Not at all: its conclusion was known from the start.
    Decided,
}

/// A rank of this process in one communicator.
pub(super) struct Membership {
    pub(super) handle: usize,
    /// The keys of communicators made of this one are derived from it. None: the coordinator has not sent it yet.
    pub(super) origin_key: Option<OriginKey>,
    /// This rank's number among the members.
    pub(super) member: usize,
    /// How many members there may be.
    pub(super) members: usize,
    /// The number of communicators made of it so far.
    pub(super) children: u64,
    /// The unique id with which it grows next, if this rank made that id.
    pub(super) growth_id: Option<Vec<u8>>,
    pub(super) view: View,
    /// This rank's beacon and the key in its name, while another rank may look for it.
    pub(super) beacon: Beacon,
    pub(super) beacon_key: OriginKey,
    /// This rank has DIME_BATCH_INVARIANT=1. So have all others, if all beacons are lit.
    pub(super) batch_invariant: bool,
    /// A coordinator has two more beacons: one for the parent's ranks, one for the new ones.
    pub(super) coordinator_beacons: Vec<Beacon>,
    /// The reserved entry in the communicator table, until the communicator takes it.
    pub(super) reservation: Option<Reservation>,
    /// What this rank concluded: the ranks set the communicator up, or forward. None: nothing yet.
    pub(super) outcome: Option<Result<(), Reason>>,
}

impl Membership {
    /// A member that lights no beacon and has concluded `outcome`.
    pub(super) fn without_beacon(key: OriginKey, member: usize, members: usize, outcome: Result<(), Reason>) -> Self {
        Self {
            handle: 0,
            origin_key: Some(key),
            member,
            members,
            children: 0,
            growth_id: None,
            view: View::Decided,
            beacon: Beacon::Unlit,
            beacon_key: key,
            batch_invariant: false,
            coordinator_beacons: Vec::new(),
            reservation: None,
            outcome: Some(outcome),
        }
    }

    /// A member that lights its beacon unless there is an obstacle. `shared`: the same beacon, if this process has
    /// lit it before under this key.
    pub(super) fn arriving(
        shared: impl FnOnce(&OriginKey) -> Option<Arc<UnixDatagram>>,
        obstacle: Option<Reason>,
        key: OriginKey,
        member: usize,
        members: usize,
        view: View,
        batch_invariant: bool,
    ) -> Self {
        let beacon_key = beacon_key(&key, batch_invariant);
        let membership = Self::without_beacon(key, member, members, Ok(()));
        let mut membership = Self { view, outcome: None, beacon_key, batch_invariant, ..membership };
        if let Some(reason) = obstacle {
            membership.outcome = Some(Err(reason));
            return membership;
        }
        membership.reservation = Reservation::make();
        if membership.reservation.is_none() {
            membership.outcome = Some(Err(Reason::TableFull));
            return membership;
        }
        membership.beacon = match Beacon::light(&beacon_key, Whose::Member(member)) {
            // NCCL_COMM_ID gives the same unique id again and again. The beacon of an earlier communicator says the
            // same of this one.
            Beacon::Taken => shared(&beacon_key).map_or(Beacon::Taken, Beacon::Lit),
            beacon => beacon,
        };
        if !membership.beacon.is_visible() {
            membership.outcome = Some(Err(Reason::NoBeacon));
        }
        membership
    }

    /// Also lights a coordinator's beacons. Without them no rank waits for its verdict message.
    pub(super) fn coordinate(&mut self, keys: [&OriginKey; 2]) {
        if self.outcome.is_some() {
            return;
        }
        let light = |key| Beacon::light(&beacon_key(key, self.batch_invariant), Whose::Coordinator);
        self.coordinator_beacons = keys.map(light).into();
        if !self.coordinator_beacons.iter().all(|beacon| matches!(beacon, Beacon::Lit(_))) {
            self.set_outcome(Err(Reason::NoBeacon));
        }
    }

    /// Keeps the outcome. A rank that forwards puts its beacon out.
    pub(super) fn set_outcome(&mut self, outcome: Result<(), Reason>) {
        self.outcome = Some(outcome);
        if outcome.is_err() {
            self.put_out();
        }
    }

    pub(super) fn put_out(&mut self) {
        self.beacon = Beacon::Unlit;
        self.coordinator_beacons.clear();
    }

    /// Looks up the beacons of `ranks` ranks, if that was not done yet. Call only after NCCL has made the
    /// communicator.
    pub(super) fn look(&mut self, ranks: usize) {
        if self.outcome.is_some() {
            return;
        }
        if let Some(reason) = route::never_fast(ranks) {
            return self.set_outcome(Err(reason));
        }
        match self.view.clone() {
            View::Beacons(parts) => self.look_at(&parts, ranks),
            View::Coordinator(key) => {
                // The lookup comes before the receive: a coordinator that finds a beacon missing sends its verdict
                // message first, then puts its beacon out.
                let sight = |invariant| socket::look(&beacon_key(&key, invariant), Whose::Coordinator);
                let is_gone = sight(self.batch_invariant) == Sight::Missing;
                let differs = is_gone && sight(!self.batch_invariant) == Sight::Lit;
                if let Some(message) = self.beacon.receive(&self.beacon_key) {
                    self.conclude_from_message(message);
                } else if is_gone {
                    self.conclude(if differs { Conclusion::SettingsDiffer } else { Conclusion::SomeMissing });
                }
            }
            View::Decided => {}
        }
    }

    fn look_at(&mut self, parts: &[MemberRange], ranks: usize) {
        let mut seen = Seen::default();
        let mut lit = Vec::new();
        let members_with = |invariant| {
            let keys = parts.iter().map(move |part| (beacon_key(&part.key, invariant), part.from..part.to));
            keys.flat_map(|(key, members)| members.map(move |member| (key, member)))
        };
        for (key, member) in members_with(self.batch_invariant) {
            match socket::look(&key, Whose::Member(member)) {
                Sight::Lit => {
                    seen.lit += 1;
                    lit.push((key, member));
                }
                Sight::Unknown => seen.unknown += 1,
                Sight::Missing => {}
            }
            if seen.lit == ranks {
                break;
            }
        }
        if seen.lit + seen.unknown < ranks {
            let differing = members_with(!self.batch_invariant);
            lit.extend(differing.filter(|(key, member)| socket::look(key, Whose::Member(*member)) == Sight::Lit));
            seen.differing = lit.len() - seen.lit;
        }
        let is_coordinator = parts.len() > 1;
        let origin_key = self.origin_key.filter(|_| is_coordinator).unwrap_or_default();
        lit.retain(|(key, member)| (*key, *member) != (self.beacon_key, self.member));
        // False: some rank has put its beacon out meanwhile.
        let send_to_all = |conclusion: Conclusion| {
            let verdict = VerdictMessage { conclusion, origin_key };
            lit.iter()
                .fold(true, |told, (key, member)| socket::send_verdict(key, Whose::Member(*member), &verdict) && told)
        };
        let conclusion = match conclusion::after_looking(self.beacon.is_visible(), seen, ranks) {
            Conclusion::AllLit if send_to_all(Conclusion::AllLit) => Conclusion::AllLit,
            Conclusion::Unknown => Conclusion::Unknown,
            Conclusion::SettingsDiffer => Conclusion::SettingsDiffer,
            // A rank with another setting may have put its beacon out, after it sent its verdict message.
            Conclusion::AllLit | Conclusion::SomeMissing => match self.beacon.receive(&self.beacon_key) {
                Some(VerdictMessage { conclusion: Conclusion::SettingsDiffer, .. }) => Conclusion::SettingsDiffer,
                _ => Conclusion::SomeMissing,
            },
        };
        if matches!(conclusion, Conclusion::SomeMissing | Conclusion::SettingsDiffer) {
            send_to_all(conclusion);
        }
        self.conclude(conclusion);
    }

    /// Turns a conclusion into the outcome. Unknown leaves the outcome open.
    pub(super) fn conclude(&mut self, conclusion: Conclusion) {
        match conclusion {
            Conclusion::AllLit => self.set_outcome(Ok(())),
            Conclusion::SomeMissing => self.set_outcome(Err(Reason::Absent)),
            Conclusion::SettingsDiffer => self.set_outcome(Err(Reason::Settings)),
            Conclusion::Unknown => {}
        }
    }

    /// Concludes what a verdict message says.
    pub(super) fn conclude_from_message(&mut self, message: VerdictMessage) {
        if matches!(self.view, View::Coordinator(_)) {
            self.origin_key = Some(message.origin_key);
        }
        self.conclude(message.conclusion);
    }
}
