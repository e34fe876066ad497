//! An exhaustive search over all orders in which the ranks of a setup can move, each in a thread of its own, for
//! every way to spread them over processes. It checks that no ranks wait for each other in a circle, and that nothing
//! is used before it exists or after it is gone.

use std::collections::HashSet;

use crate::comm::setup::agreement::{STEPS, Step};

/// One move of a thread's program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Enter(u32),
    /// Waits for all ranks.
    Leave(u32),
    Allocate(usize),
    Send(usize),
    /// Waits for the ranks of other processes.
    Take(usize),
    /// Maps the peers' scratch and writes into it.
    Map(usize),
    /// Checks its own, and clears it.
    Check(usize),
    /// The communicator is fast: peers are written to.
    Use(usize),
}

/// The thread of each rank and the process of each thread.
#[derive(Clone, Debug)]
struct Grouping {
    thread_of: Vec<usize>,
    process_of: Vec<usize>,
}

impl Grouping {
    fn same_process(&self, one: usize, other: usize) -> bool {
        self.process_of[self.thread_of[one]] == self.process_of[self.thread_of[other]]
    }
}

/// Every way to put `count` things into groups, as the group number of each. Groups are numbered in the order in
/// which they appear.
fn partitions(count: usize) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for _ in 0..count {
        all = all
            .iter()
            .flat_map(|groups: &Vec<usize>| {
                let used = groups.iter().max().map_or(0, |last| last + 1);
                (0..=used).map(|group| [groups.as_slice(), &[group]].concat())
            })
            .collect();
    }
    all
}

/// The groupings that the library uses: one thread for each rank.
fn groupings(ranks: usize) -> Vec<Grouping> {
    let grouping = |process_of| Grouping { thread_of: (0..ranks).collect(), process_of };
    partitions(ranks).into_iter().map(grouping).collect()
}

/// The program of a thread that has these ranks: in each step, one rank after the other.
fn program(steps: &[Step], ranks: &[usize]) -> Vec<Move> {
    let each = |make: fn(usize) -> Move| ranks.iter().copied().map(make).collect::<Vec<_>>();
    let mut moves: Vec<Move> = Vec::new();
    for step in steps {
        moves.extend(match step {
            Step::Round(round) => vec![Move::Enter(*round), Move::Leave(*round)],
            Step::Allocate => each(Move::Allocate),
            Step::PassScratch => ranks.iter().flat_map(|rank| [Move::Send(*rank), Move::Take(*rank)]).collect(),
            Step::MapPeers => each(Move::Map),
            Step::Check => each(Move::Check),
        });
    }
    moves.extend(each(Move::Use));
    moves
}

/// Goes through all orders of the moves. Returns the number of states, or what goes wrong in one.
fn explore(steps: &[Step], grouping: &Grouping) -> Result<usize, String> {
    let ranks: Vec<usize> = (0..grouping.thread_of.len()).collect();
    let threads: Vec<Vec<usize>> = (0..grouping.process_of.len())
        .map(|thread| ranks.iter().copied().filter(|rank| grouping.thread_of[*rank] == thread).collect())
        .collect();
    let programs: Vec<Vec<Move>> = threads.iter().map(|ranks| program(steps, ranks)).collect();
    let start = vec![0; programs.len()];
    let mut known = HashSet::from([start.clone()]);
    let mut open = vec![start];
    while let Some(at) = open.pop() {
        let is_done = |thread: usize, wanted: Move| programs[thread][..at[thread]].contains(&wanted);
        let peers = |rank: usize| ranks.iter().copied().filter(move |peer| *peer != rank);
        let all_peers = |rank: usize, make: fn(usize) -> Move| {
            peers(rank).all(|peer| is_done(grouping.thread_of[peer], make(peer)))
        };
        let mut has_moved = false;
        for (thread, program) in programs.iter().enumerate() {
            let Some(next) = program.get(at[thread]) else { continue };
            let can = match *next {
                Move::Leave(round) => (0..programs.len()).all(|other| is_done(other, Move::Enter(round))),
                Move::Take(rank) => peers(rank)
                    .filter(|peer| !grouping.same_process(rank, *peer))
                    .all(|peer| is_done(grouping.thread_of[peer], Move::Send(peer))),
                _ => true,
            };
            if !can {
                continue;
            }
            let is_right = match *next {
                // Within a process nothing is sent: the peer must have allocated.
                Move::Map(rank) => all_peers(rank, Move::Allocate),
                // All peers have written the patterns, and none writes into scratch that is then cleared.
                Move::Check(rank) => all_peers(rank, Move::Map),
                // The peers' scratch is clear before it is written.
                Move::Use(rank) => all_peers(rank, Move::Check),
                _ => true,
            };
            if !is_right {
                return Err(format!("{next:?} comes too early: {grouping:?}"));
            }
            has_moved = true;
            let mut after = at.clone();
            after[thread] += 1;
            if known.insert(after.clone()) {
                open.push(after);
            }
        }
        if !has_moved && at.iter().zip(&programs).any(|(at, program)| *at < program.len()) {
            let waiting: Vec<_> = programs.iter().zip(&at).map(|(program, at)| program.get(*at)).collect();
            return Err(format!("all wait, in {waiting:?}: {grouping:?}"));
        }
    }
    Ok(known.len())
}

#[test]
fn no_order_of_the_threads_ends_in_waiting_however_the_ranks_are_spread() {
    for ranks in 2..=4 {
        let groupings = groupings(ranks);
        let states: Result<usize, String> = groupings.iter().map(|grouping| explore(&STEPS, grouping)).sum();
        println!("{ranks} ranks in {} groupings: {} states", groupings.len(), states.unwrap());
    }
}

#[test]
fn a_thread_whose_ranks_send_and_wait_in_turn_is_found_to_wait_for_ever() {
    // Two threads in two processes, each with two ranks: each waits for the other's second rank.
    let grouping = Grouping { thread_of: vec![0, 1, 0, 1], process_of: vec![0, 1] };
    assert!(explore(&STEPS, &grouping).unwrap_err().starts_with("all wait"));
}

#[test]
fn without_any_one_of_its_later_rounds_a_setup_goes_wrong() {
    for left_out in 2..=4 {
        let steps: Vec<Step> = STEPS.into_iter().filter(|step| *step != Step::Round(left_out)).collect();
        let goes_wrong = groupings(3).iter().any(|grouping| explore(&steps, grouping).is_err());
        assert!(goes_wrong, "without round {left_out}");
    }
}
