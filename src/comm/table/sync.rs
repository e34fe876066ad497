//! What the side table is made of. The search over interleavings (`tests/interleavings`) builds the same sources with other ones.

pub use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

pub use crate::host::lock::Lock;

/// As `std`'s, used through closures.
#[derive(Debug)]
pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    /// With this in it.
    pub const fn new(inner: T) -> Self {
        Self(std::cell::UnsafeCell::new(inner))
    }

    /// To read it.
    #[inline(always)]
    pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// To change it.
    #[inline(always)]
    pub fn with_mut<R>(&self, change: impl FnOnce(*mut T) -> R) -> R {
        change(self.0.get())
    }
}
