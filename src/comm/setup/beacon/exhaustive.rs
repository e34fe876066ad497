//! A search over everything that can be amiss in some ranks and not in others: all ranks with this library conclude the same, and come to a
//! setup only if every rank does.

use std::collections::BTreeMap;

use crate::comm::setup::beacon::finding;
use crate::comm::setup::beacon::finding::{Finding, Heard, Seen};

/// What becomes of a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// This library is not there. It never asks and never answers.
    NoDime,
    /// DIME_DISABLE is set.
    Disabled,
    /// It could not give its sign: it may not make a socket, not bind it, not look, or has no driver, or no room for the communicator.
    NoBeacon,
    /// It gave its sign. Then, in NCCL or behind it, it lost the ability to look at some or all names. It can still read what it has open.
    Blind,
    /// As above, and it cannot read either.
    Deaf,
    /// Nothing is amiss.
    Fine,
}

const KINDS: [Kind; 6] = [Kind::NoDime, Kind::Disabled, Kind::NoBeacon, Kind::Blind, Kind::Deaf, Kind::Fine];

impl Kind {
    fn gives_sign(self) -> bool {
        matches!(self, Kind::Blind | Kind::Deaf | Kind::Fine)
    }

    /// It has to come to the same conclusion as the others.
    fn counts(self) -> bool {
        self != Kind::NoDime
    }
}

/// The protocol, and ways to get it wrong that the search must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Ours,
    /// What a rank cannot look at is not there.
    HiddenIsGone,
    /// What a rank cannot look at is there.
    HiddenIsHere,
    /// A rank goes by the others' signs and not by its own.
    ForgetsItsOwn,
    /// A rank that is disabled gives its sign.
    DisabledGivesSign,
}

/// What each rank with this library concludes, in a world of these kinds, where rank `r` cannot look at the names in `hidden[r]`.
fn conclusions(kinds: &[Kind], hidden: &[usize], protocol: Protocol) -> Vec<Finding> {
    let ranks = kinds.len();
    let gives = |rank: usize| {
        kinds[rank].gives_sign() || protocol == Protocol::DisabledGivesSign && kinds[rank] == Kind::Disabled
    };
    let look = |rank: usize| {
        let is_hidden = |other: usize| hidden[rank] >> other & 1 == 1;
        let open = (0..ranks).filter(|other| !is_hidden(*other));
        let is_own = |other: usize| protocol == Protocol::ForgetsItsOwn && other == rank;
        let mut seen = Seen {
            here: open.filter(|other| gives(*other) || is_own(*other)).count(),
            hidden: (0..ranks).filter(|other| is_hidden(*other)).count(),
        };
        match protocol {
            Protocol::HiddenIsGone => seen.hidden = 0,
            Protocol::HiddenIsHere => seen = Seen { here: seen.here + seen.hidden, hidden: 0 },
            _ => {}
        }
        // One that is disabled asks nobody.
        let is_seen = kinds[rank] != Kind::Disabled && (gives(rank) || protocol == Protocol::ForgetsItsOwn);
        finding::look(is_seen, seen, ranks)
    };
    let looked: Vec<Finding> = (0..ranks).map(look).collect();
    // Who looked tells all whose signs it saw.
    let words = |to: usize| {
        let tells = |from: &usize| gives(*from) && *from != to && hidden[*from] >> to & 1 == 0;
        (0..ranks).filter(tells).find_map(|from| match looked[from] {
            Finding::All => Some(Heard::All),
            Finding::NotAll => Some(Heard::NotAll),
            Finding::Unclear => None,
        })
    };
    let conclude = |rank: usize| match looked[rank] {
        Finding::Unclear if kinds[rank] == Kind::Deaf => finding::hear(Heard::Deaf),
        Finding::Unclear => finding::hear(words(rank).unwrap_or(Heard::Nothing)),
        finding => finding,
    };
    (0..ranks).filter(|rank| kinds[*rank].counts()).map(conclude).collect()
}

/// What is wrong with how a world ended, if anything.
fn fault(kinds: &[Kind], found: &[Finding]) -> Option<&'static str> {
    let would_all_answer = kinds.iter().all(|kind| kind.gives_sign());
    if found.windows(2).any(|two| two[0] != two[1]) {
        return Some("ranks conclude differently");
    }
    if found.contains(&Finding::Unclear) {
        return Some("a rank does not come to a conclusion");
    }
    if !would_all_answer && found.contains(&Finding::All) {
        return Some("ranks come to a setup that one does not answer in");
    }
    if kinds.iter().all(|kind| *kind == Kind::Fine) && found.contains(&Finding::NotAll) {
        return Some("all forward for no reason");
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

/// Every world of so many ranks: how many there are, and what goes wrong, each with the first example. `leave_out` says which do not count.
fn search(ranks: usize, protocol: Protocol, leave_out: fn(&[Kind]) -> bool) -> (usize, BTreeMap<&'static str, String>) {
    let (mut worlds, mut faults) = (0, BTreeMap::new());
    for_all(&|_| KINDS.to_vec(), ranks, &mut Vec::new(), &mut |kinds: &[Kind]| {
        if leave_out(kinds) {
            return;
        }
        // Which names a rank cannot look at: any, for one that lost that ability. Its own it may see or not.
        let hidden = |rank: usize| match kinds[rank] {
            Kind::Blind | Kind::Deaf => (0..1 << ranks).collect(),
            _ => vec![0],
        };
        for_all(&hidden, ranks, &mut Vec::new(), &mut |hidden: &[usize]| {
            worlds += 1;
            if let Some(fault) = fault(kinds, &conclusions(kinds, hidden, protocol)) {
                faults.entry(fault).or_insert_with(|| format!("{kinds:?}, hidden {hidden:?}"));
            }
        });
    });
    (worlds, faults)
}

#[test]
fn all_ranks_conclude_the_same_in_every_world_in_which_each_can_look_or_hear() {
    for ranks in 2..=4 {
        let (worlds, faults) = search(ranks, Protocol::Ours, |kinds| kinds.contains(&Kind::Deaf));
        println!("{ranks} ranks: {worlds} worlds");
        assert_eq!(faults, BTreeMap::new());
    }
}

#[test]
fn a_rank_that_can_neither_look_nor_hear_goes_wrong_only_beside_one_that_gave_no_sign() {
    // Nor does it go wrong where no rank that gave a sign can look: then those that wait for a word time out.
    let is_without_hope = |kinds: &[Kind]| {
        let blind = kinds.contains(&Kind::Blind);
        kinds.contains(&Kind::Deaf) && (blind || kinds.iter().any(|kind| !kind.gives_sign()))
    };
    for ranks in 2..=4 {
        let (_, faults) = search(ranks, Protocol::Ours, is_without_hope);
        assert_eq!(faults, BTreeMap::new());
    }
}

#[test]
fn the_search_finds_what_is_wrong_with_other_protocols() {
    let expected = [
        (Protocol::HiddenIsGone, "ranks conclude differently"),
        (Protocol::HiddenIsHere, "ranks come to a setup that one does not answer in"),
        (Protocol::ForgetsItsOwn, "ranks conclude differently"),
        (Protocol::DisabledGivesSign, "ranks conclude differently"),
    ];
    for (protocol, fault) in expected {
        let (_, faults) = search(3, protocol, |kinds| kinds.contains(&Kind::Deaf));
        assert!(faults.contains_key(fault), "{protocol:?}: {fault}: {faults:?}");
    }
}
