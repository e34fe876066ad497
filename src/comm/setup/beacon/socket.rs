//! Beacon sockets: datagram sockets with abstract names, how they are looked up, and the verdict messages sent to
//! them.

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::{Duration, Instant};

use once_cell::race::OnceBox;
use sha2::{Digest, Sha256};

use crate::comm::setup::beacon::conclusion::{Conclusion, Heard};

/// The origin key of a communicator (see the module above). The first half is a part of the beacons' names, which
/// every process can list. The second half proves that a verdict message comes from a rank that knows the key.
pub type OriginKey = [u8; 32];

const PROOF_BYTES: usize = 16;
const VERDICT_BYTES: usize = PROOF_BYTES + 1 + size_of::<OriginKey>();
/// How often a lookup is tried that fails for lack of memory or descriptors or because of a signal, and the pause
/// before each retry.
const ATTEMPTS: usize = 3;
const PAUSE: Duration = Duration::from_millis(1);
/// How often a waiting rank checks for a verdict message and for an abort.
const INTERVAL: Duration = Duration::from_millis(2);

/// A key that is the hash of these parts.
pub fn key_of(parts: &[&[u8]]) -> OriginKey {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// The key in the name of a beacon. Ranks that differ in DIME_BATCH_INVARIANT have beacons of different names, so that
/// each sees whether all others have its value.
pub fn beacon_key(key: &OriginKey, batch_invariant: bool) -> OriginKey {
    if batch_invariant { key_of(&[key, b"batch invariant"]) } else { *key }
}

/// Whose beacon it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// A rank's, by its member number.
    Member(usize),
    /// The coordinator's: the rank that knows all others of a grown communicator.
    Coordinator,
}

/// This rank's own beacon.
#[derive(Clone, Debug)]
pub enum Beacon {
    /// It is lit.
    Lit(Arc<UnixDatagram>),
    /// Another socket has the name. The other ranks see that one, so this rank must act as they expect.
    Taken,
    /// It is not lit, and all other ranks see that.
    Unlit,
}

/// What a lookup of a name shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// A beacon is there.
    Lit,
    /// There is none: the kernel refused the connection.
    Missing,
    /// This rank could not look.
    Unknown,
}

/// Sent by a rank that could look to those that could not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerdictMessage {
    /// What it concluded; not [`Conclusion::Unknown`].
    pub conclusion: Conclusion,
    /// The origin key of a grown communicator, which only its coordinator can compute.
    pub origin_key: OriginKey,
}

impl Beacon {
    /// Lights a beacon, if this rank can also look it up. Call before NCCL brings the ranks together, so that no rank
    /// looks meanwhile.
    pub fn light(key: &OriginKey, whose: Whose) -> Self {
        // The lookup socket is made first. A rank that had lit its beacon and then had no descriptor to look with
        // would have to be told the verdict.
        let Some((name, lookup_socket)) = name(key, whose).zip(lookup_socket().ok()) else { return Self::Unlit };
        match UnixDatagram::bind_addr(&name) {
            Ok(socket) if socket.set_nonblocking(true).is_ok() && lookup_socket.connect_addr(&name).is_ok() => {
                Self::Lit(Arc::new(socket))
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => Self::Taken,
            _ => Self::Unlit,
        }
    }

    /// Whether the other ranks see a beacon under this name.
    pub fn is_visible(&self) -> bool {
        !matches!(self, Self::Unlit)
    }

    /// The verdict message that has come to it, if one has.
    pub fn receive(&self, key: &OriginKey) -> Option<VerdictMessage> {
        match self {
            Self::Lit(socket) => next_verdict(socket, key).ok().flatten(),
            Self::Taken | Self::Unlit => None,
        }
    }

    /// Waits for a verdict message. If none has come by the deadline, later ones are refused, and their senders see
    /// that.
    pub fn await_verdict(
        &self,
        key: &OriginKey,
        deadline: Instant,
        is_aborted: impl Fn() -> bool,
    ) -> (Heard, Option<VerdictMessage>) {
        let Self::Lit(socket) = self else { return (Heard::CannotReceive, None) };
        loop {
            let is_too_late = Instant::now() >= deadline || is_aborted();
            if is_too_late {
                // Messages that are queued can still be read.
                let _ = socket.shutdown(Shutdown::Read);
            }
            match next_verdict(socket, key) {
                Ok(Some(verdict)) => return (verdict.heard(), Some(verdict)),
                Ok(None) if is_too_late => return (Heard::Nothing, None),
                Ok(None) => std::thread::sleep(INTERVAL),
                Err(_) => return (Heard::CannotReceive, None),
            }
        }
    }
}

/// The next queued message that proves to come from a rank with the same origin key.
fn next_verdict(socket: &UnixDatagram, key: &OriginKey) -> io::Result<Option<VerdictMessage>> {
    // One byte more than a message has, to detect one that is too long.
    let mut bytes = [0; VERDICT_BYTES + 1];
    loop {
        match socket.recv(&mut bytes) {
            // The end of the queue after a shutdown.
            Ok(0) => return Ok(None),
            Ok(length) => {
                if let Some(verdict) = VerdictMessage::decode(&bytes[..length], key) {
                    return Ok(Some(verdict));
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The conclusions that a verdict message can carry, by their number in it.
const IN_MESSAGES: [Conclusion; 3] = [Conclusion::SomeMissing, Conclusion::AllLit, Conclusion::SettingsDiffer];

impl VerdictMessage {
    fn heard(&self) -> Heard {
        match self.conclusion {
            Conclusion::AllLit => Heard::AllLit,
            Conclusion::SettingsDiffer => Heard::SettingsDiffer,
            Conclusion::SomeMissing | Conclusion::Unknown => Heard::SomeMissing,
        }
    }

    fn encode(&self, key: &OriginKey) -> [u8; VERDICT_BYTES] {
        let mut bytes = [0; VERDICT_BYTES];
        bytes[..PROOF_BYTES].copy_from_slice(&key[PROOF_BYTES..]);
        let number = IN_MESSAGES.iter().position(|conclusion| *conclusion == self.conclusion);
        bytes[PROOF_BYTES] = number.unwrap_or(0) as u8;
        bytes[PROOF_BYTES + 1..].copy_from_slice(&self.origin_key);
        bytes
    }

    fn decode(bytes: &[u8], key: &OriginKey) -> Option<Self> {
        let (proof, rest) = bytes.split_first_chunk::<PROOF_BYTES>()?;
        let (number, origin_key) = rest.split_first()?;
        let conclusion = *IN_MESSAGES.get(usize::from(*number))?;
        let origin_key = origin_key.try_into().ok()?;
        (proof == &key[PROOF_BYTES..]).then_some(Self { conclusion, origin_key })
    }
}

/// Looks up a beacon.
pub fn look(key: &OriginKey, whose: Whose) -> Sight {
    let Some(name) = name(key, whose) else { return Sight::Unknown };
    let mut outcome = lookup_socket().and_then(|lookup_socket| lookup_socket.connect_addr(&name));
    for _ in 1..ATTEMPTS {
        match &outcome {
            Err(error) if is_temporary(error) => {
                std::thread::sleep(PAUSE);
                outcome = lookup_socket().and_then(|lookup_socket| lookup_socket.connect_addr(&name));
            }
            _ => break,
        }
    }
    match outcome {
        Ok(()) => Sight::Lit,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Sight::Missing,
        // The application may have closed our descriptor. A new socket shows whether that is the cause.
        Err(_) => match UnixDatagram::unbound().and_then(|socket| socket.connect_addr(&name)) {
            Ok(()) => Sight::Lit,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Sight::Missing,
            Err(_) => Sight::Unknown,
        },
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::EAGAIN | libc::ENOMEM | libc::ENOBUFS | libc::EMFILE | libc::ENFILE)
    )
}

/// Sends a verdict message to a beacon. Only a rank that could not look needs it. False: the beacon was put out, or
/// takes no message any more. Any other failure says nothing about the beacon, so it counts as sent.
pub fn send_verdict(key: &OriginKey, whose: Whose, verdict: &VerdictMessage) -> bool {
    let Some((name, lookup_socket)) = name(key, whose).zip(lookup_socket().ok()) else { return true };
    let sent = lookup_socket.send_to_addr(&verdict.encode(key), &name);
    !sent.is_err_and(|error| matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::BrokenPipe))
}

/// The socket that looks up beacons.
fn lookup_socket() -> io::Result<&'static UnixDatagram> {
    static SOCKET: OnceBox<UnixDatagram> = OnceBox::new();
    SOCKET.get_or_try_init(|| {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Box::new(socket))
    })
}

fn name(key: &OriginKey, whose: Whose) -> Option<SocketAddr> {
    let half: String = key[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let whose = match whose {
        Whose::Member(member) => member.to_string(),
        Whose::Coordinator => "coordinator".to_owned(),
    };
    SocketAddr::from_abstract_name(format!("dime-here-{half}-{whose}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key that no other test run has.
    fn key(test: u8) -> OriginKey {
        let mut key = [test; 32];
        let random = crate::comm::setup::sockets::random().expect("random bytes");
        key[..16].copy_from_slice(&random);
        key
    }

    fn lit(key: &OriginKey, member: usize) -> Beacon {
        let beacon = Beacon::light(key, Whose::Member(member));
        assert!(matches!(beacon, Beacon::Lit(_)), "{beacon:?}");
        beacon
    }

    #[test]
    fn a_beacon_is_visible_as_long_as_it_is_kept() {
        let key = key(1);
        assert_eq!(look(&key, Whose::Member(0)), Sight::Missing);
        let beacon = lit(&key, 0);
        assert_eq!((look(&key, Whose::Member(0)), look(&key, Whose::Coordinator)), (Sight::Lit, Sight::Missing));
        assert!(matches!(Beacon::light(&key, Whose::Member(0)), Beacon::Taken));
        drop(beacon);
        assert_eq!(look(&key, Whose::Member(0)), Sight::Missing);
    }

    #[test]
    fn a_verdict_message_arrives_and_one_without_the_proof_does_not() {
        let (key, mut of_another) = (key(2), key(2));
        let beacon = lit(&key, 0);
        let verdict = VerdictMessage { conclusion: Conclusion::AllLit, origin_key: [7; 32] };
        assert_eq!(beacon.receive(&key), None);
        // The name alone, which every process can list, is not enough.
        of_another[..16].copy_from_slice(&key[..16]);
        of_another[16] ^= 1;
        assert!(
            send_verdict(&of_another, Whose::Member(0), &verdict) && send_verdict(&key, Whose::Member(0), &verdict)
        );
        assert_eq!(beacon.receive(&key), Some(verdict));
        assert_eq!(beacon.receive(&key), None);
        for conclusion in IN_MESSAGES {
            let verdict = VerdictMessage { conclusion, ..verdict };
            assert_eq!(VerdictMessage::decode(&verdict.encode(&key), &key), Some(verdict));
        }
        let mut unknown = verdict.encode(&key);
        unknown[PROOF_BYTES] = IN_MESSAGES.len() as u8;
        assert_eq!(VerdictMessage::decode(&unknown, &key), None);
        assert_eq!(VerdictMessage::decode(&verdict.encode(&key)[..VERDICT_BYTES - 1], &key), None);
    }

    #[test]
    fn waiting_for_a_verdict_ends_at_the_deadline_and_takes_what_came_before() {
        let key = key(3);
        let (beacon, verdict) =
            (lit(&key, 0), VerdictMessage { conclusion: Conclusion::SomeMissing, origin_key: [0; 32] });
        assert!(send_verdict(&key, Whose::Member(0), &verdict));
        let past = Instant::now();
        assert_eq!(beacon.await_verdict(&key, past, || false), (Heard::SomeMissing, Some(verdict)));
        assert_eq!(beacon.await_verdict(&key, past, || false), (Heard::Nothing, None));
        // A sender that comes later sees that it is too late.
        assert!(!send_verdict(&key, Whose::Member(0), &verdict) && !send_verdict(&key, Whose::Member(9), &verdict));
        let late = Instant::now() + Duration::from_secs(60);
        assert_eq!(lit(&key, 1).await_verdict(&key, late, || true), (Heard::Nothing, None), "an abort ends it");
        assert_eq!(Beacon::Taken.await_verdict(&key, late, || false).0, Heard::CannotReceive);
    }
}
