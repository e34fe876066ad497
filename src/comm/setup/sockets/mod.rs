//! Passes file descriptors between the processes of a communicator.
//!
//! Every rank listens on an abstract unix socket of random name and connects to every peer's. A message is one
//! packet: sender, receiver, the receiver's token, and one descriptor. Only ranks that took part in round 1 know the
//! token. Both ends check that the other process belongs to the same user. Anything else that arrives is dropped
//! without effect. All descriptors are close-on-exec; nothing is left in the file system.
//!
//! Every process on the host can see the name and connect. So no single connection is waited for: one loop sends,
//! accepts and reads for all ranks of the thread, until all is done or the deadline has passed.

#[doc(hidden)] // Public for the fuzz targets.
pub mod packet;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use libc::c_int;

use crate::comm::setup::sockets::packet::{Name, Received, last_error_if};
use crate::kernel::layout::MAX_RANKS;

const MAGIC: &[u8; 8] = b"DIMESCRA";
/// Bytes of a message: magic, sender, receiver, token.
pub const MESSAGE_BYTES: usize = 8 + 4 + 4 + 16;
/// Connections that may wait to be accepted. The kernel has a limit of its own, usually the same.
const BACKLOG: c_int = 4096;
/// Connections that are open without having sent anything. A peer sends at once, so beyond that the oldest is dropped.
const MAX_SILENT: usize = 64;
/// Connections accepted in one turn of the loop, so that strangers who keep connecting do not hold up the rest.
const MAX_ACCEPTED: usize = 64;
/// How often the loop checks whether a party's communicator was aborted.
const ABORT_INTERVAL: Duration = Duration::from_millis(20);
/// The pause before connecting again to a peer whose backlog is full.
const RETRY: Duration = Duration::from_millis(2);

/// Random bytes from the kernel.
pub fn random() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    // SAFETY: the buffer is ours and as long as said. Up to 256 bytes come whole.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got == bytes.len() as isize { Ok(bytes) } else { Err(io::Error::last_os_error()) }
}

/// The message from `sender` to `receiver`.
pub fn message(sender: u32, receiver: u32, token: &[u8; 16]) -> [u8; MESSAGE_BYTES] {
    let mut bytes = [0; MESSAGE_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&sender.to_le_bytes());
    bytes[12..16].copy_from_slice(&receiver.to_le_bytes());
    bytes[16..].copy_from_slice(token);
    bytes
}

/// The sender of a message to `receiver`. None: it is no such message.
pub fn sender_of(bytes: &[u8], receiver: u32, token: &[u8; 16]) -> Option<u32> {
    let sender = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?);
    (bytes == message(sender, receiver, token)).then_some(sender)
}

/// The most descriptors that passing needs if no stranger connects: for each peer the accepted connection and the
/// descriptor it sends, and this rank's own connection.
const NEEDED: usize = 2 * MAX_RANKS;

/// The socket that receives the peers' descriptors.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    /// Descriptors held in reserve until passing begins. If they cannot be reserved, this rank says so in round 1. A
    /// rank that runs out of descriptors later could tell no other rank, and its peers would wait for it until the
    /// deadline.
    reserve: Mutex<Vec<OwnedFd>>,
}

impl Listener {
    /// Listens under a name, and reserves the descriptors that passing will need.
    pub fn bind(name: &Name) -> io::Result<Self> {
        let socket = packet::socket()?;
        let (address, bytes) = packet::address(name);
        // SAFETY: the address is as long as said.
        unsafe {
            last_error_if(libc::bind(socket.as_raw_fd(), (&raw const address).cast(), bytes) != 0)?;
            last_error_if(libc::listen(socket.as_raw_fd(), BACKLOG) != 0)?;
        }
        let reserve = (0..NEEDED).map(|_| socket.try_clone()).collect::<io::Result<_>>()?;
        Ok(Self { socket, reserve: Mutex::new(reserve) })
    }

    /// Closes the reserved descriptors, so that passing can use their numbers. A plain mutex suffices: a child of
    /// fork never passes on its parent's listener.
    fn release(&self) {
        self.reserve.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A rank in another process.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// Its rank.
    pub rank: u32,
    /// The name under which it listens.
    pub socket: &'a Name,
    /// The token that it expects.
    pub token: &'a [u8; 16],
}

/// A rank of this thread.
#[derive(Clone, Debug)]
pub struct Party<'a> {
    /// Its rank.
    pub rank: u32,
    /// The token that it expects from its peers.
    pub token: &'a [u8; 16],
    /// Its listener.
    pub listener: &'a Listener,
    /// The descriptor that every peer gets.
    pub descriptor: &'a OwnedFd,
    /// The peers that get it, and that each send one descriptor.
    pub peers: Vec<Peer<'a>>,
}

/// Sends each party's descriptor to its peers and receives theirs. Returns each party's outcome, with the peers'
/// ranks in the order of its peers. Messages from strangers and other users and malformed ones are dropped. A party
/// fails if a peer could not be reached or sent nothing by the deadline, or if `is_aborted` is true for the party's
/// index.
pub fn pass(
    parties: &[Party],
    deadline: Instant,
    is_aborted: impl Fn(usize) -> bool,
) -> Vec<io::Result<Vec<(u32, OwnedFd)>>> {
    parties.iter().for_each(|party| party.listener.release());
    let mut going: Vec<Passing> = parties.iter().map(Passing::new).collect();
    loop {
        for (index, passing) in going.iter_mut().enumerate() {
            if is_aborted(index) {
                passing.give_up();
            } else {
                passing.advance();
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || going.iter().all(Passing::is_over) {
            return going.into_iter().map(Passing::outcome).collect();
        }
        wait(&going, left);
    }
}

/// Waits until a peer connects or sends, until it is time to connect again or to check for an abort, or until `left`
/// has passed.
fn wait(going: &[Passing], left: Duration) {
    let mut polled: Vec<libc::pollfd> = going
        .iter()
        .filter(|passing| passing.is_receiving())
        .flat_map(|passing| passing.silent.iter().chain([&passing.party.listener.socket]))
        .map(|socket| libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 })
        .collect();
    let is_sending = going.iter().any(|passing| !passing.unsent.is_empty());
    let timeout = left.min(if is_sending { RETRY } else { ABORT_INTERVAL });
    // Rounded up: with a timeout of 0 the loop would spin through the last millisecond.
    let timeout_ms = timeout.as_millis() as c_int + 1;
    // SAFETY: as many pollfds as said. After an error the loop goes on as if nothing had arrived.
    let polled = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout_ms) };
    if polled < 0 {
        // Where a sandbox forbids poll, the loop must not spin.
        std::thread::sleep(timeout.min(RETRY));
    }
}

/// How far a party has come.
struct Passing<'a> {
    party: &'a Party<'a>,
    /// Peers that have not received this rank's descriptor.
    unsent: Vec<Peer<'a>>,
    /// Connections that have sent nothing yet, the oldest first.
    silent: VecDeque<OwnedFd>,
    /// The received descriptors, in the order of the peers.
    received: Vec<Option<OwnedFd>>,
    failure: Option<io::Error>,
}

impl<'a> Passing<'a> {
    fn new(party: &'a Party<'a>) -> Self {
        Self {
            party,
            unsent: party.peers.clone(),
            silent: VecDeque::new(),
            received: party.peers.iter().map(|_| None).collect(),
            failure: None,
        }
    }

    fn is_receiving(&self) -> bool {
        self.failure.is_none() && self.received.iter().any(Option::is_none)
    }

    /// A party that failed still sends to the peers that it can reach, so that they do not wait for it.
    fn is_over(&self) -> bool {
        self.unsent.is_empty() && !self.is_receiving()
    }

    fn note(&mut self, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            self.failure.get_or_insert(error);
        }
    }

    /// Nothing more is sent or received.
    fn give_up(&mut self) {
        self.unsent.clear();
        self.note(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the communicator was aborted")));
    }

    /// Does all that can be done without waiting.
    fn advance(&mut self) {
        self.send();
        if self.is_receiving() {
            let accepted = self.accept();
            self.note(accepted);
            self.read();
        }
    }

    fn send(&mut self) {
        for peer in std::mem::take(&mut self.unsent) {
            let message = message(self.party.rank, peer.rank, peer.token);
            match packet::send(peer.socket, &message, self.party.descriptor) {
                Ok(true) => {}
                Ok(false) => self.unsent.push(peer),
                Err(error) => {
                    self.note(Err(io::Error::new(error.kind(), format!("cannot send to rank {}: {error}", peer.rank))))
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        for _ in 0..MAX_ACCEPTED {
            let Some(connection) = packet::accept(&self.party.listener.socket)? else { break };
            if !packet::is_same_user(&connection) {
                continue;
            }
            // A connection that has sent already is read before it counts as silent.
            if let Some(silent) = self.take(connection) {
                self.silent.push_back(silent);
            }
            if self.silent.len() > MAX_SILENT {
                self.silent.pop_front();
            }
        }
        Ok(())
    }

    fn read(&mut self) {
        for connection in std::mem::take(&mut self.silent) {
            if let Some(silent) = self.take(connection) {
                self.silent.push_back(silent);
            }
        }
    }

    /// Receives what a connection has sent, and closes it. Returns a connection that has sent nothing.
    fn take(&mut self, connection: OwnedFd) -> Option<OwnedFd> {
        // One byte more than a message has, to detect a packet that is too long.
        match packet::receive(&connection, MESSAGE_BYTES + 1) {
            Received::Nothing => return Some(connection),
            Received::Garbage => {}
            Received::Packet(bytes, descriptor) => {
                let sender = sender_of(&bytes, self.party.rank, self.party.token);
                let index = self.party.peers.iter().position(|peer| Some(peer.rank) == sender);
                if let Some(index) = index.filter(|index| self.received[*index].is_none()) {
                    self.received[index] = Some(descriptor);
                }
            }
        }
        None
    }

    fn outcome(self) -> io::Result<Vec<(u32, OwnedFd)>> {
        if let Some(error) = self.failure {
            return Err(error);
        }
        let timed_out = |what: String| io::Error::new(io::ErrorKind::TimedOut, what);
        if let Some(peer) = self.unsent.first() {
            return Err(timed_out(format!(
                "rank {} did not take this rank's scratch within DIME_SETUP_TIMEOUT_S",
                peer.rank
            )));
        }
        let ranks = self.party.peers.iter().map(|peer| peer.rank);
        ranks
            .zip(self.received)
            .map(|(rank, descriptor)| match descriptor {
                Some(descriptor) => Ok((rank, descriptor)),
                None => Err(timed_out(format!("rank {rank} did not send its scratch within DIME_SETUP_TIMEOUT_S"))),
            })
            .collect()
    }
}
