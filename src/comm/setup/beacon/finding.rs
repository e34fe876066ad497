//! What a rank concludes from the signs. Pure.

/// What a rank saw of the other ranks' signs, and of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Signs that are there.
    pub here: usize,
    /// Names that it is kept from looking at.
    pub hidden: usize,
}

/// Whether all ranks have given their signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finding {
    /// All have: every rank comes to the setup.
    All,
    /// Some rank has not: every rank forwards.
    NotAll,
    /// This rank cannot tell. One that can will have told it.
    Unclear,
}

/// What a rank hears that waits for a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Heard {
    /// A rank that could look says that all signs are there.
    All,
    /// A rank that could look says that they are not.
    NotAll,
    /// No word came: there is no rank with this library that could look.
    Nothing,
    /// It cannot hear either.
    Deaf,
}

/// The conclusion of a rank that looked at the signs of `ranks` ranks. `is_seen`: the others see a sign of this one.
pub fn look(is_seen: bool, seen: Seen, ranks: usize) -> Finding {
    if !is_seen || seen.here + seen.hidden < ranks {
        Finding::NotAll
    } else if seen.here >= ranks {
        Finding::All
    } else {
        Finding::Unclear
    }
}

/// The conclusion of a rank that waited for a word. Without one it must take its own sign away before it goes by this.
pub fn hear(heard: Heard) -> Finding {
    match heard {
        // Whatever nothing can be found out of counts as present: that is the rule, and a rank without this library the exception.
        Heard::All | Heard::Deaf => Finding::All,
        Heard::NotAll | Heard::Nothing => Finding::NotAll,
    }
}
