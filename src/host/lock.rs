//! A mutex that survives a panic of its holder, and a fork while another thread holds it, and that a race checker
//! understands.
//!
//! A child of fork has its parent's memory but only one of its threads, so a lock that another thread held would stay
//! held for ever. Therefore each process has its own mutex and its own data for each lock. In a child the data are
//! empty at first, since what the parent keeps there belongs to its threads, kernels and driver handles.
//!
//! The usual alternative is to take every lock before the fork and release it afterwards. It does not work here,
//! because the fork would wait for the holders. They are inside the driver, which may wait for a kernel, which may
//! wait for what the forking thread does next. A signal handler may also fork while its own thread holds a lock.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use once_cell::race::OnceBox;

use crate::host::fork;

/// Data that one thread at a time may use, separate in each process of a chain of forks.
#[derive(Debug, Default)]
pub struct Lock<T> {
    inner: Mutex<T>,
    order: Order,
    /// The lock that a child of this process uses instead. Made by the child.
    of_child: OnceBox<Lock<T>>,
}

/// How many forks lie between this process and the one that loaded the library, as far as they were noticed.
static FORKS: AtomicUsize = AtomicUsize::new(0);

/// Registers for forks. Called before a lock is taken. It uses no lock itself, so threads that come first together
/// may all register; a fork that is counted twice does no harm.
fn watch_forks() {
    static ARE_WATCHED: AtomicBool = AtomicBool::new(false);
    // If there is no memory to register now, the next call tries again. The communicator table logs such a failure.
    if !ARE_WATCHED.load(Ordering::Acquire) && fork::in_children(leave_all_to_parent) {
        ARE_WATCHED.store(true, Ordering::Release);
    }
}

/// In a child of fork: from now on uses the child's own locks and data.
extern "C" fn leave_all_to_parent() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// The data, locked for as long as this lives.
#[derive(Debug)]
pub struct Held<'a, T> {
    // Dropped in this order: the mark is set while the data are still held.
    _mark: Mark<'a>,
    data: MutexGuard<'a, T>,
}

impl<T: Default> Lock<T> {
    /// A lock with these data, for a static. In a child of fork it begins with default data.
    pub const fn new(data: T) -> Self {
        Self { inner: Mutex::new(data), order: Order::new(), of_child: OnceBox::new() }
    }

    /// Waits for the lock. The data are valid even after a holder panicked, because every change is one step.
    pub fn hold(&self) -> Held<'_, T> {
        watch_forks();
        let own =
            (0..FORKS.load(Ordering::Relaxed)).fold(self, |of_parent, _| of_parent.of_child.get_or_init(Box::default));
        let data = own.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Held { _mark: own.order.after(), data }
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
    /// Nothing: the mutex orders memory.
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

/// When a thread had to wait, it gets the mutex in code of the standard library that the race checker does not see.
/// So the order is repeated in code that it sees.
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
