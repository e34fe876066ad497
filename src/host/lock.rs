//! A mutex that a panic of its holder does not break, that a fork while another thread holds it does not break either, and that a
//! race checker understands.
//!
//! A child of fork has its parent's memory but only one of its threads: what another one held would be held for ever. So each
//! process of a line of forks has a mutex and data of its own, empty ones at first: what is kept in them belongs to threads, kernels and
//! driver handles of the parent. The other way, to take every lock before the fork and release it behind it, has the fork
//! wait for the holders. Those are inside the driver, which may wait for a kernel, which may wait for what the forking thread
//! does next; and a signal handler may fork while its own thread holds one.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use once_cell::race::OnceBox;

use crate::host::fork;

/// Data that one thread at a time has, in each process of a line of forks by itself.
#[derive(Debug, Default)]
pub struct Lock<T> {
    inner: Mutex<T>,
    order: Order,
    /// What a child of the process uses in its place. Made by the child.
    of_child: OnceBox<Lock<T>>,
}

/// How many forks lie between this process and the one that loaded the library, as far as they were noted.
static FORKS: AtomicUsize = AtomicUsize::new(0);

/// Called before the first lock is taken. Without a lock itself, so threads that come together may all register: nothing changes
/// when a fork counts twice.
fn watch_forks() {
    static ARE_WATCHED: AtomicBool = AtomicBool::new(false);
    // Where there is no memory for that now, the next one tries again. The table of communicators says so in the log.
    if !ARE_WATCHED.load(Ordering::Acquire) && fork::in_children(leave_all_to_parent) {
        ARE_WATCHED.store(true, Ordering::Release);
    }
}

/// In a child of fork: whatever is locked, and what is kept there, is the parent's.
extern "C" fn leave_all_to_parent() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// The data, for as long as this lives.
#[derive(Debug)]
pub struct Held<'a, T> {
    // Dropped in this order: the mark is set while the data are still held.
    _mark: Mark<'a>,
    data: MutexGuard<'a, T>,
}

impl<T: Default> Lock<T> {
    /// Of this, for a static. Made later, in a child of fork, it would begin with empty data there: what is given here is the
    /// first process's.
    pub const fn new(data: T) -> Self {
        Self { inner: Mutex::new(data), order: Order::new(), of_child: OnceBox::new() }
    }

    /// Waits for it. What a holder that panicked left behind is as good as any: every change of ours is one step.
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
