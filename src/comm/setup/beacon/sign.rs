//! The signs themselves: datagram sockets with abstract names, how one is looked for, and the words that are sent to one.

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::{Duration, Instant};

use once_cell::race::OnceBox;

use crate::comm::setup::beacon::finding::Heard;

/// What the names of a line's signs are made of. Half of it is in the names, which everybody can see; the other half proves that a
/// word comes from a rank of the line.
pub type Key = [u8; 32];

const PROOF_BYTES: usize = 16;
const WORD_BYTES: usize = PROOF_BYTES + 1 + size_of::<Key>();
/// How often a look is tried again that failed for want of memory or for a signal, and how long it waits in between.
const ATTEMPTS: usize = 3;
const PAUSE: Duration = Duration::from_millis(1);
/// How often a rank that waits for a word looks for it, and whether its communicator was aborted.
const INTERVAL: Duration = Duration::from_millis(2);

/// Whose sign it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A rank's, by its number in the line.
    Member(usize),
    /// That of the rank which knows all others of a communicator that grows.
    Coordinator,
}

/// What a rank has of its own sign.
#[derive(Clone, Debug)]
pub enum Sign {
    /// It was given.
    Given(Arc<UnixDatagram>),
    /// The name is another socket's. The other ranks see that one, so this rank must go by what they see.
    Taken,
    /// It was not given: all other ranks see that it is not there.
    None,
}

/// What a look at a name shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// A sign.
    Here,
    /// No sign: the kernel says so.
    Gone,
    /// This rank is kept from looking.
    Hidden,
}

/// What ranks tell each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// All ranks have given their signs.
    pub all_here: bool,
    /// The key for what is made of a communicator that has grown.
    pub key: Key,
}

impl Sign {
    /// Gives a sign, if this rank can look at it itself. Before NCCL brings the ranks together, so nobody looks meanwhile.
    pub fn give(key: &Key, who: Who) -> Self {
        // The socket that looks comes first: who gave a sign and then could not look, for want of a descriptor, would have to be told.
        let Some((name, looker)) = name(key, who).zip(looker().ok()) else { return Self::None };
        match UnixDatagram::bind_addr(&name) {
            Ok(socket) if socket.set_nonblocking(true).is_ok() && looker.connect_addr(&name).is_ok() => {
                Self::Given(Arc::new(socket))
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => Self::Taken,
            _ => Self::None,
        }
    }

    /// Whether the other ranks see one.
    pub fn is_seen(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// The word that came to it, if one did.
    pub fn hear(&self, key: &Key) -> Option<Word> {
        match self {
            Self::Given(socket) => next_word(socket, key).ok().flatten(),
            Self::Taken | Self::None => None,
        }
    }

    /// Waits for a word. Without one until the deadline no further one is taken, and who sends one is told so.
    pub fn await_word(&self, key: &Key, deadline: Instant, is_aborted: impl Fn() -> bool) -> (Heard, Option<Word>) {
        let Self::Given(socket) = self else { return (Heard::Deaf, None) };
        loop {
            let is_over = Instant::now() >= deadline || is_aborted();
            if is_over {
                // What is in the queue stays there.
                let _ = socket.shutdown(Shutdown::Read);
            }
            match next_word(socket, key) {
                Ok(Some(word)) => return (if word.all_here { Heard::All } else { Heard::NotAll }, Some(word)),
                Ok(None) if is_over => return (Heard::Nothing, None),
                Ok(None) => std::thread::sleep(INTERVAL),
                Err(_) => return (Heard::Deaf, None),
            }
        }
    }
}

/// The next word in the queue that is from a rank of the line.
fn next_word(socket: &UnixDatagram, key: &Key) -> io::Result<Option<Word>> {
    // One byte more than a word has, to see that a message is too long.
    let mut bytes = [0; WORD_BYTES + 1];
    loop {
        match socket.recv(&mut bytes) {
            // Nothing more, behind a shutdown.
            Ok(0) => return Ok(None),
            Ok(length) => {
                if let Some(word) = Word::decode(&bytes[..length], key) {
                    return Ok(Some(word));
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Word {
    fn encode(&self, key: &Key) -> [u8; WORD_BYTES] {
        let mut bytes = [0; WORD_BYTES];
        bytes[..PROOF_BYTES].copy_from_slice(&key[PROOF_BYTES..]);
        bytes[PROOF_BYTES] = u8::from(self.all_here);
        bytes[PROOF_BYTES + 1..].copy_from_slice(&self.key);
        bytes
    }

    fn decode(bytes: &[u8], key: &Key) -> Option<Self> {
        let (proof, rest) = bytes.split_first_chunk::<PROOF_BYTES>()?;
        let (verdict, key_of_grown) = rest.split_first()?;
        let is_ours = proof == &key[PROOF_BYTES..] && *verdict <= 1;
        let key = key_of_grown.try_into().ok()?;
        is_ours.then_some(Self { all_here: *verdict == 1, key })
    }
}

/// Looks for a sign.
pub fn look(key: &Key, who: Who) -> Sight {
    let Some(name) = name(key, who) else { return Sight::Hidden };
    let mut outcome = looker().and_then(|looker| looker.connect_addr(&name));
    for _ in 1..ATTEMPTS {
        match &outcome {
            Err(error) if is_passing(error) => {
                std::thread::sleep(PAUSE);
                outcome = looker().and_then(|looker| looker.connect_addr(&name));
            }
            _ => break,
        }
    }
    match outcome {
        Ok(()) => Sight::Here,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Sight::Gone,
        // The program may have closed the descriptor. Another socket shows whether it is that.
        Err(_) => match UnixDatagram::unbound().and_then(|socket| socket.connect_addr(&name)) {
            Ok(()) => Sight::Here,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Sight::Gone,
            Err(_) => Sight::Hidden,
        },
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::EAGAIN | libc::ENOMEM | libc::ENOBUFS | libc::EMFILE | libc::ENFILE)
    )
}

/// Sends a word to a sign, which only a rank that could not look needs. False: the sign is gone, or takes no word any more. Any other failure
/// says nothing of it.
pub fn tell(key: &Key, who: Who, word: &Word) -> bool {
    let Some((name, looker)) = name(key, who).zip(looker().ok()) else { return true };
    let sent = looker.send_to_addr(&word.encode(key), &name);
    !sent.is_err_and(|error| matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::BrokenPipe))
}

/// The socket that looks for signs.
fn looker() -> io::Result<&'static UnixDatagram> {
    static LOOKER: OnceBox<UnixDatagram> = OnceBox::new();
    LOOKER.get_or_try_init(|| {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Box::new(socket))
    })
}

fn name(key: &Key, who: Who) -> Option<SocketAddr> {
    let half: String = key[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let whose = match who {
        Who::Member(number) => number.to_string(),
        Who::Coordinator => "coordinator".to_owned(),
    };
    SocketAddr::from_abstract_name(format!("dime-here-{half}-{whose}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key that no other run has.
    fn key(test: u8) -> Key {
        let mut key = [test; 32];
        let random = crate::comm::setup::sockets::random().expect("random bytes");
        key[..16].copy_from_slice(&random);
        key
    }

    fn given(key: &Key, number: usize) -> Sign {
        let sign = Sign::give(key, Who::Member(number));
        assert!(matches!(sign, Sign::Given(_)), "{sign:?}");
        sign
    }

    #[test]
    fn a_sign_is_seen_as_long_as_it_is_kept() {
        let key = key(1);
        assert_eq!(look(&key, Who::Member(0)), Sight::Gone);
        let sign = given(&key, 0);
        assert_eq!((look(&key, Who::Member(0)), look(&key, Who::Coordinator)), (Sight::Here, Sight::Gone));
        assert!(matches!(Sign::give(&key, Who::Member(0)), Sign::Taken));
        drop(sign);
        assert_eq!(look(&key, Who::Member(0)), Sight::Gone);
    }

    #[test]
    fn a_word_arrives_and_one_without_the_proof_does_not() {
        let (key, mut of_another) = (key(2), key(2));
        let sign = given(&key, 0);
        let word = Word { all_here: true, key: [7; 32] };
        assert_eq!(sign.hear(&key), None);
        // The name alone, which everybody can see, is not enough.
        of_another[..16].copy_from_slice(&key[..16]);
        of_another[16] ^= 1;
        assert!(tell(&of_another, Who::Member(0), &word) && tell(&key, Who::Member(0), &word));
        assert_eq!(sign.hear(&key), Some(word));
        assert_eq!(sign.hear(&key), None);
        assert_eq!(Word::decode(&word.encode(&key)[..WORD_BYTES - 1], &key), None);
    }

    #[test]
    fn waiting_for_a_word_ends_at_the_deadline_and_takes_what_came_before() {
        let key = key(3);
        let (sign, word) = (given(&key, 0), Word { all_here: false, key: [0; 32] });
        assert!(tell(&key, Who::Member(0), &word));
        let past = Instant::now();
        assert_eq!(sign.await_word(&key, past, || false), (Heard::NotAll, Some(word)));
        assert_eq!(sign.await_word(&key, past, || false), (Heard::Nothing, None));
        // Who comes later with a word is told that it came too late.
        assert!(!tell(&key, Who::Member(0), &word) && !tell(&key, Who::Member(9), &word));
        let late = Instant::now() + Duration::from_secs(60);
        assert_eq!(given(&key, 1).await_word(&key, late, || true), (Heard::Nothing, None), "an abort ends it");
        assert_eq!(Sign::Taken.await_word(&key, late, || false).0, Heard::Deaf);
    }
}
