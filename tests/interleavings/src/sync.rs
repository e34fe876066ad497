//! What the communicator table is made of here: loom's atomics, cells and locks.
//!
//! Two things are added. A value is registered with loom when it is first used, so that it can be made in a constant. And an
//! access that is sequentially consistent has a fence behind it where it stores, as compilers do it on x86: loom knows such
//! fences, and takes such accesses for acquire and release ones.

use std::sync::OnceLock;

use loom::sync::MutexGuard;
pub use std::sync::atomic::Ordering;

/// Orders that are weaker than written, for the tests that must find that they are too weak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weakness {
    None,
    /// Acquire and release where sequential consistency is written.
    NoTotalOrder,
    /// Relaxed where release is written.
    NoRelease,
}

std::thread_local! {
    // loom runs the threads of a model as coroutines of one thread.
    static WEAKNESS: std::cell::Cell<Weakness> = const { std::cell::Cell::new(Weakness::None) };
}

/// From now on, on this thread.
pub fn weaken(weakness: Weakness) {
    WEAKNESS.set(weakness);
}

fn fence_after_store(order: Ordering) {
    if order == Ordering::SeqCst && WEAKNESS.get() != Weakness::NoTotalOrder {
        loom::sync::atomic::fence(Ordering::SeqCst);
    }
}

fn of_load(order: Ordering) -> Ordering {
    if order == Ordering::SeqCst { Ordering::Acquire } else { order }
}

fn of_store(order: Ordering) -> Ordering {
    match order {
        Ordering::SeqCst => Ordering::Release,
        Ordering::Release if WEAKNESS.get() == Weakness::NoRelease => Ordering::Relaxed,
        other => other,
    }
}

fn of_exchange(order: Ordering) -> Ordering {
    match of_store(order) {
        Ordering::Release if order == Ordering::SeqCst => Ordering::AcqRel,
        other => other,
    }
}

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        #[derive(Debug)]
        pub struct $name {
            first: $value,
            registered: OnceLock<loom::sync::atomic::$name>,
        }

        #[allow(dead_code)]
        impl $name {
            pub const fn new(first: $value) -> Self {
                Self { first, registered: OnceLock::new() }
            }

            fn get(&self) -> &loom::sync::atomic::$name {
                self.registered.get_or_init(|| loom::sync::atomic::$name::new(self.first))
            }

            pub fn load(&self, order: Ordering) -> $value {
                self.get().load(of_load(order))
            }

            pub fn store(&self, value: $value, order: Ordering) {
                self.get().store(value, of_store(order));
                fence_after_store(order);
            }
        }
    };
}

atomic!(AtomicBool, bool);
atomic!(AtomicU8, u8);
atomic!(AtomicUsize, usize);

impl AtomicU8 {
    pub fn swap(&self, new: u8, order: Ordering) -> u8 {
        self.get().swap(new, order)
    }

    pub fn compare_exchange(&self, old: u8, new: u8, done: Ordering, failed: Ordering) -> Result<u8, u8> {
        self.get().compare_exchange(old, new, done, failed)
    }
}

impl AtomicUsize {
    pub fn fetch_add(&self, more: usize, order: Ordering) -> usize {
        let before = self.get().fetch_add(more, of_exchange(order));
        fence_after_store(order);
        before
    }

    pub fn fetch_sub(&self, less: usize, order: Ordering) -> usize {
        let before = self.get().fetch_sub(less, of_exchange(order));
        fence_after_store(order);
        before
    }
}

/// A cell that loom watches: an access that races with a change is an error.
#[derive(Debug)]
pub struct UnsafeCell<T> {
    inner: std::cell::UnsafeCell<T>,
    watched: OnceLock<loom::cell::UnsafeCell<()>>,
}

impl<T> UnsafeCell<T> {
    pub const fn new(inner: T) -> Self {
        Self { inner: std::cell::UnsafeCell::new(inner), watched: OnceLock::new() }
    }

    fn watched(&self) -> &loom::cell::UnsafeCell<()> {
        self.watched.get_or_init(|| loom::cell::UnsafeCell::new(()))
    }

    pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        self.watched().with(|_| read(self.inner.get()))
    }

    pub fn with_mut<R>(&self, change: impl FnOnce(*mut T) -> R) -> R {
        self.watched().with_mut(|_| change(self.inner.get()))
    }
}

/// As the library's lock.
#[derive(Debug)]
pub struct Lock<T> {
    registered: OnceLock<loom::sync::Mutex<T>>,
    inner: T,
}

impl<T: Copy> Lock<T> {
    pub const fn new(inner: T) -> Self {
        Self { registered: OnceLock::new(), inner }
    }

    pub fn hold(&self) -> MutexGuard<'_, T> {
        let registered = self.registered.get_or_init(|| loom::sync::Mutex::new(self.inner));
        registered.lock().expect("no holder panics")
    }
}
