//! An exhaustive search over all runs of the agreement: what each rank is, what fails on it, which messages are
//! wrong.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU16;

use crate::comm::setup::agreement::*;
use crate::gpu::memory::IPC_HANDLE_BYTES;

/// What makes a rank differ from the others from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Same,
    OtherHost,
    OtherBuild,
    OtherSettings,
    OtherArchitecture,
    FirstRanksDevice,
    NoDescriptors,
    /// It could not read what it must say of itself: random bytes, the boot id, or its GPU's properties.
    KnowsNothing,
    /// It has no socket to receive descriptors.
    NoListener,
    /// NCCL's variables do not allow it.
    NoPeers,
    /// It limits the blocks of a launch, which the ranks agree on.
    FewBlocks,
}

const KINDS: [Kind; 11] = [
    Kind::Same,
    Kind::OtherHost,
    Kind::OtherBuild,
    Kind::OtherSettings,
    Kind::OtherArchitecture,
    Kind::FirstRanksDevice,
    Kind::NoDescriptors,
    Kind::KnowsNothing,
    Kind::NoListener,
    Kind::NoPeers,
    Kind::FewBlocks,
];

impl Kind {
    /// Why its first message says that it cannot go on.
    fn refusal(self) -> Option<Reason> {
        match self {
            Self::KnowsNothing => Some(Reason::SelfUnknown),
            Self::NoListener => Some(Reason::Sockets),
            Self::NoPeers => Some(Reason::P2pDisabled),
            _ => None,
        }
    }
}

/// What happens to a rank's message. NCCL delivers the same bytes to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    AsSaid,
    Noise,
    OfAnotherProtocol,
    OfAnotherRound,
    OfAnotherRank,
    OfAnotherProcess,
}

const MESSAGES: [Message; 6] = [
    Message::AsSaid,
    Message::Noise,
    Message::OfAnotherProtocol,
    Message::OfAnotherRound,
    Message::OfAnotherRank,
    Message::OfAnotherProcess,
];

/// How a round ends on one rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RoundEnd {
    Good,
    /// It fails before the rank has entered it: no other rank completes it.
    NeverEntered,
    /// It fails after the others have received everything.
    FailsAfter,
    /// NCCL gives it up without an error, and a message is missing on this rank: its own, or the next rank's.
    LosesOurs,
    LosesAPeers,
}

const ROUND_ENDS: [RoundEnd; 5] =
    [RoundEnd::Good, RoundEnd::NeverEntered, RoundEnd::FailsAfter, RoundEnd::LosesOurs, RoundEnd::LosesAPeers];

/// How the work before a round ends.
const WORK: [Option<Reason>; 3] = [None, Some(Reason::Memory), Some(Reason::Sockets)];

/// All that can happen to one rank in one round.
#[derive(Clone, Copy, Debug)]
struct Fate {
    work: Option<Reason>,
    end: RoundEnd,
    message: Message,
}

/// The protocol, and broken ones that the search must detect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Ours,
    /// A rank that cannot go on forwards at once.
    LeavesSilently,
    /// A rank on which a round failed forwards.
    ForwardsAfterAFailure,
    /// A rank acts on the others' refusals and not on its own.
    IgnoresItsOwnRefusal,
    /// A rank accepts a round although messages are missing.
    TrustsWhatIsMissing,
    /// A rank takes its own limit of blocks for that of all.
    UsesItsOwnLimit,
}

#[derive(Clone)]
struct Rank {
    agreement: Agreement,
    /// It waits in a round that some rank never enters.
    is_stuck: bool,
    /// Something failed on this rank that the others cannot know of.
    has_failed: bool,
}

/// What distinguishes two states: all that the future depends on, and which failures have happened.
type Key = Vec<(Option<Verdict>, bool, bool)>;

#[derive(Clone)]
struct World {
    ranks: Vec<Rank>,
    /// All refusals that a rank of this run may conclude.
    causes: Vec<Refusal>,
}

fn introduce(rank: usize, ranks: usize, kind: Kind) -> Hello {
    let mut hello = Hello {
        round: 0,
        rank: rank as u32,
        ranks: ranks as u32,
        build: 7,
        settings: 9,
        boot_id: [3; 16],
        process: [rank as u8 + 1; 16],
        device_uuid: [rank as u8 + 1; 16],
        arch: 90,
        multiprocessors: 132,
        shares_descriptors: true,
        socket: [5; 16],
        token: [rank as u8 + 1; 16],
        refusal: kind.refusal(),
        ipc_handle: [8; IPC_HANDLE_BYTES],
        most_ctas: None,
        tuning: 11,
    };
    match kind {
        Kind::Same | Kind::NoListener | Kind::NoPeers => {}
        Kind::KnowsNothing => {
            (hello.boot_id, hello.process, hello.device_uuid) = ([0; 16], [0; 16], [0; 16]);
            (hello.arch, hello.multiprocessors, hello.shares_descriptors) = (0, 0, false);
            (hello.socket, hello.token) = ([0; 16], [0; 16]);
        }
        Kind::OtherHost => hello.boot_id = [4; 16],
        Kind::OtherBuild => hello.build += 1,
        Kind::OtherSettings => hello.settings += 1,
        Kind::OtherArchitecture => hello.arch = 100,
        Kind::FirstRanksDevice => hello.device_uuid = [1; 16],
        Kind::NoDescriptors => hello.shares_descriptors = false,
        // Each rank has another limit.
        Kind::FewBlocks => hello.most_ctas = NonZeroU16::new(rank as u16 + 3),
    }
    hello
}

impl World {
    fn new(kinds: &[Kind]) -> Self {
        let hello = |rank: usize| introduce(rank, kinds.len(), kinds[rank]);
        let rank = |rank| Rank { agreement: Agreement::new(hello(rank)), is_stuck: false, has_failed: false };
        let reason = |kind: Kind| match kind {
            Kind::Same | Kind::NoDescriptors | Kind::FewBlocks => None,
            Kind::KnowsNothing | Kind::NoListener | Kind::NoPeers => kind.refusal(),
            Kind::OtherHost => Some(Reason::SeveralHosts),
            Kind::OtherBuild => Some(Reason::Builds),
            Kind::OtherSettings => Some(Reason::Settings),
            Kind::OtherArchitecture => Some(Reason::Architecture),
            Kind::FirstRanksDevice => Some(Reason::EqualDevices),
        };
        // The first rank never differs from itself. All ranks may differ from the default in the same way, and then
        // they agree.
        let differs = |kind: Kind| match kind {
            Kind::FirstRanksDevice => kinds[1..].contains(&kind),
            // These stop the setup even if all ranks are alike.
            Kind::KnowsNothing | Kind::NoListener | Kind::NoPeers => kinds.contains(&kind),
            _ => kinds.contains(&kind) && kinds.iter().any(|other| *other != kind),
        };
        let everyone = 0..kinds.len();
        let reasons = KINDS.into_iter().filter(|kind| differs(*kind)).filter_map(reason);
        Self {
            ranks: everyone.clone().map(rank).collect(),
            // The ranks decide which of two differing ranks is named.
            causes: reasons.flat_map(|reason| everyone.clone().map(move |rank| Refusal { reason, rank })).collect(),
        }
    }

    fn key(&self) -> Key {
        self.ranks.iter().map(|rank| (rank.agreement.verdict(), rank.is_stuck, rank.has_failed)).collect()
    }

    fn is_going(&self, rank: usize) -> bool {
        self.ranks[rank].agreement.takes_part() && !self.ranks[rank].is_stuck
    }

    /// The work before a round, and the round.
    fn play(&self, round: u32, fates: &[Fate], protocol: Protocol) -> Self {
        let mut next = self.clone();
        for (number, fate) in fates.iter().enumerate().filter(|(number, _)| self.is_going(*number)) {
            let agreement = &mut next.ranks[number].agreement;
            if let Some(reason) = fate.work {
                agreement.object(reason);
                next.causes.push(Refusal { reason, rank: number });
                if protocol == Protocol::LeavesSilently {
                    agreement.verdict = Some(Verdict::Forward(Refusal { reason, rank: number }));
                    continue;
                }
            }
            if fate.end == RoundEnd::NeverEntered {
                next.lose(number, protocol);
                continue;
            }
            agreement.begin_round(round);
        }
        // The ranks that have entered the round. If one has not, all others are stuck in it.
        let inside: Vec<usize> = (0..fates.len()).filter(|rank| next.is_going(*rank)).collect();
        if inside.len() < fates.len() {
            for rank in inside {
                next.ranks[rank].is_stuck = true;
            }
            return next;
        }
        let mut gathered = Vec::new();
        for (rank, fate) in next.ranks.iter().zip(fates) {
            let hello = rank.agreement.message();
            let bytes = match fate.message {
                Message::AsSaid => hello.encode(),
                Message::Noise => std::array::from_fn(|at| (at * 37 + 11) as u8),
                Message::OfAnotherProtocol => {
                    let mut bytes = hello.encode();
                    bytes[8] ^= 2;
                    bytes
                }
                Message::OfAnotherRound => Hello { round: round % LAST_ROUND + 1, ..hello.clone() }.encode(),
                Message::OfAnotherRank => Hello { rank: hello.ranks - 1 - hello.rank, ..hello.clone() }.encode(),
                Message::OfAnotherProcess => Hello { process: [0xee; 16], ..hello.clone() }.encode(),
            };
            gathered.extend(bytes);
        }
        for (rank, fate) in fates.iter().enumerate() {
            // `OfAnotherRank` leaves the message of the middle one of three ranks unchanged.
            if gathered[rank * HELLO_BYTES..][..HELLO_BYTES] != next.ranks[rank].agreement.message().encode() {
                next.causes.push(Refusal { reason: Reason::Exchange, rank });
                next.ranks[rank].has_failed = true;
            }
            if fate.end != RoundEnd::Good {
                next.ranks[rank].has_failed = true;
            }
        }
        for (rank, fate) in fates.iter().enumerate() {
            let mut heard = gathered.clone();
            let lost = if fate.end == RoundEnd::LosesOurs { rank } else { (rank + 1) % fates.len() };
            match fate.end {
                RoundEnd::FailsAfter => {
                    next.lose(rank, protocol);
                    continue;
                }
                RoundEnd::LosesOurs | RoundEnd::LosesAPeers => heard[lost * HELLO_BYTES..][..HELLO_BYTES].fill(0),
                RoundEnd::Good | RoundEnd::NeverEntered => {}
            }
            let agreement = &mut next.ranks[rank].agreement;
            if protocol == Protocol::IgnoresItsOwnRefusal {
                agreement.hello.refusal = None;
                heard[rank * HELLO_BYTES..][..HELLO_BYTES].copy_from_slice(&agreement.hello.encode());
            }
            if protocol == Protocol::TrustsWhatIsMissing && !agreement.is_whole(&heard) {
                agreement.verdict = (round == LAST_ROUND).then_some(Verdict::Fast);
                continue;
            }
            agreement.hear(&heard);
        }
        next
    }

    /// A round fails on a rank.
    fn lose(&mut self, rank: usize, protocol: Protocol) {
        self.ranks[rank].has_failed = true;
        let agreement = &mut self.ranks[rank].agreement;
        agreement.fail();
        if protocol == Protocol::ForwardsAfterAFailure {
            agreement.verdict = Some(Verdict::Forward(Refusal { reason: Reason::Exchange, rank }));
        }
    }

    /// What is wrong with the outcome, if anything.
    fn fault(&self, protocol: Protocol) -> Option<&'static str> {
        let is_fast = |rank: &Rank| rank.agreement.verdict() == Some(Verdict::Fast);
        let refusal = |rank: &Rank| match rank.agreement.verdict() {
            Some(Verdict::Forward(refusal)) => Some(refusal),
            _ => None,
        };
        let (failed, sound): (Vec<&Rank>, Vec<&Rank>) = self.ranks.iter().partition(|rank| rank.has_failed);
        if self.ranks.iter().any(is_fast) && self.ranks.iter().any(|rank| refusal(rank).is_some()) {
            return Some("one rank is fast and another forwards");
        }
        if failed.iter().any(|rank| rank.agreement.verdict() != Some(Verdict::Failed)) {
            return Some("a rank on which a round failed does not say so");
        }
        if failed.is_empty() && self.ranks.iter().any(|rank| rank.is_stuck) {
            return Some("a rank waits for one that has left, and nothing failed");
        }
        if sound.windows(2).any(|two| two[0].agreement.verdict() != two[1].agreement.verdict()) {
            return Some("ranks without a failure end differently");
        }
        if self.ranks.iter().filter_map(refusal).any(|refusal| !self.causes.contains(&refusal)) {
            return Some("a rank forwards for a reason that no rank had");
        }
        let own = |rank: &Rank| rank.agreement.message().most_ctas;
        let limit = |rank: &Rank| match protocol {
            Protocol::UsesItsOwnLimit => own(rank),
            _ => hello::most_ctas(rank.agreement.hellos()),
        };
        let smallest = self.ranks.iter().filter_map(own).min();
        if self.ranks.iter().any(|rank| is_fast(rank) && limit(rank) != smallest) {
            return Some("ranks are fast with different limits of blocks");
        }
        if !self.causes.is_empty() && self.ranks.iter().any(is_fast) {
            return Some("a rank is fast although there was a reason to forward");
        }
        if failed.is_empty() && self.causes.is_empty() && !self.ranks.iter().all(is_fast) {
            return Some("a rank is not fast, for no reason");
        }
        None
    }
}

/// What a search has seen.
#[derive(Default)]
struct Seen {
    /// Distinct states.
    states: usize,
    /// Rounds played.
    steps: usize,
    /// Faults, each with the first example.
    faults: BTreeMap<&'static str, String>,
}

/// What may happen in a search.
#[derive(Clone, Copy)]
struct Scope {
    work: &'static [Option<Reason>],
    ends: &'static [RoundEnd],
    messages: &'static [Message],
    /// Wrong messages in one round at most.
    wrong_messages: usize,
}

const NOTHING_HAPPENS: Scope =
    Scope { work: &[None], ends: &[RoundEnd::Good], messages: &[Message::AsSaid], wrong_messages: 0 };
const ALL: Scope = Scope { work: &WORK, ends: &ROUND_ENDS, messages: &MESSAGES, wrong_messages: 2 };

impl Scope {
    /// Calls `visit` with every sequence of one fate for each rank. Nothing happens to a rank that no longer takes
    /// part.
    fn for_all_fates(&self, world: &World, fates: &mut Vec<Fate>, visit: &mut impl FnMut(&[Fate])) {
        if fates.len() == world.ranks.len() {
            return visit(fates);
        }
        let scope = if world.is_going(fates.len()) { self } else { &NOTHING_HAPPENS };
        for &work in scope.work {
            for &end in scope.ends {
                for &message in scope.messages {
                    fates.push(Fate { work, end, message });
                    let wrong_messages = fates.iter().filter(|fate| fate.message != Message::AsSaid).count();
                    if wrong_messages <= self.wrong_messages {
                        self.for_all_fates(world, fates, visit);
                    }
                    fates.pop();
                }
            }
        }
    }
}

/// All runs of ranks of these kinds.
fn search(kinds: &[Kind], scope: Scope, protocol: Protocol, seen: &mut Seen) {
    let rounds = STEPS.into_iter().filter_map(|step| match step {
        Step::Round(round) => Some(round),
        _ => None,
    });
    let is_over = |world: &World| !(0..kinds.len()).any(|rank| world.is_going(rank));
    let mut level = vec![World::new(kinds)];
    for round in rounds {
        let mut known = HashSet::new();
        let mut next_level = Vec::new();
        for world in &level {
            scope.for_all_fates(world, &mut Vec::new(), &mut |fates| {
                let next = world.play(round, fates, protocol);
                seen.steps += 1;
                let is_new = known.insert((next.key(), next.causes.is_empty()));
                seen.states += usize::from(is_new);
                if is_over(&next) {
                    if let Some(fault) = next.fault(protocol) {
                        seen.faults.entry(fault).or_insert_with(|| format!("round {round} of {kinds:?}, {fates:?}"));
                    }
                } else if is_new {
                    next_level.push(next);
                }
            });
        }
        level = next_level;
    }
    assert!(level.is_empty(), "every run is over after the last round");
}

/// Every combination of the kinds of so many ranks.
fn combinations(ranks: usize) -> Vec<Vec<Kind>> {
    (0..ranks).fold(vec![Vec::new()], |all, _| {
        all.iter().flat_map(|kinds: &Vec<Kind>| KINDS.map(|kind| [kinds.as_slice(), &[kind]].concat())).collect()
    })
}

/// Every combination of kinds in `of_kinds`, and equal ranks in `of_equals`.
fn search_all(ranks: usize, of_kinds: Scope, of_equals: Scope) {
    let mut seen = Seen::default();
    for kinds in combinations(ranks) {
        search(&kinds, of_kinds, Protocol::Ours, &mut seen);
    }
    search(&vec![Kind::Same; ranks], of_equals, Protocol::Ours, &mut seen);
    println!("{ranks} ranks: {} states, {} steps", seen.states, seen.steps);
    assert_eq!(seen.faults, BTreeMap::new());
}

#[test]
fn two_ranks_agree_in_every_run() {
    search_all(2, Scope { wrong_messages: 0, ..ALL }, ALL);
}

#[test]
fn three_ranks_agree_in_every_run_with_a_wrong_message_in_each_round() {
    search_all(3, Scope { ends: &ROUND_ENDS, ..NOTHING_HAPPENS }, Scope { wrong_messages: 1, ..ALL });
}

#[test]
fn four_ranks_agree_in_every_run_with_a_wrong_message_in_each_round() {
    const SOME: Scope = Scope {
        work: &[None, Some(Reason::Memory)],
        ends: &[RoundEnd::Good, RoundEnd::NeverEntered, RoundEnd::FailsAfter],
        messages: &MESSAGES,
        wrong_messages: 1,
    };
    search_all(4, NOTHING_HAPPENS, SOME);
}

#[test]
fn the_search_detects_broken_protocols() {
    let expected = [
        (Protocol::LeavesSilently, "a rank waits for one that has left, and nothing failed"),
        (Protocol::ForwardsAfterAFailure, "one rank is fast and another forwards"),
        (Protocol::IgnoresItsOwnRefusal, "one rank is fast and another forwards"),
        (Protocol::TrustsWhatIsMissing, "a rank on which a round failed does not say so"),
        (Protocol::UsesItsOwnLimit, "ranks are fast with different limits of blocks"),
    ];
    for (protocol, fault) in expected {
        let mut seen = Seen::default();
        let kind = if protocol == Protocol::UsesItsOwnLimit { Kind::FewBlocks } else { Kind::Same };
        search(&[kind; 2], ALL, protocol, &mut seen);
        assert!(seen.faults.contains_key(fault), "{protocol:?}: {fault}: {:?}", seen.faults);
    }
}
