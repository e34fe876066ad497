//! Beacons: whether every rank of a communicator is on this host, has Dime in front of NCCL, and will take part in a
//! setup.
//!
//! A setup sends its messages over the communicator itself. So it must not begin if one rank would not answer: a rank
//! without Dime, or one that decided alone to forward, would take a setup message for a part of its own all-reduce.
//! All ranks must therefore reach the same conclusion before the first message, whatever fails on one of them alone.
//! They do, except in the two cases named below. The protocol:
//!
//! 1. *Light.* Before NCCL makes a communicator, each rank that will answer lights its beacon: it binds a socket to
//!    an abstract name, which every process in this network namespace can look up. Before that it takes everything
//!    that it needs to keep the promise: the driver, an entry in the communicator table, a socket to look up names
//!    with. It also looks up its own beacon. A rank that lacks any of these lights no beacon. A rank with
//!    DIME_DISABLE=1 lights none and makes no socket at all.
//!    Ranks with DIME_BATCH_INVARIANT=1 have names of their own.
//! 2. *Look.* NCCL has made a communicator only when every rank has called it. So every rank that lights a beacon has
//!    lit it by then. Directly after NCCL, each rank looks up all names and keeps its conclusion, because it may lose
//!    the ability to look later (a sandbox, a limit of descriptors). If some beacon is missing, it forwards. If it is lit
//!    under the name for the other value of DIME_BATCH_INVARIANT, it forwards too. If all are lit, it takes part in the
//!    setup. A rank without a beacon of its own forwards without looking.
//! 3. *Tell.* A rank that has concluded sends a verdict message, a datagram, to every beacon that it found.
//! 4. *Wait.* A rank that could not look waits in its first all-reduce for a verdict message. Usually the message is
//!    there already; it is not if no rank could look. If none comes within DIME_SETUP_TIMEOUT_S, the rank puts its
//!    beacon out and forwards. A verdict message that comes later fails to be delivered, so its sender forwards too.
//!    A process that got no verdict message once lights no more beacons: its later communicators forward without
//!    waiting.
//!
//! Why all ranks conclude the same: the set of lit beacons does not change between NCCL's return and the end of the
//! setup. Every rank that can look sees exactly this set. Every rank that cannot look is told by one that could. If
//! no rank could look, or no other rank has Dime, no rank is told and all forward. Only a rank that forwards puts its
//! beacon out earlier, and by then that is every rank's conclusion. `exhaustive.rs` checks all combinations.
//!
//! DIME_BATCH_INVARIANT is in the names because it decides before the setup: with it a message of floats of any size
//! begins the setup, without it a large one does not.
//!
//! In two cases ranks can conclude differently. First: between lighting and looking, a rank loses both the ability to
//! connect and the ability to read from an open socket, and another rank has no Dime or another DIME_BATCH_INVARIANT.
//! The rank counts as lit what it cannot look up. Second, a race: two ranks could not look, and a third looks when the
//! timeout of the one has passed and that of the other has not. It may have told the second that all beacons are lit
//! before it finds the first one's put out.
//!
//! A beacon's name contains a hash of what brings the ranks together, the *origin key*. Other processes can neither
//! guess the name nor learn anything from it. The key is a hash of NCCL's unique id; for a communicator made of
//! another one, a hash of the parent's key and of the call. Members are numbered as the ranks of the first
//! communicator with this key. Three ways of making communicators are special:
//! - ncclCommInitAll has all ranks in this process. They share one environment and one conclusion, so there is
//!   nothing to look up.
//! - For a non-blocking split or shrink, NCCL writes the handle later, from a thread of its own. It is read when
//!   ncclCommGetAsyncError says that NCCL is done.
//! - ncclCommGrow adds ranks that do not know the parent's key, and the parent's ranks do not know the id of the new
//!   ones. Only the rank that called ncclCommGetUniqueId, the *coordinator*, knows both. It alone looks up all
//!   beacons. The others look up only the coordinator's, and wait for its verdict message.
//!
//! A communicator that is made by any other call has no beacons, so all its ranks forward.
//!
//! A beacon is put out when the setup is over or the communicator ends. After that no rank looks for it.

mod arrival;
mod conclusion;
#[cfg(test)]
mod exhaustive;
mod membership;
mod outcome;
mod socket;
mod state;
#[cfg(test)]
mod tests;

pub use self::arrival::{
    Arrival, Pending, all_made, arrive, arrive_from, arrive_growing, arrive_in_growing, grows_by, is_batch_invariant,
};
pub use self::outcome::{await_outcome, failed, ready, reason_so_far};
pub use self::state::{forget, knows_others, put_out, take_reservation};
