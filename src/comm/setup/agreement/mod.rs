//! How the ranks of a communicator agree: what one rank says in each round, and what it concludes from what all said.
//!
//! Pure: no driver, no socket, no clock. [`crate::comm::setup`] does the work between the rounds and carries the
//! messages.
//!
//! Invariants, checked by exhaustive searches (`agreement/exhaustive.rs`, `agreement/waits.rs`):
//! - Ranks that received the same messages conclude the same: all go on, or all forward for the same reason.
//! - A rank that cannot go on takes part until it has said so. It never leaves a round in which others wait.
//! - A rank on which a round failed cannot know what the others concluded. Its setup has failed: it is neither fast
//!   nor forwarding.

#[cfg(test)]
mod exhaustive;
#[cfg(test)]
mod waits;

use crate::comm::setup::hello;
use crate::comm::setup::hello::{HELLO_BYTES, Hello, Refusal};
use crate::gpu::memory::Sharing;
use crate::route::Reason;

/// A step of a setup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A message of every rank to every rank. Numbered from 1.
    Round(u32),
    /// Links are checked, kernels are loaded, scratch is allocated.
    Allocate,
    /// Each rank sends its scratch to the peers in other processes and takes theirs.
    PassScratch,
    /// The peers' scratch is mapped, and a pattern is written into each.
    MapPeers,
    /// What the peers wrote is checked, and scratch is cleared.
    Check,
}

/// The steps in their order, the same on every rank. Ranks that one thread sets up at the same time run in threads of
/// their own (`ConcurrentSetups`), else the calling thread runs them.
pub const STEPS: [Step; 8] = [
    Step::Round(1),
    Step::Allocate,
    Step::Round(2),
    Step::PassScratch,
    Step::MapPeers,
    Step::Round(3),
    Step::Check,
    Step::Round(LAST_ROUND),
];

/// After this round the communicator is fast.
const LAST_ROUND: u32 = 4;

/// How a setup ends for one rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// All ranks are fast.
    Fast,
    /// All ranks forward.
    Forward(Refusal),
    /// A round failed on this rank: the others may be fast, may forward, or may wait for this rank.
    Failed,
}

/// One rank's part of the agreement.
#[derive(Clone, Debug)]
pub struct Agreement {
    /// Its next message.
    hello: Hello,
    /// All ranks' messages of the last round.
    hellos: Vec<Hello>,
    sharing: Sharing,
    /// Ranks may share a GPU. The ranks must agree in this setting.
    shared_gpus: bool,
    verdict: Option<Verdict>,
}

impl Agreement {
    /// The agreement of a rank that introduces itself with `hello`.
    pub fn new(hello: Hello) -> Self {
        Self { hello, hellos: Vec::new(), sharing: Sharing::Descriptor, shared_gpus: false, verdict: None }
    }

    /// Sets whether ranks may share a GPU. By default they may not.
    pub fn allow_shared_gpus(self, shared_gpus: bool) -> Self {
        Self { shared_gpus, ..self }
    }

    /// This rank.
    pub fn rank(&self) -> usize {
        self.hello.rank as usize
    }

    /// Ranks of the communicator.
    pub fn ranks(&self) -> usize {
        self.hello.ranks as usize
    }

    /// All ranks' messages of the last round, by rank.
    pub fn hellos(&self) -> &[Hello] {
        &self.hellos
    }

    /// The token that the peers must send to this rank's socket.
    pub fn token(&self) -> &[u8; 16] {
        &self.hello.token
    }

    /// How scratch is shared. Valid after round 1.
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// The messages of the ranks in other processes.
    pub fn remote_peers(&self) -> impl Iterator<Item = &Hello> {
        self.hellos.iter().filter(|hello| hello.process != self.hello.process)
    }

    /// Whether the rank takes part in the next round.
    pub fn takes_part(&self) -> bool {
        self.verdict.is_none()
    }

    /// Whether this rank has work to do before the next round. A rank that cannot go on has none: it only says so.
    pub fn is_working(&self) -> bool {
        self.takes_part() && self.hello.refusal.is_none()
    }

    /// This rank cannot go on. Its message of the next round says so.
    pub fn object(&mut self, reason: Reason) {
        self.hello.refusal = Some(reason);
    }

    /// From now on the messages carry the scratch's legacy IPC handle.
    pub fn set_ipc_handle(&mut self, handle: [u8; crate::gpu::memory::IPC_HANDLE_BYTES]) {
        self.hello.ipc_handle = handle;
    }

    /// A round begins.
    pub fn begin_round(&mut self, round: u32) {
        self.hello.round = round;
    }

    /// The message of the round that has begun.
    pub fn message(&self) -> &Hello {
        &self.hello
    }

    /// The round returned these messages of all ranks. False: some are missing, so the round has failed.
    pub fn hear(&mut self, gathered: &[u8]) -> bool {
        if !self.is_whole(gathered) {
            self.fail();
            return false;
        }
        let read = hello::read_round(gathered, self.hello.round, self.ranks());
        match read.and_then(|hellos| self.recognise(hellos)) {
            Ok(hellos) => self.hellos = hellos,
            Err(refusal) => {
                self.verdict = Some(Verdict::Forward(refusal));
                return true;
            }
        }
        if self.hello.round == 1 {
            match hello::agree(&self.hellos, self.shared_gpus) {
                Ok(sharing) => self.sharing = sharing,
                Err(refusal) => self.verdict = Some(Verdict::Forward(refusal)),
            }
        }
        if self.hello.round == LAST_ROUND && self.takes_part() {
            self.verdict = Some(Verdict::Fast);
        }
        true
    }

    /// Refuses messages in which a rank says of itself something else than in the round before.
    fn recognise(&self, hellos: Vec<Hello>) -> Result<Vec<Hello>, Refusal> {
        let changed = hellos.iter().zip(&self.hellos).position(|(now, before)| !now.is_of_same_rank(before));
        changed.map_or(Ok(hellos), |rank| Err(Refusal { reason: Reason::Exchange, rank }))
    }

    /// The round failed here.
    pub fn fail(&mut self) {
        self.verdict = Some(Verdict::Failed);
    }

    /// How it ended. None: it has not ended.
    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// Whether a message came from every rank, this rank's own unchanged. Each round begins with zeros in the receive
    /// buffer. So neither a round that NCCL gave up half-way nor messages that an earlier setup left in that
    /// memory pass for a whole round.
    fn is_whole(&self, gathered: &[u8]) -> bool {
        gathered.len() == self.ranks() * HELLO_BYTES
            && gathered.chunks_exact(HELLO_BYTES).enumerate().all(|(rank, message)| {
                if rank == self.rank() { message == self.hello.encode() } else { message.iter().any(|byte| *byte != 0) }
            })
    }
}
