//! Whether a communicator's graphs are ordered against each other: what the application declared when it made the
//! communicator (`graphUsageMode` of ncclConfig_t).
//!
//! In mode 2, NCCL's default, graphs of a communicator may be launched beside one another and beside eager calls, so
//! [`crate::comm::run::graph_order`] orders them by event nodes. In modes 0 and 1 the application promises not to do
//! that. Their graphs get no event nodes, so they may be bodies of conditional nodes, which cannot contain any. As in
//! NCCL, a communicator that is made of another one without a configuration inherits that one's mode, and
//! NCCL_GRAPH_MIXING_SUPPORT overrides both. Ranks may differ in the mode, because the nodes order only what a rank
//! launches itself.
//!
//! The configuration belongs to the application and is gone after the call. So its mode is kept by handle until the
//! setup. For a non-blocking split or shrink NCCL writes the handle later, from a thread of its own, so the mode is
//! kept without a handle. A handle that is not in the list must belong to one of those. If their modes differ, its
//! graphs are ordered, which is right in any mode.

use std::ffi::c_int;
use std::mem::{offset_of, size_of};

use crate::comm::run::group;
use crate::host::lock::Lock;
use crate::nccl::{ncclComm_t, ncclConfig_t, ncclInProgress, ncclResult_t, ncclSuccess};

/// The first version of NCCL's header that has the field.
const FIRST_VERSION: u32 = 22900;

#[derive(Default)]
struct Known {
    /// Handles, and whether their graphs are ordered.
    of_handles: Vec<(usize, bool)>,
    /// The same for communicators whose handles are not known.
    without_handle: Vec<bool>,
}

static KNOWN: Lock<Known> = Lock::new(Known { of_handles: Vec::new(), without_handle: Vec::new() });

/// The declared mode of a communicator that NCCL is asked to make.
#[must_use]
pub struct GraphUsage {
    mixes: bool,
    /// It is a part of another communicator, so NCCL writes its handle last.
    is_part: bool,
}

/// Communicators that are made in a group that is still open.
pub struct Pending {
    usage: GraphUsage,
    out: *const ncclComm_t,
    count: usize,
}

impl GraphUsage {
    /// The mode of a new communicator.
    ///
    /// # Safety
    /// The configuration is NCCL's, or NULL.
    pub unsafe fn of(config: *const ncclConfig_t) -> Self {
        // SAFETY: the caller's contract.
        Self { mixes: unsafe { declared(config) }.unwrap_or(true), is_part: false }
    }

    /// The mode of a part of another communicator.
    ///
    /// # Safety
    /// As [`Self::of`].
    pub unsafe fn of_part(parent: ncclComm_t, config: *const ncclConfig_t) -> Self {
        // SAFETY: the caller's contract.
        Self { is_part: true, ..unsafe { Self::of_grown(parent, config) } }
    }

    /// The mode of a grown communicator. `parent`: the communicator in which this rank was, or NULL if it joins.
    ///
    /// # Safety
    /// As [`Self::of`].
    pub unsafe fn of_grown(parent: ncclComm_t, config: *const ncclConfig_t) -> Self {
        if config.is_null() && !parent.is_null() {
            return Self { mixes: KNOWN.hold().mixes(parent as usize), is_part: false };
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
        let pending = Pending { usage: self, out, count };
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
        let Self { usage: GraphUsage { mixes, is_part }, out, count } = self;
        match result {
            ncclInProgress if is_part => KNOWN.hold().without_handle.push(mixes),
            ncclSuccess | ncclInProgress => {
                // SAFETY: NCCL was given the pointer, valid for as long as this takes, and has written it.
                let handles = unsafe { std::slice::from_raw_parts(out, count) };
                handles.iter().for_each(|handle| KNOWN.hold().keep(*handle as usize, mixes));
            }
            _ => {}
        }
    }
}

impl Known {
    fn keep(&mut self, handle: usize, mixes: bool) {
        self.of_handles.retain(|(known, _)| *known != handle);
        if handle != 0 {
            self.of_handles.push((handle, mixes));
        }
    }

    fn mixes(&mut self, handle: usize) -> bool {
        if let Some((_, mixes)) = self.of_handles.iter().find(|(known, _)| *known == handle) {
            return *mixes;
        }
        let Some(&mixes) = self.without_handle.first() else { return true };
        if self.without_handle.contains(&!mixes) {
            return true;
        }
        self.without_handle.pop();
        self.keep(handle, mixes);
        mixes
    }
}

/// Whether the graphs of a communicator are ordered. `by_environment`: what the environment says, if anything. Takes
/// time: only for the setup.
pub fn mixes(handle: ncclComm_t, by_environment: Option<bool>) -> bool {
    by_environment.unwrap_or_else(|| KNOWN.hold().mixes(handle as usize))
}

/// The communicator ends.
pub fn forget(handle: ncclComm_t) {
    KNOWN.hold().of_handles.retain(|(known, _)| *known != handle as usize);
}

/// Whether a configuration asks for ordered graphs; it does unless it says otherwise. None: there is no
/// configuration.
///
/// # Safety
/// The configuration is NCCL's, or NULL.
unsafe fn declared(config: *const ncclConfig_t) -> Option<bool> {
    const OFFSET: usize = offset_of!(ncclConfig_t, graphUsageMode);
    // Every version of the struct begins with size, magic and version.
    const SHORTEST: usize = offset_of!(ncclConfig_t, blocking);
    // SAFETY: the caller's contract; the size says which fields there are.
    unsafe {
        let size = *config.cast::<usize>().as_ref()?;
        if size < SHORTEST || size < OFFSET + size_of::<c_int>() || (*config).version < FIRST_VERSION {
            return Some(true);
        }
        Some(!matches!((*config).graphUsageMode, 0 | 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comm(handle: usize) -> ncclComm_t {
        handle as ncclComm_t
    }

    /// The mode that is read from a configuration with this size, version and mode.
    fn declared_by(size: usize, version: u32, mode: c_int) -> Option<bool> {
        let mut bytes = [0_u64; size_of::<ncclConfig_t>() / 8];
        let config = bytes.as_mut_ptr().cast::<ncclConfig_t>();
        // SAFETY: as large as a configuration, and as aligned.
        unsafe {
            (*config).size = size;
            (*config).version = version;
            (*config).graphUsageMode = mode;
            declared(config)
        }
    }

    #[test]
    fn the_mode_is_read_only_where_the_configuration_has_it() {
        const END: usize = offset_of!(ncclConfig_t, graphUsageMode) + 4;
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
            assert_eq!(declared_by(size, version, mode), Some(mixes), "{size} {version} {mode}");
        }
    }

    #[test]
    fn the_environment_wins_where_it_says_anything() {
        let handle = comm(0x7200_0000);
        KNOWN.hold().keep(handle as usize, false);
        assert_eq!([Some(true), Some(false), None].map(|said| mixes(handle, said)), [true, false, false]);
        forget(handle);
    }

    #[test]
    fn a_handle_that_nobody_knows_is_one_of_those_that_came_without() {
        let mut known = Known::default();
        assert!(known.mixes(0x10), "nothing is declared");
        known.without_handle = vec![false, false];
        assert!(!known.mixes(0x11) && !known.mixes(0x11));
        assert_eq!(known.without_handle, [false]);
        known.without_handle.push(true);
        assert!(known.mixes(0x12), "it may be either");
        known.keep(0x13, true);
        known.without_handle = vec![false];
        assert!(known.mixes(0x13), "it is known");
    }

    #[test]
    fn a_part_without_a_configuration_has_the_mode_of_its_parent() {
        let (parent, part, other) = (0x7100_0000, 0x7100_0010, 0x7100_0020);
        let mut out = comm(parent);
        // SAFETY: the out pointers are ours, NULL is allowed.
        unsafe {
            GraphUsage { mixes: false, is_part: false }.made(&out, 1, ncclSuccess);
            out = comm(part);
            GraphUsage::of_part(comm(parent), std::ptr::null()).made(&out, 1, ncclSuccess);
            out = comm(other);
            GraphUsage::of(std::ptr::null()).made(&out, 1, ncclSuccess);
        }
        // SAFETY: NULL is allowed.
        let [grown, joined] =
            [parent, 0].map(|from| unsafe { GraphUsage::of_grown(comm(from), std::ptr::null()) }.mixes);
        assert!(!grown && joined, "a rank that joins has no parent");
        let of = |handle| KNOWN.hold().mixes(handle);
        assert_eq!([parent, part, other].map(of), [false, false, true]);
        [parent, part, other].into_iter().for_each(|handle| forget(comm(handle)));
        assert!(KNOWN.hold().of_handles.iter().all(|(handle, _)| ![parent, part, other].contains(handle)));
    }
}
