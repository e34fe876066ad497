//! The primitives of the communicator table. `tests/interleavings` builds the same sources with loom's.

pub use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

pub use crate::host::lock::Lock;

/// As `std`'s, but accessed through closures.
#[derive(Debug)]
pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    /// A cell with this value.
    pub const fn new(inner: T) -> Self {
        Self(std::cell::UnsafeCell::new(inner))
    }

    /// Reads the value.
    #[inline(always)]
    pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Changes the value.
    #[inline(always)]
    pub fn with_mut<R>(&self, change: impl FnOnce(*mut T) -> R) -> R {
        change(self.0.get())
    }
}
