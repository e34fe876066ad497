//! The catalogue of kernels: one entry for each file of kernels/allreduce/ and each kind of packet that it is
//! compiled with.
//!
//! kernels/catalogue.h has the same list for C++ (`DIME_KERNELS`); a unit test of [`super::layout`] compares the two. A
//! new entry compiles only when each of its fields is given.

/// How a receiver knows that data has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// 64-bit words of {data32, epoch32}: 8 bytes of data, of any type.
    Ll,
    /// Two 64-bit words that are not all ones: 16 bytes of data. All ones is a NaN in every float type. Integers need
    /// every bit pattern, so they have none to spare.
    Sentinel,
    /// Plain 16-byte stores, then one release flag for each block, stage and peer: any type. The protocol that the
    /// docs call *bulk*.
    Flagged,
}

impl Packet {
    /// Bytes of data in a packet.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Ll => 8,
            Self::Sentinel | Self::Flagged => 16,
        }
    }

    /// Whether a packet can carry integers.
    pub const fn carries_integers(self) -> bool {
        match self {
            Self::Ll | Self::Flagged => true,
            Self::Sentinel => false,
        }
    }
}

/// How many packets a block takes at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tile {
    /// The number in the routing table's row.
    OfRow,
    /// 64 for each stage of the launch.
    PerStage,
}

/// The properties of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name in logs, counters, settings and results, and in its functions' names between `dime_` and the
    /// reduction.
    pub name: &'static str,
    /// The kind of its packets.
    pub packet: Packet,
    /// 1 (one-shot): every rank sends the whole message to every other rank. 2 (two-shot): every rank sends each
    /// chunk to its owner, then each owner sends the result to all.
    pub exchanges: usize,
    /// It has a separate form for two ranks (kernels/allreduce/one_shot_pair.h), compiled for every type and
    /// operation.
    pub has_pair_form: bool,
    /// How many packets a block takes at a time.
    pub tile: Tile,
}

macro_rules! kernels {
    ($($(#[doc = $doc:literal])* $kernel:ident = $name:literal { $($field:ident: $value:expr),* $(,)? })*) => {
        /// The all-reduce kernels.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Kernel { $($(#[doc = $doc])* $kernel,)* }

        /// All kernels, in the order of their numbers.
        pub const KERNELS: [Kernel; [$($name),*].len()] = [$(Kernel::$kernel),*];

        /// Their names.
        pub const NAMES: [&str; KERNELS.len()] = [$($name),*];

        /// The values of DIME_KERNEL.
        pub const SETTINGS: &str = concat!("one of auto", $(", ", $name),*);

        const ENTRIES: [Entry; KERNELS.len()] = [$(Entry { name: $name, $($field: $value),* }),*];
    };
}

kernels! {
    /// One exchange, {data32, epoch32} words.
    OneShotLl = "one_shot_ll" { packet: Packet::Ll, exchanges: 1, has_pair_form: true, tile: Tile::OfRow }
    /// One exchange, words that are their own flag.
    OneShotSentinel = "one_shot_sentinel" { packet: Packet::Sentinel, exchanges: 1, has_pair_form: true, tile: Tile::OfRow }
    /// Two exchanges, {data32, epoch32} words.
    TwoShotLl = "two_shot_ll" { packet: Packet::Ll, exchanges: 2, has_pair_form: false, tile: Tile::OfRow }
    /// Two exchanges, words that are their own flag.
    TwoShotSentinel = "two_shot_sentinel" { packet: Packet::Sentinel, exchanges: 2, has_pair_form: false, tile: Tile::OfRow }
    /// Two exchanges, plain stores and a release flag for each block, stage and peer.
    TwoShotBulk = "two_shot_bulk" { packet: Packet::Flagged, exchanges: 2, has_pair_form: false, tile: Tile::PerStage }
}

impl Kernel {
    /// Its properties.
    pub const fn entry(self) -> &'static Entry {
        &ENTRIES[self as usize]
    }

    /// The name in logs, counters, settings and results.
    pub const fn name(self) -> &'static str {
        self.entry().name
    }

    /// The kernel of this name.
    pub fn named(name: &str) -> Option<Self> {
        KERNELS.into_iter().find(|kernel| kernel.name() == name)
    }

    /// Bytes of data in a packet.
    pub const fn packet_bytes(self) -> usize {
        self.entry().packet.bytes()
    }

    /// Whether the message is cut into one chunk for each rank.
    pub const fn is_two_shot(self) -> bool {
        self.entry().exchanges == 2
    }

    /// Whether a communicator of `ranks` ranks uses the form for two.
    pub const fn uses_pair_form(self, ranks: usize) -> bool {
        ranks == 2 && self.entry().has_pair_form
    }
}
