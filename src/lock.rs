//! A mutex that a panic of its holder does not break, and that a race checker understands.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard};

/// Data that one thread at a time has.
#[derive(Debug, Default)]
pub struct Lock<T> {
    inner: Mutex<T>,
    order: Order,
}

/// The data, for as long as this lives.
#[derive(Debug)]
pub struct Held<'a, T> {
    // Dropped in this order: the mark is set while the data are still held.
    _mark: Mark<'a>,
    data: MutexGuard<'a, T>,
}

impl<T> Lock<T> {
    /// Of this.
    pub const fn new(data: T) -> Self {
        Self { inner: Mutex::new(data), order: Order::new() }
    }

    /// Waits for it. What a holder that panicked left behind is as good as any: every change of ours is one step.
    pub fn hold(&self) -> Held<'_, T> {
        let data = self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Held { _mark: self.order.after(), data }
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.data
    }
}

use order::{Mark, Order};

#[cfg(not(dime_race_checker))]
mod order {
    /// Nothing: the mutex orders.
    #[derive(Debug, Default)]
    pub struct Order;

    #[derive(Debug)]
    pub struct Mark<'a>(std::marker::PhantomData<&'a Order>);

    impl Order {
        pub const fn new() -> Self {
            Self
        }

        pub fn after(&self) -> Mark<'_> {
            Mark(std::marker::PhantomData)
        }
    }
}

/// A thread that had to wait gets the mutex in code of the standard library that is not watched. So the order is shown once
/// more, in code that is.
#[cfg(dime_race_checker)]
mod order {
    use std::sync::atomic::{AtomicBool, Ordering};

    #[derive(Debug, Default)]
    pub struct Order(AtomicBool);

    #[derive(Debug)]
    pub struct Mark<'a>(&'a Order);

    impl Order {
        pub const fn new() -> Self {
            Self(AtomicBool::new(false))
        }

        pub fn after(&self) -> Mark<'_> {
            self.0.load(Ordering::Acquire);
            Mark(self)
        }
    }

    impl Drop for Mark<'_> {
        fn drop(&mut self) {
            self.0.0.store(true, Ordering::Release);
        }
    }
}
