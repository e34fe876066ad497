//! The message that each rank sends in a setup round, and what they conclude from all messages.
//!
//! A message has 256 bytes, in every round, little-endian. Pure: bytes in, a decision out. Every rank gets the same
//! messages and runs the same function on them, so all decide alike.

use std::num::NonZeroU16;

use crate::gpu::memory::{IPC_HANDLE_BYTES, Sharing};
use crate::kernel::layout::MAX_RANKS;
use crate::route::{REASONS, Reason};

/// Bytes of a message.
pub const HELLO_BYTES: usize = 256;
const MAGIC: u64 = u64::from_le_bytes(*b"DIMEHELO");
/// Increased whenever the meaning of a message or of scratch changes.
const PROTOCOL: u32 = 2;

/// The message of one rank in one round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The round, from 1.
    pub round: u32,
    /// The sending rank.
    pub rank: u32,
    /// Ranks of the communicator.
    pub ranks: u32,
    /// A hash of the sources that this library was built from.
    pub build: u64,
    /// A hash of the settings in which the ranks must agree.
    pub settings: u64,
    /// The host's boot id.
    pub boot_id: [u8; 16],
    /// A number of the process.
    pub process: [u8; 16],
    /// The GPU's UUID.
    pub device_uuid: [u8; 16],
    /// Its compute capability, 90 for 9.0.
    pub arch: u32,
    /// Its SMs.
    pub multiprocessors: u16,
    /// It can share memory as a file descriptor.
    pub shares_descriptors: bool,
    /// Name of the socket that takes the peers' descriptors.
    pub socket: [u8; 16],
    /// The token that a peer must send there.
    pub token: [u8; 16],
    /// Why this rank cannot go on.
    pub refusal: Option<Reason>,
    /// The scratch's legacy IPC handle, if that is how it is shared.
    pub ipc_handle: [u8; IPC_HANDLE_BYTES],
    /// The most blocks that a launch may have on this rank, if NCCL_MAX_CTAS or the communicator's configuration limits
    /// them.
    pub most_ctas: Option<NonZeroU16>,
    /// A number for its rows of a tuning file, 0 if it has none. Ranks that differ use the built-in rows.
    pub tuning: u64,
}

impl Hello {
    /// The bytes of the message.
    pub fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut bytes = [0; HELLO_BYTES];
        let mut at = 0;
        let mut put = |part: &[u8]| {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        };
        put(&MAGIC.to_le_bytes());
        put(&PROTOCOL.to_le_bytes());
        put(&self.round.to_le_bytes());
        put(&self.rank.to_le_bytes());
        put(&self.ranks.to_le_bytes());
        put(&self.build.to_le_bytes());
        put(&self.settings.to_le_bytes());
        put(&self.boot_id);
        put(&self.process);
        put(&self.device_uuid);
        put(&self.arch.to_le_bytes());
        put(&[u8::from(self.shares_descriptors), self.refusal.map_or(0, |reason| reason as u8 + 1)]);
        put(&self.multiprocessors.to_le_bytes());
        put(&self.socket);
        put(&self.token);
        put(&self.ipc_handle);
        put(&self.most_ctas.map_or(0, NonZeroU16::get).to_le_bytes());
        put(&self.tuning.to_le_bytes());
        bytes
    }

    /// Reads the bytes of a message. None: they are no such message. What is read encodes to the same bytes again,
    /// except a reason that this build does not know.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader { rest: bytes };
        if bytes.len() != HELLO_BYTES || reader.u64()? != MAGIC || reader.u32()? != PROTOCOL {
            return None;
        }
        let hello = Self {
            round: reader.u32()?,
            rank: reader.u32()?,
            ranks: reader.u32()?,
            build: reader.u64()?,
            settings: reader.u64()?,
            boot_id: reader.array()?,
            process: reader.array()?,
            device_uuid: reader.array()?,
            arch: reader.u32()?,
            multiprocessors: 0,
            shares_descriptors: false,
            socket: [0; 16],
            token: [0; 16],
            refusal: None,
            ipc_handle: [0; IPC_HANDLE_BYTES],
            most_ctas: None,
            tuning: 0,
        };
        let [shares, refusal] = reader.array()?;
        let shares_descriptors = match shares {
            0 => false,
            1 => true,
            _ => return None,
        };
        let refusal = match refusal {
            0 => None,
            // A reason that this build does not know is still a refusal.
            number => Some(REASONS.get(usize::from(number) - 1).copied().unwrap_or(Reason::Builds)),
        };
        let hello = Self {
            shares_descriptors,
            refusal,
            multiprocessors: reader.array().map(u16::from_le_bytes)?,
            socket: reader.array()?,
            token: reader.array()?,
            ipc_handle: reader.array()?,
            most_ctas: NonZeroU16::new(reader.array().map(u16::from_le_bytes)?),
            tuning: reader.u64()?,
            ..hello
        };
        // The rest is zero in this protocol.
        reader.rest.iter().all(|byte| *byte == 0).then_some(hello)
    }

    /// Whether two messages of two rounds can come from one rank: all that does not change during a setup is equal.
    pub fn is_of_same_rank(&self, other: &Self) -> bool {
        let Self { round, refusal, ipc_handle, .. } = *other;
        Self { round, refusal, ipc_handle, ..self.clone() } == *other
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (part, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*part)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

/// A refusal: the reason, and the first rank that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// Why all forward.
    pub reason: Reason,
    /// The rank that said so, or whose message was wrong.
    pub rank: usize,
}

/// Splits the bytes of a round into `ranks` messages, and checks that each belongs to this round and comes from its
/// rank.
pub fn read_round(bytes: &[u8], round: u32, ranks: usize) -> Result<Vec<Hello>, Refusal> {
    let mut hellos = Vec::with_capacity(ranks);
    for rank in 0..ranks {
        let message = bytes.get(rank * HELLO_BYTES..(rank + 1) * HELLO_BYTES).and_then(Hello::decode);
        match message {
            Some(hello) if (hello.round, hello.rank, hello.ranks) == (round, rank as u32, ranks as u32) => {
                hellos.push(hello);
            }
            _ => return Err(Refusal { reason: Reason::Exchange, rank }),
        }
    }
    match hellos.iter().find_map(|hello| hello.refusal.map(|reason| Refusal { reason, rank: hello.rank as usize })) {
        Some(refusal) => Err(refusal),
        None => Ok(hellos),
    }
}

/// The number of ranks on the GPU that most ranks share.
fn ranks_on_a_gpu(hellos: &[Hello]) -> u32 {
    let on_that_of = |rank: &Hello| hellos.iter().filter(|other| other.device_uuid == rank.device_uuid).count();
    hellos.iter().map(on_that_of).max().unwrap_or(1) as u32
}

/// SMs that each rank may use: those of the smallest GPU, divided by the number of ranks on the GPU that most ranks
/// share.
pub fn sms_of_a_rank(hellos: &[Hello]) -> u32 {
    let smallest = hellos.iter().map(|hello| u32::from(hello.multiprocessors)).min().unwrap_or(0);
    smallest / ranks_on_a_gpu(hellos)
}

/// The most blocks that a launch may have: the smallest number of all ranks.
pub fn most_ctas(hellos: &[Hello]) -> Option<NonZeroU16> {
    hellos.iter().filter_map(|hello| hello.most_ctas).min()
}

/// What the first round decides: how scratch is shared, or why all forward. `shared_gpus`: ranks may share a GPU.
pub fn agree(hellos: &[Hello], shared_gpus: bool) -> Result<Sharing, Refusal> {
    let ranks = hellos.len();
    if !(2..=MAX_RANKS).contains(&ranks) {
        return Err(Refusal { reason: Reason::Exchange, rank: 0 });
    }
    let first = &hellos[0];
    let differs = |reason: Reason, same: &dyn Fn(&Hello) -> bool| {
        hellos.iter().position(|hello| !same(hello)).map_or(Ok(()), |rank| Err(Refusal { reason, rank }))
    };
    differs(Reason::SeveralHosts, &|hello| hello.boot_id == first.boot_id)?;
    differs(Reason::Builds, &|hello| hello.build == first.build)?;
    differs(Reason::Settings, &|hello| hello.settings == first.settings)?;
    differs(Reason::Architecture, &|hello| hello.arch == first.arch && hello.arch >= 80)?;
    for (rank, hello) in hellos.iter().enumerate() {
        if !shared_gpus && hellos[..rank].iter().any(|other| other.device_uuid == hello.device_uuid) {
            return Err(Refusal { reason: Reason::EqualDevices, rank });
        }
    }
    let descriptors = hellos.iter().all(|hello| hello.shares_descriptors);
    Ok(if descriptors { Sharing::Descriptor } else { Sharing::LegacyIpc })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(rank: u32, ranks: u32) -> Hello {
        Hello {
            round: 1,
            rank,
            ranks,
            build: 7,
            settings: 9,
            boot_id: [3; 16],
            process: [rank as u8; 16],
            device_uuid: [rank as u8; 16],
            arch: 90,
            multiprocessors: 132,
            shares_descriptors: true,
            socket: [5; 16],
            token: [6; 16],
            refusal: None,
            ipc_handle: [8; IPC_HANDLE_BYTES],
            most_ctas: NonZeroU16::new(rank as u16),
            tuning: 11,
        }
    }

    fn round(hellos: &[Hello]) -> Vec<u8> {
        hellos.iter().flat_map(Hello::encode).collect()
    }

    #[test]
    fn a_message_comes_back_as_it_went() {
        for refusal in [None, Some(Reason::CountZero), Some(Reason::Forked)] {
            let sent = Hello { refusal, shares_descriptors: refusal.is_some(), ..hello(3, 8) };
            assert_eq!(Hello::decode(&sent.encode()), Some(sent));
        }
    }

    #[test]
    fn a_message_that_is_short_or_not_ours_is_refused() {
        let good = hello(0, 2).encode();
        assert_eq!(Hello::decode(&good[..255]), None);
        assert_eq!(Hello::decode(&[]), None);
        for at in 0..12 {
            let mut bad = good;
            bad[at] ^= 1;
            assert_eq!(Hello::decode(&bad), None, "byte {at}");
        }
    }

    #[test]
    fn a_round_with_a_message_from_the_wrong_rank_or_round_is_refused() {
        let right = [hello(0, 2), hello(1, 2)];
        assert!(read_round(&round(&right), 1, 2).is_ok());
        assert!(read_round(&round(&right), 2, 2).is_err());
        assert!(read_round(&round(&right), 1, 3).is_err());
        assert!(read_round(&round(&[hello(1, 2), hello(0, 2)]), 1, 2).is_err());
    }

    #[test]
    fn one_refusal_is_everybodys() {
        let refusing = Hello { refusal: Some(Reason::Memory), ..hello(1, 2) };
        let outcome = read_round(&round(&[hello(0, 2), refusing]), 1, 2);
        assert_eq!(outcome, Err(Refusal { reason: Reason::Memory, rank: 1 }));
    }

    #[test]
    fn ranks_agree_only_when_all_is_equal_but_the_devices() {
        let all = |change: &dyn Fn(&mut Hello)| {
            let mut hellos: Vec<Hello> = (0..4).map(|rank| hello(rank, 4)).collect();
            change(&mut hellos[2]);
            agree(&hellos, false)
        };
        assert_eq!(all(&|_| ()), Ok(Sharing::Descriptor));
        assert_eq!(all(&|hello| hello.shares_descriptors = false), Ok(Sharing::LegacyIpc));
        let reason = |change: &dyn Fn(&mut Hello)| all(change).map_err(|refusal| (refusal.reason, refusal.rank));
        assert_eq!(reason(&|hello| hello.boot_id = [0; 16]), Err((Reason::SeveralHosts, 2)));
        assert_eq!(reason(&|hello| hello.build = 0), Err((Reason::Builds, 2)));
        assert_eq!(reason(&|hello| hello.settings = 0), Err((Reason::Settings, 2)));
        assert_eq!(reason(&|hello| hello.arch = 80), Err((Reason::Architecture, 2)));
        assert_eq!(reason(&|hello| hello.device_uuid = [1; 16]), Err((Reason::EqualDevices, 2)));
    }

    #[test]
    fn the_smallest_limit_of_blocks_holds_for_all() {
        let with = |limits: [u16; 3]| {
            let of_rank = |rank: usize| Hello { most_ctas: NonZeroU16::new(limits[rank]), ..hello(rank as u32, 3) };
            most_ctas(&[of_rank(0), of_rank(1), of_rank(2)]).map(NonZeroU16::get)
        };
        for (limits, smallest) in
            [([0, 0, 0], None), ([0, 16, 0], Some(16)), ([64, 8, 32], Some(8)), ([4, 4, 4], Some(4))]
        {
            assert_eq!(with(limits), smallest, "{limits:?}");
        }
    }

    #[test]
    fn ranks_that_may_share_a_gpu_divide_its_multiprocessors() {
        let on = |gpus: &[u8]| -> Vec<Hello> {
            let of_rank = |(rank, gpu): (usize, &u8)| Hello { device_uuid: [*gpu; 16], ..hello(rank as u32, 4) };
            gpus.iter().enumerate().map(of_rank).collect()
        };
        for (gpus, share) in [([1, 2, 3, 4], 132), ([1, 2, 1, 2], 66), ([1, 1, 2, 1], 44), ([1, 1, 1, 1], 33)] {
            assert_eq!(agree(&on(&gpus), true), Ok(Sharing::Descriptor));
            assert_eq!(sms_of_a_rank(&on(&gpus)), share);
        }
        let mut uneven = on(&[1, 2, 1, 3]);
        uneven[3].multiprocessors = 100;
        assert_eq!(sms_of_a_rank(&uneven), 50);
    }

    /// Numbers without a pattern, the same in every run.
    struct Noise(u64);

    impl Noise {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        fn below(&mut self, limit: usize) -> usize {
            (self.next() % limit as u64) as usize
        }
    }

    #[test]
    fn noise_is_never_a_message() {
        let mut noise = Noise(1);
        for _ in 0..20_000 {
            let length = [HELLO_BYTES, noise.below(2 * HELLO_BYTES)][noise.below(2)];
            let bytes: Vec<u8> = (0..length).map(|_| noise.next() as u8).collect();
            assert_eq!(Hello::decode(&bytes), None);
            assert!(read_round(&bytes, 1, noise.below(MAX_RANKS + 2) + 1).is_err());
        }
    }

    /// A message with a few bytes changed is either refused, or read as what its bytes say: nothing is filled in or
    /// read twice.
    #[test]
    fn a_changed_message_is_refused_or_says_what_its_bytes_say() {
        let mut noise = Noise(2);
        let mut understood = 0;
        for _ in 0..50_000 {
            let ranks = 2 + noise.below(7) as u32;
            let mut bytes = hello(noise.below(ranks as usize) as u32, ranks).encode();
            for _ in 0..1 + noise.below(4) {
                let at = noise.below(HELLO_BYTES);
                bytes[at] = noise.next() as u8;
            }
            let (flag, reason, rest) = (92, 93, 202);
            let Some(read) = Hello::decode(&bytes) else {
                let is_wrong = bytes[..12] != hello(0, 2).encode()[..12]
                    || bytes[flag] > 1
                    || bytes[rest..].iter().any(|byte| *byte != 0);
                assert!(
                    is_wrong,
                    "only another magic or protocol, another flag, or something behind the end is no message"
                );
                continue;
            };
            understood += 1;
            let again = read.encode();
            let differing: Vec<usize> = (0..HELLO_BYTES).filter(|at| again[*at] != bytes[*at]).collect();
            // All but a reason that this build does not have.
            let is_known_loss = usize::from(bytes[reason]) > REASONS.len() && read.refusal == Some(Reason::Builds);
            assert!(differing.is_empty() || is_known_loss && differing == [reason], "bytes {differing:?}");
        }
        assert!(understood > 10_000, "{understood}");
    }

    #[test]
    fn a_round_with_changed_bytes_is_never_taken_for_another_round_rank_or_number_of_ranks() {
        let mut noise = Noise(3);
        let mut taken = 0;
        for _ in 0..20_000 {
            let ranks = 2 + noise.below(MAX_RANKS - 1);
            let mut bytes = round(&(0..ranks as u32).map(|rank| hello(rank, ranks as u32)).collect::<Vec<_>>());
            for _ in 0..1 + noise.below(3) {
                // The head of a message is where the checks are.
                let part = [24, HELLO_BYTES][noise.below(2)];
                let at = noise.below(ranks) * HELLO_BYTES + noise.below(part);
                bytes[at] ^= 1 << noise.below(8);
            }
            bytes.truncate(bytes.len() - [0, 0, 0, 1, HELLO_BYTES][noise.below(5)]);
            match read_round(&bytes, 1, ranks) {
                Ok(hellos) => {
                    taken += 1;
                    assert_eq!(bytes.len(), ranks * HELLO_BYTES);
                    for (rank, hello) in hellos.iter().enumerate() {
                        assert_eq!((hello.round, hello.rank as usize, hello.ranks as usize), (1, rank, ranks));
                        assert_eq!(hello.refusal, None);
                    }
                    // Whatever they say: a decision.
                    let _: Result<Sharing, Refusal> = agree(&hellos, true);
                }
                Err(refusal) => assert!(refusal.rank < ranks),
            }
        }
        assert!(taken > 1000, "{taken}");
    }

    #[test]
    fn every_reason_and_every_unknown_number_is_a_refusal() {
        for number in 0..=u8::MAX {
            let mut bytes = hello(0, 2).encode();
            bytes[93] = number;
            let refusal = Hello::decode(&bytes).unwrap().refusal;
            let expected = match usize::from(number) {
                0 => None,
                known if known <= REASONS.len() => Some(REASONS[known - 1]),
                _ => Some(Reason::Builds),
            };
            assert_eq!(refusal, expected);
        }
    }
}
