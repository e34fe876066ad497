//! A search over everything that can fail on some ranks and not on others. It checks that all ranks with Dime
//! conclude the same, and set a communicator up only if every rank takes part.

use std::collections::BTreeMap;

use crate::comm::setup::beacon::conclusion;
use crate::comm::setup::beacon::conclusion::{Conclusion, Heard, Seen};

/// What a rank is, or what fails on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It has no Dime. It sends no message and answers none.
    NoDime,
    /// DIME_DISABLE is set.
    Disabled,
    /// It could not light its beacon: it may not make, bind or look up a socket, has no driver, or its table is full.
    NoBeacon,
    /// It lit its beacon. Then, during NCCL's call or after it, it lost the ability to look up some or all names. It
    /// can still read from open sockets.
    CannotLook,
    /// As above, and it cannot read from open sockets either.
    CannotReceive,
    /// Nothing fails.
    Fine,
    /// As `Fine`, with another DIME_BATCH_INVARIANT.
    FineDiffering,
    /// As `CannotLook`, with another DIME_BATCH_INVARIANT.
    CannotLookDiffering,
}

const KINDS: [Kind; 8] = [
    Kind::NoDime,
    Kind::Disabled,
    Kind::NoBeacon,
    Kind::CannotLook,
    Kind::CannotReceive,
    Kind::Fine,
    Kind::FineDiffering,
    Kind::CannotLookDiffering,
];

impl Kind {
    fn lights(self) -> bool {
        !matches!(self, Kind::NoDime | Kind::Disabled | Kind::NoBeacon)
    }

    /// DIME_BATCH_INVARIANT.
    fn setting(self) -> bool {
        matches!(self, Kind::FineDiffering | Kind::CannotLookDiffering)
    }

    fn cannot_look(self) -> bool {
        matches!(self, Kind::CannotLook | Kind::CannotReceive | Kind::CannotLookDiffering)
    }

    /// Its conclusion has to be that of the others.
    fn counts(self) -> bool {
        self != Kind::NoDime
    }
}

/// The protocol, and broken ones that the search must detect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Ours,
    /// A beacon that a rank cannot look up counts as missing.
    UnknownIsMissing,
    /// A beacon that a rank cannot look up counts as lit.
    UnknownIsLit,
    /// A rank considers the others' beacons and not its own.
    IgnoresItsOwn,
    /// A rank that is disabled lights its beacon.
    DisabledLights,
    /// Beacons of ranks with another DIME_BATCH_INVARIANT have the same names.
    SameNames,
}

/// What each rank with Dime concludes, in a world of these kinds. Bit `o` of `unknown[r]`: rank `r` cannot look up
/// the name of rank `o`.
fn conclusions(kinds: &[Kind], unknown: &[usize], protocol: Protocol) -> Vec<Conclusion> {
    let ranks = kinds.len();
    let lights =
        |rank: usize| kinds[rank].lights() || protocol == Protocol::DisabledLights && kinds[rank] == Kind::Disabled;
    let look = |rank: usize| {
        let is_hidden = |other: usize| unknown[rank] >> other & 1 == 1;
        let open = || (0..ranks).filter(|other| !is_hidden(*other));
        let is_alike =
            |other: usize| protocol == Protocol::SameNames || kinds[rank].setting() == kinds[other].setting();
        let is_own = |other: usize| protocol == Protocol::IgnoresItsOwn && other == rank;
        let mut seen = Seen {
            lit: open().filter(|other| is_alike(*other) && lights(*other) || is_own(*other)).count(),
            unknown: (0..ranks).filter(|other| is_hidden(*other)).count(),
            differing: open().filter(|other| !is_alike(*other) && lights(*other)).count(),
        };
        match protocol {
            Protocol::UnknownIsMissing => seen.unknown = 0,
            Protocol::UnknownIsLit => seen = Seen { lit: seen.lit + seen.unknown, unknown: 0, ..seen },
            _ => {}
        }
        // A disabled rank forwards without looking.
        let is_visible = kinds[rank] != Kind::Disabled && (lights(rank) || protocol == Protocol::IgnoresItsOwn);
        conclusion::after_looking(is_visible, seen, ranks)
    };
    let looked: Vec<Conclusion> = (0..ranks).map(look).collect();
    // A rank that could look tells all ranks whose beacons it saw.
    let verdicts = |to: usize| {
        let tells = |from: &usize| lights(*from) && *from != to && unknown[*from] >> to & 1 == 0;
        (0..ranks).filter(tells).find_map(|from| match looked[from] {
            Conclusion::AllLit => Some(Heard::AllLit),
            Conclusion::SomeMissing => Some(Heard::SomeMissing),
            Conclusion::SettingsDiffer => Some(Heard::SettingsDiffer),
            Conclusion::Unknown => None,
        })
    };
    let conclude = |rank: usize| match looked[rank] {
        Conclusion::Unknown if kinds[rank] == Kind::CannotReceive => conclusion::after_waiting(Heard::CannotReceive),
        Conclusion::Unknown => conclusion::after_waiting(verdicts(rank).unwrap_or(Heard::Nothing)),
        outcome => outcome,
    };
    (0..ranks).filter(|rank| kinds[*rank].counts()).map(conclude).collect()
}

/// What is wrong with these conclusions, if anything.
fn fault(kinds: &[Kind], found: &[Conclusion]) -> Option<&'static str> {
    let would_all_answer = kinds.iter().all(|kind| kind.lights());
    // Ranks that forward may say so for different reasons.
    let is_set_up = |conclusion: &Conclusion| *conclusion == Conclusion::AllLit;
    if found.windows(2).any(|two| is_set_up(&two[0]) != is_set_up(&two[1])) {
        return Some("ranks conclude differently");
    }
    if found.contains(&Conclusion::Unknown) {
        return Some("a rank does not come to a conclusion");
    }
    if !would_all_answer && found.contains(&Conclusion::AllLit) {
        return Some("ranks come to a setup that one does not answer in");
    }
    if found.contains(&Conclusion::AllLit) && kinds.iter().any(|kind| kind.setting() != kinds[0].setting()) {
        return Some("ranks with different settings come to a setup");
    }
    let all_look = kinds.iter().all(|kind| matches!(kind, Kind::Fine | Kind::FineDiffering));
    let are_alike = kinds.iter().all(|kind| kind == &kinds[0]);
    let expected = if are_alike { Conclusion::AllLit } else { Conclusion::SettingsDiffer };
    if all_look && found.iter().any(|conclusion| *conclusion != expected) {
        return Some("all forward for no reason, or for a wrong one");
    }
    None
}

/// Calls `visit` with every sequence of `count` of these.
fn for_all<T: Copy>(of: &dyn Fn(usize) -> Vec<T>, count: usize, chosen: &mut Vec<T>, visit: &mut dyn FnMut(&[T])) {
    if chosen.len() == count {
        return visit(chosen);
    }
    for choice in of(chosen.len()) {
        chosen.push(choice);
        for_all(of, count, chosen, visit);
        chosen.pop();
    }
}

/// Goes through every world of `ranks` ranks. Returns how many there are, and each fault with its first example.
/// Worlds that `leave_out` names do not count.
fn search(ranks: usize, protocol: Protocol, leave_out: fn(&[Kind]) -> bool) -> (usize, BTreeMap<&'static str, String>) {
    let (mut worlds, mut faults) = (0, BTreeMap::new());
    for_all(&|_| KINDS.to_vec(), ranks, &mut Vec::new(), &mut |kinds: &[Kind]| {
        if leave_out(kinds) {
            return;
        }
        // The names that a rank cannot look up: any subset, if it lost that ability. Its own name may be among them.
        let unknown = |rank: usize| match kinds[rank] {
            kind if kind.cannot_look() => (0..1 << ranks).collect(),
            _ => vec![0],
        };
        for_all(&unknown, ranks, &mut Vec::new(), &mut |unknown: &[usize]| {
            worlds += 1;
            if let Some(fault) = fault(kinds, &conclusions(kinds, unknown, protocol)) {
                faults.entry(fault).or_insert_with(|| format!("{kinds:?}, unknown {unknown:?}"));
            }
        });
    });
    (worlds, faults)
}

#[test]
fn all_ranks_conclude_the_same_in_every_world_in_which_each_can_look_or_receive() {
    for ranks in 2..=4 {
        // With four ranks, those that differ in DIME_BATCH_INVARIANT can all look, to keep the search short.
        let is_left_out = |kinds: &[Kind]| {
            let is_long = kinds.len() == 4 && kinds.contains(&Kind::CannotLookDiffering);
            is_long || kinds.contains(&Kind::CannotReceive)
        };
        let (worlds, faults) = search(ranks, Protocol::Ours, is_left_out);
        println!("{ranks} ranks: {worlds} worlds");
        assert_eq!(faults, BTreeMap::new());
    }
}

#[test]
fn a_rank_that_can_neither_look_nor_receive_goes_wrong_only_beside_one_without_a_beacon() {
    // Left out, beside a rank that can neither look nor receive: a rank without a beacon or with another setting, and a
    // rank that can receive but not look. The wait of the latter may time out if no rank with a beacon can look.
    let is_left_out = |kinds: &[Kind]| {
        let is_wrong = |kind: &Kind| *kind == Kind::CannotLook || !kind.lights() || kind.setting();
        !kinds.contains(&Kind::CannotReceive) || kinds.iter().any(is_wrong)
    };
    for ranks in 2..=4 {
        let (_, faults) = search(ranks, Protocol::Ours, is_left_out);
        assert_eq!(faults, BTreeMap::new());
    }
}

#[test]
fn the_search_detects_broken_protocols() {
    let expected = [
        (Protocol::UnknownIsMissing, "ranks conclude differently"),
        (Protocol::UnknownIsLit, "ranks come to a setup that one does not answer in"),
        (Protocol::IgnoresItsOwn, "ranks conclude differently"),
        (Protocol::DisabledLights, "ranks conclude differently"),
        (Protocol::SameNames, "ranks with different settings come to a setup"),
    ];
    for (protocol, fault) in expected {
        let (_, faults) = search(3, protocol, |kinds| kinds.contains(&Kind::CannotReceive));
        assert!(faults.contains_key(fault), "{protocol:?}: {fault}: {faults:?}");
    }
}
