//! Counters of the whole process: operations by kernel, forwarded ones by reason.
//!
//! Relaxed atomics: each counter is exact, several read together need not be of one moment.

use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes the counters and the list of their names from the same lines.
macro_rules! counters {
    ($(#[doc = $doc:literal] $name:ident;)*) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counter {
            $(#[doc = $doc] $name),*
        }

        const NAMES: &[&CStr] = &[$(
            match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => unreachable!(),
            }
        ),*];
    };
}

counters! {
    /// All-reduces done by this kernel.
    one_shot_ll;
    /// All-reduces done by this kernel.
    one_shot_sentinel;
    /// All-reduces done by this kernel.
    two_shot_ll;
    /// All-reduces done by this kernel.
    two_shot_sentinel;
    /// All-reduces done by this kernel.
    two_shot_bulk;
    /// All-reduces forwarded because this build holds no kernels.
    forward_no_kernels;
}

static VALUES: [AtomicU64; NAMES.len()] = [const { AtomicU64::new(0) }; NAMES.len()];

/// Counts one.
#[inline]
pub fn count(counter: Counter) {
    VALUES[counter as usize].fetch_add(1, Ordering::Relaxed);
}

/// Name of a counter by its index. None past the last.
pub fn name(index: usize) -> Option<&'static CStr> {
    NAMES.get(index).copied()
}

/// Value of a counter by its index. None past the last.
pub fn value(index: usize) -> Option<u64> {
    VALUES.get(index).map(|value| value.load(Ordering::Relaxed))
}
