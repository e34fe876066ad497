//! What the application declared about a communicator when it made it, in ncclConfig_t: whether its graphs are ordered
//! against each other (`graphUsageMode`), and how many blocks a kernel may have (`maxCTAs`).
//!
//! In mode 2, NCCL's default, graphs of a communicator may be launched beside one another and beside eager calls, so
//! [`crate::comm::run::graph_order`] orders them by event nodes. In modes 0 and 1 the application promises not to do
//! that. Their graphs get no event nodes, so they may be bodies of conditional nodes, which cannot contain any. Ranks
//! may differ in the mode, because the nodes order only what a rank launches itself. In the number of blocks they need
//! not differ: the setup takes the smallest.
//!
//! As in NCCL, a communicator that is made of another one without a configuration inherits that one's, and the
//! environment overrides both (NCCL_GRAPH_MIXING_SUPPORT, NCCL_MAX_CTAS).
//!
//! The configuration belongs to the application and is gone after the call. So what it says is kept by handle until the
//! communicator's end. For a non-blocking split or shrink NCCL writes the handle later, from a thread of its own; until
//! `beacon` finds it there, what is declared is kept by the address.

use std::ffi::c_int;
use std::mem::{offset_of, size_of};
use std::num::NonZeroU16;

use crate::comm::run::{group, late_handle};
use crate::comm::setup::nccl_variables::NcclVariables;
use crate::host::lock::Lock;
use crate::nccl::{ncclComm_t, ncclConfig_t, ncclInProgress, ncclResult_t, ncclSuccess};

/// The first version of NCCL's header that has `graphUsageMode`.
const FIRST_VERSION: u32 = 22900;

/// What is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Graphs are ordered against each other.
    pub mixes_graphs: bool,
    /// The most blocks of a kernel, if that is limited.
    pub most_ctas: Option<NonZeroU16>,
}

/// Of a communicator without a configuration.
const DEFAULT: Declared = Declared { mixes_graphs: true, most_ctas: None };

#[derive(Default)]
struct Known {
    of_handles: Vec<(usize, Declared)>,
    /// Of communicators whose handles are not known yet, by the address to which NCCL writes them.
    of_addresses: Vec<(usize, Declared)>,
}

static KNOWN: Lock<Known> = Lock::new(Known { of_handles: Vec::new(), of_addresses: Vec::new() });

/// What is declared about a communicator that NCCL is asked to make.
#[must_use]
pub struct Declaration {
    declared: Declared,
    /// It is a part of another communicator, so NCCL writes its handle last.
    is_part: bool,
}

/// Communicators that are made in a group that is still open.
pub struct Pending {
    declaration: Declaration,
    out: *const ncclComm_t,
    count: usize,
}

impl Declaration {
    /// Of a new communicator.
    ///
    /// # Safety
    /// The configuration is NCCL's, or NULL.
    pub unsafe fn of(config: *const ncclConfig_t) -> Self {
        // SAFETY: the caller's contract.
        Self { declared: unsafe { declared(config) }.unwrap_or(DEFAULT), is_part: false }
    }

    /// Of a part of another communicator.
    ///
    /// # Safety
    /// As [`Self::of`].
    pub unsafe fn of_part(parent: ncclComm_t, config: *const ncclConfig_t) -> Self {
        // SAFETY: the caller's contract.
        Self { is_part: true, ..unsafe { Self::of_grown(parent, config) } }
    }

    /// Of a grown communicator. `parent`: the communicator in which this rank was, or NULL if it joins.
    ///
    /// # Safety
    /// As [`Self::of`].
    pub unsafe fn of_grown(parent: ncclComm_t, config: *const ncclConfig_t) -> Self {
        if config.is_null() && !parent.is_null() {
            return Self { declared: KNOWN.hold().of(parent as usize), is_part: false };
        }
        // SAFETY: the caller's contract.
        unsafe { Self::of(config) }
    }

    /// Call after NCCL was asked for `count` communicators and returned `result`.
    ///
    /// # Safety
    /// `out` is the pointer that NCCL was given for their handles.
    pub unsafe fn made(self, out: *const ncclComm_t, count: usize, result: ncclResult_t) {
        if out.is_null() || (result != ncclSuccess && result != ncclInProgress) {
            return;
        }
        let pending = Pending { declaration: self, out, count };
        if group::is_open() {
            group::when_made(move |result| pending.group_ended(result));
        } else {
            pending.group_ended(result);
        }
    }
}

impl Pending {
    /// Call after the outermost end of the group, which returned `result`.
    pub fn group_ended(self, result: ncclResult_t) {
        let Self { declaration: Declaration { declared, is_part }, out, count } = self;
        if result != ncclSuccess && result != ncclInProgress {
            return;
        }
        for index in 0..count {
            let out = out.wrapping_add(index);
            // SAFETY: NCCL was given the pointer, valid for as long as this takes. It has written it, or will.
            let handle = unsafe { late_handle::read(out) };
            if handle.is_null() && is_part && result == ncclInProgress {
                KNOWN.hold().keep_by_address(out as usize, declared);
            } else {
                KNOWN.hold().keep(handle as usize, declared);
            }
        }
    }
}

impl Known {
    fn keep(&mut self, handle: usize, declared: Declared) {
        self.of_handles.retain(|(known, _)| *known != handle);
        if handle != 0 {
            self.of_handles.push((handle, declared));
        }
    }

    /// An address that is given to NCCL again holds no earlier handle any more.
    fn keep_by_address(&mut self, out: usize, declared: Declared) {
        self.of_addresses.retain(|(known, _)| *known != out);
        self.of_addresses.push((out, declared));
    }

    fn found(&mut self, out: usize, handle: usize) {
        if let Some(index) = self.of_addresses.iter().position(|(known, _)| *known == out) {
            let (_, declared) = self.of_addresses.swap_remove(index);
            self.keep(handle, declared);
        }
    }

    fn of(&self, handle: usize) -> Declared {
        self.of_handles.iter().find(|(known, _)| *known == handle).map_or(DEFAULT, |(_, declared)| *declared)
    }
}

/// NCCL has written a handle to this address.
pub fn found(out: *const ncclComm_t, handle: ncclComm_t) {
    KNOWN.hold().found(out as usize, handle as usize);
}

/// What is declared about a communicator, by the application or by NCCL's variables. Takes time: only for the setup.
pub fn of(handle: ncclComm_t, variables: &NcclVariables) -> Declared {
    let declared = KNOWN.hold().of(handle as usize);
    Declared {
        mixes_graphs: variables.mixes_graphs().unwrap_or(declared.mixes_graphs),
        most_ctas: variables.most_ctas().or(declared.most_ctas),
    }
}

/// The communicator ends.
pub fn forget(handle: ncclComm_t) {
    KNOWN.hold().of_handles.retain(|(known, _)| *known != handle as usize);
}

/// What a configuration says. None: there is none.
///
/// # Safety
/// The configuration is NCCL's, or NULL.
unsafe fn declared(config: *const ncclConfig_t) -> Option<Declared> {
    // Every version of the struct begins with size, magic and version.
    const SHORTEST: usize = offset_of!(ncclConfig_t, blocking);
    // SAFETY: the caller's contract; the size says which fields there are.
    unsafe {
        let size = *config.cast::<usize>().as_ref()?;
        let has = |offset: usize| size >= SHORTEST && size >= offset + size_of::<c_int>();
        let has_mode = has(offset_of!(ncclConfig_t, graphUsageMode)) && (*config).version >= FIRST_VERSION;
        let has_ctas = has(offset_of!(ncclConfig_t, maxCTAs));
        // Numbers below 1 are unset, or NCCL refuses them.
        let most_ctas = if has_ctas { u16::try_from((*config).maxCTAs).ok().and_then(NonZeroU16::new) } else { None };
        Some(Declared { mixes_graphs: !(has_mode && matches!((*config).graphUsageMode, 0 | 1)), most_ctas })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comm(handle: usize) -> ncclComm_t {
        handle as ncclComm_t
    }

    fn ordered(mixes_graphs: bool) -> Declared {
        Declared { mixes_graphs, most_ctas: None }
    }

    /// What is read from a configuration with this size, version, mode and number of blocks.
    fn declared_by(size: usize, version: u32, mode: c_int, most_ctas: c_int) -> (bool, Option<u16>) {
        let mut bytes = [0_u64; size_of::<ncclConfig_t>() / 8];
        let config = bytes.as_mut_ptr().cast::<ncclConfig_t>();
        // SAFETY: as large as a configuration, and as aligned.
        let declared = unsafe {
            (*config).size = size;
            (*config).version = version;
            (*config).graphUsageMode = mode;
            (*config).maxCTAs = most_ctas;
            declared(config)
        };
        let declared = declared.expect("there is one");
        (declared.mixes_graphs, declared.most_ctas.map(NonZeroU16::get))
    }

    #[test]
    fn fields_are_read_only_where_the_configuration_has_them() {
        const END: usize = offset_of!(ncclConfig_t, graphUsageMode) + 4;
        const END_OF_CTAS: usize = offset_of!(ncclConfig_t, maxCTAs) + 4;
        const UNDEFINED: c_int = c_int::MIN;
        // SAFETY: NULL is allowed.
        assert_eq!(unsafe { declared(std::ptr::null()) }, None);
        for (size, version, mode, mixes) in [
            (END, 22900, 0, false),
            (END, 22900, 1, false),
            (END, 23200, 2, true),
            (END, 23200, UNDEFINED, true),
            (END - 4, 22900, 0, true),
            (END, 22809, 0, true),
            (0, 22900, 0, true),
        ] {
            assert_eq!(declared_by(size, version, mode, UNDEFINED), (mixes, None), "{size} {version} {mode}");
        }
        for (size, ctas, most) in [
            (END_OF_CTAS, 8, Some(8)),
            (END, 1, Some(1)),
            (END_OF_CTAS - 4, 8, None),
            (0, 8, None),
            (END, 0, None),
            (END, -1, None),
            (END, UNDEFINED, None),
            (END, 1 << 20, None),
        ] {
            assert_eq!(declared_by(size, 21700, 2, ctas), (true, most), "{size} {ctas}");
        }
    }

    #[test]
    fn the_environment_wins_where_it_says_anything() {
        let handle = comm(0x7200_0000);
        let four = NonZeroU16::new(4);
        KNOWN.hold().keep(handle as usize, Declared { mixes_graphs: false, most_ctas: four });
        let with = |name: &str, value: &str| of(handle, &NcclVariables::of_text(&[(name, value)]));
        assert_eq!(with("NCCL_MAX_CTAS", "16"), Declared { mixes_graphs: false, most_ctas: NonZeroU16::new(16) });
        assert_eq!(with("NCCL_GRAPH_MIXING_SUPPORT", "1"), Declared { mixes_graphs: true, most_ctas: four });
        assert_eq!(with("NCCL_MAX_CTAS", ""), Declared { mixes_graphs: false, most_ctas: four });
        forget(handle);
    }

    #[test]
    fn a_handle_that_nccl_writes_later_is_found_by_its_address() {
        let few = Declared { mixes_graphs: true, most_ctas: NonZeroU16::new(2) };
        let mut known = Known::default();
        known.keep_by_address(0x8, few);
        known.keep_by_address(0x9, ordered(false));
        assert_eq!(known.of(0x10), DEFAULT, "it is neither");
        known.found(0x9, 0x11);
        known.found(0x7, 0x12);
        assert_eq!([0x11, 0x12].map(|handle| known.of(handle)), [ordered(false), DEFAULT]);
        known.keep_by_address(0x8, ordered(true));
        known.found(0x8, 0x13);
        assert_eq!(known.of(0x13), ordered(true), "the address was given to NCCL again");
        assert!(known.of_addresses.is_empty());
    }

    #[test]
    fn a_part_whose_handle_nccl_has_written_already_is_known_by_it() {
        let few = Declared { mixes_graphs: true, most_ctas: NonZeroU16::new(2) };
        let mut out = comm(0x7300_0000);
        // SAFETY: the out pointer is ours, and lives on.
        unsafe { Declaration { declared: few, is_part: true }.made(&out, 1, ncclInProgress) };
        assert_eq!(KNOWN.hold().of(0x7300_0000), few);
        out = std::ptr::null_mut();
        // SAFETY: as above.
        unsafe { Declaration { declared: few, is_part: true }.made(&out, 1, ncclInProgress) };
        out = comm(0x7300_0010);
        assert_eq!(KNOWN.hold().of(0x7300_0010), DEFAULT, "NCCL writes it now");
        found(&out, out);
        assert_eq!(KNOWN.hold().of(0x7300_0010), few);
        [0x7300_0000, 0x7300_0010].into_iter().for_each(|handle| forget(comm(handle)));
    }

    #[test]
    fn a_part_without_a_configuration_has_what_its_parent_declared() {
        let (parent, part, other) = (0x7100_0000, 0x7100_0010, 0x7100_0020);
        let few = Declared { mixes_graphs: false, most_ctas: NonZeroU16::new(3) };
        let mut out = comm(parent);
        // SAFETY: the out pointers are ours, NULL is allowed.
        unsafe {
            Declaration { declared: few, is_part: false }.made(&out, 1, ncclSuccess);
            out = comm(part);
            Declaration::of_part(comm(parent), std::ptr::null()).made(&out, 1, ncclSuccess);
            out = comm(other);
            Declaration::of(std::ptr::null()).made(&out, 1, ncclSuccess);
        }
        // SAFETY: NULL is allowed.
        let [grown, joined] =
            [parent, 0].map(|from| unsafe { Declaration::of_grown(comm(from), std::ptr::null()) }.declared);
        assert_eq!((grown, joined), (few, DEFAULT), "a rank that joins has no parent");
        let of = |handle| KNOWN.hold().of(handle);
        assert_eq!([parent, part, other].map(of), [few, few, DEFAULT]);
        [parent, part, other].into_iter().for_each(|handle| forget(comm(handle)));
        assert!(KNOWN.hold().of_handles.iter().all(|(handle, _)| ![parent, part, other].contains(handle)));
    }
}
