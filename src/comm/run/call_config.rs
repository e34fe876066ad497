//! The configuration of one call: ncclAllReduceConfig's last argument.
//!
//! NCCL asks that it be equal on all ranks, so it may decide whether a call is fast. Dime does a call whose
//! configuration asks for nothing that Dime lacks; any other goes to NCCL, which also reports what is wrong with one.
//! A limit of blocks is one that Dime can keep, if its launch has no more.

use std::ffi::{c_char, c_int};
use std::mem::{MaybeUninit, offset_of, size_of};
use std::ptr;

use crate::nccl::ncclCollConfig_t;

/// What NCCL_COLLCONFIG_INITIALIZER writes into `magic`.
const NCCL_API_MAGIC: u32 = 0xcafe_beef;
/// An int that is not set.
const UNDEFINED: c_int = c_int::MIN;
/// What every version of the struct has: size, magic, version.
const SHORTEST: usize = offset_of!(ncclCollConfig_t, ext);

/// A copy of a configuration, for a call that is kept in a group: the application's may be gone at the group's end.
#[derive(Debug)]
pub struct OwnConfig(Box<MaybeUninit<ncclCollConfig_t>>);

impl OwnConfig {
    /// Copies a configuration.
    ///
    /// # Safety
    /// Dime may do a call with it ([`most_blocks`]).
    pub unsafe fn copy(config: *const ncclCollConfig_t) -> Self {
        let mut copy = Box::new(MaybeUninit::<ncclCollConfig_t>::zeroed());
        // SAFETY: it has so many bytes, and no more than the struct.
        unsafe {
            ptr::copy_nonoverlapping(config.cast::<u8>(), copy.as_mut_ptr().cast(), (*config).size);
            // An empty text, which says the same and may be gone at the group's end. Where the configuration is shorter
            // than this field, nobody reads it.
            (&raw mut (*copy.as_mut_ptr()).algSelection).write(ptr::null());
        }
        Self(copy)
    }

    /// Its address, which does not change while it lives.
    pub fn address(&self) -> *const ncclCollConfig_t {
        self.0.as_ptr()
    }
}

/// The most blocks that a call with this configuration may have. None: NCCL has to do it.
///
/// # Safety
/// The configuration is NCCL's.
pub unsafe fn most_blocks(config: *const ncclCollConfig_t) -> Option<u32> {
    // SAFETY: the caller's contract; the size says which fields there are.
    unsafe {
        let size = (&raw const (*config).size).read();
        if !(SHORTEST..=size_of::<ncclCollConfig_t>()).contains(&size) || (*config).magic != NCCL_API_MAGIC {
            return None;
        }
        // A field that the caller did not know is not set.
        let has = |offset: usize, bytes: usize| size >= offset + bytes;
        let int = |offset: usize| {
            if has(offset, size_of::<c_int>()) {
                config.cast::<u8>().add(offset).cast::<c_int>().read()
            } else {
                UNDEFINED
            }
        };
        let pointer = |offset: usize| {
            if has(offset, size_of::<*const c_char>()) {
                config.cast::<u8>().add(offset).cast::<*const c_char>().read()
            } else {
                ptr::null()
            }
        };
        let selection = pointer(offset_of!(ncclCollConfig_t, algSelection));
        let asks_for_nothing_else = pointer(offset_of!(ncclCollConfig_t, ext)).is_null()
            && int(offset_of!(ncclCollConfig_t, minCTAs)) == UNDEFINED
            && int(offset_of!(ncclCollConfig_t, cgaClusterSize)) == UNDEFINED
            && matches!(int(offset_of!(ncclCollConfig_t, CTAPolicy)), UNDEFINED | 0)
            && (selection.is_null() || *selection == 0)
            && pointer(offset_of!(ncclCollConfig_t, launchCompletionEvent)).is_null();
        match int(offset_of!(ncclCollConfig_t, maxCTAs)) {
            _ if !asks_for_nothing_else => None,
            UNDEFINED => Some(u32::MAX),
            most => u32::try_from(most).ok().filter(|most| *most > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn default() -> ncclCollConfig_t {
        ncclCollConfig_t {
            size: size_of::<ncclCollConfig_t>(),
            magic: NCCL_API_MAGIC,
            version: 23203,
            ext: ptr::null_mut(),
            minCTAs: UNDEFINED,
            maxCTAs: UNDEFINED,
            nvlsCTAs: UNDEFINED,
            cgaClusterSize: UNDEFINED,
            algSelection: ptr::null(),
            forceAlgSelection: 1,
            CTAPolicy: UNDEFINED,
            userProfilerTag: 0,
            launchCompletionEvent: ptr::null_mut(),
        }
    }

    fn with(change: impl FnOnce(&mut ncclCollConfig_t)) -> Option<u32> {
        let mut config = default();
        change(&mut config);
        // SAFETY: a configuration.
        unsafe { most_blocks(&config) }
    }

    #[test]
    fn a_configuration_that_asks_for_nothing_is_ours() {
        assert_eq!(with(|_| ()), Some(u32::MAX));
        assert_eq!(with(|config| config.maxCTAs = 16), Some(16));
        // They do not concern Dime's kernels.
        assert_eq!(
            with(|config| (config.nvlsCTAs, config.userProfilerTag, config.forceAlgSelection) = (4, 7, 0)),
            Some(u32::MAX)
        );
        assert_eq!(with(|config| (config.algSelection, config.CTAPolicy) = (c"".as_ptr(), 0)), Some(u32::MAX));
        // NCCL 2.31 has no event.
        let before_events = offset_of!(ncclCollConfig_t, launchCompletionEvent);
        let event = ptr::dangling_mut::<u64>().cast();
        assert_eq!(with(|config| (config.size, config.launchCompletionEvent) = (before_events, event)), Some(u32::MAX));
    }

    #[test]
    fn one_that_asks_for_what_dime_lacks_or_is_wrong_goes_to_nccl() {
        let changes: [fn(&mut ncclCollConfig_t); 13] = [
            |config| config.size = 0,
            |config| config.size = SHORTEST - 1,
            |config| config.size += 8,
            |config| config.magic = 0,
            |config| config.ext = ptr::dangling_mut(),
            |config| config.minCTAs = 4,
            |config| config.maxCTAs = 0,
            |config| config.maxCTAs = -1,
            |config| config.cgaClusterSize = 2,
            |config| config.algSelection = c"ring".as_ptr(),
            |config| config.CTAPolicy = 1,
            |config| config.CTAPolicy = 2,
            |config| config.launchCompletionEvent = ptr::dangling_mut::<u64>().cast(),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            assert_eq!(with(change), None, "change {index}");
        }
    }

    #[test]
    fn a_copy_says_the_same() {
        let mut config = default();
        (config.maxCTAs, config.size) = (12, offset_of!(ncclCollConfig_t, launchCompletionEvent));
        let selection = [0 as c_char];
        config.algSelection = selection.as_ptr();
        // SAFETY: a configuration.
        let copy = unsafe { OwnConfig::copy(&config) };
        config.maxCTAs = 3;
        // SAFETY: configurations.
        assert_eq!(unsafe { (most_blocks(copy.address()), most_blocks(&config)) }, (Some(12), Some(3)));
        // SAFETY: zeroed, then copied into.
        let text = unsafe { (*copy.address()).algSelection };
        assert!(text.is_null(), "the application's text may be gone");
    }
}
