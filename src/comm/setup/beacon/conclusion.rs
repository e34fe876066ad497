//! What a rank concludes from the beacons. Pure.

/// What a rank saw of all ranks' beacons, its own included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Beacons that are lit.
    pub lit: usize,
    /// Names that it could not look up.
    pub unknown: usize,
    /// Beacons of ranks that have another DIME_BATCH_INVARIANT.
    pub differing: usize,
}

/// Whether all ranks have lit their beacons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Conclusion {
    /// All have: every rank takes part in the setup.
    AllLit,
    /// Some rank has not: every rank forwards.
    SomeMissing,
    /// All have, but they differ in DIME_BATCH_INVARIANT: every rank forwards.
    SettingsDiffer,
    /// This rank cannot tell. A rank that can will send it a verdict message.
    Unknown,
}

/// What a rank receives that waits for a verdict message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Heard {
    /// A rank that could look says that all beacons are lit.
    AllLit,
    /// A rank that could look says that some beacon is missing.
    SomeMissing,
    /// A rank that could look says that the ranks differ in DIME_BATCH_INVARIANT.
    SettingsDiffer,
    /// No message came: no rank with Dime could look.
    Nothing,
    /// It cannot receive messages either.
    CannotReceive,
}

/// The conclusion of a rank that looked up the beacons of `ranks` ranks. `is_visible`: the other ranks see this
/// rank's beacon.
pub fn after_looking(is_visible: bool, seen: Seen, ranks: usize) -> Conclusion {
    if !is_visible || seen.lit + seen.unknown + seen.differing < ranks {
        Conclusion::SomeMissing
    } else if seen.lit + seen.unknown < ranks {
        Conclusion::SettingsDiffer
    } else if seen.lit >= ranks {
        Conclusion::AllLit
    } else {
        Conclusion::Unknown
    }
}

/// The conclusion of a rank that waited for a verdict message. If none came, it must put its own beacon out before it
/// acts on this.
pub fn after_waiting(heard: Heard) -> Conclusion {
    match heard {
        // A beacon that cannot be checked counts as lit: usually every rank has Dime, and a rank without it is the
        // exception.
        Heard::AllLit | Heard::CannotReceive => Conclusion::AllLit,
        Heard::SettingsDiffer => Conclusion::SettingsDiffer,
        Heard::SomeMissing | Heard::Nothing => Conclusion::SomeMissing,
    }
}
