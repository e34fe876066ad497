//! The order of a communicator's eager operations across streams. (For those in graphs:
//! [`crate::comm::run::graph_order`].)
//!
//! A stream orders the operations on it. An operation on another stream than the previous one waits for the previous
//! one. As long as a communicator is used on one stream, no event is recorded: it would cost a driver call and keep
//! the next launch from starting early.
//!
//! At the first change of streams, the earlier stream may have been destroyed, or may be in a capture. So it is not
//! touched. Instead a kernel on the new stream waits until the count of blocks says that the earlier launches have
//! ended. From then on every operation records an event after itself, and the next one waits for it, on whatever
//! stream. The waiting kernel itself is not counted. So the event is recorded right after it, because the launch that
//! follows may fail.
//!
//! Streams are distinguished by their handles. The per-thread default streams share one handle and are distinguished
//! by their threads. The driver gives a destroyed stream's handle to the next stream, even while work of the first
//! still runs. Such a second stream is mistaken for the first. (Its id would tell, but costs 0.8 us a call on an
//! H200, driver 580.159.) The result is right all the same, since every launch waits for its own ticket
//! (kernels/device/epoch.h). But a launch that waits for its ticket occupies its whole grid, where a waiting kernel
//! occupies one warp and an event nothing. Enough waiting launches leave no room for the one whose ticket comes
//! first. So handles are trusted only until the first change of streams.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::gpu::driver::{Driver, DriverResult};
use crate::gpu::{CUevent, CUstream};
use crate::host::thread;

/// The stream on which an operation was enqueued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamKey {
    stream: CUstream,
    /// Distinguishes per-thread default streams.
    thread: usize,
}

impl StreamKey {
    #[inline]
    fn new(stream: CUstream) -> Self {
        const PER_THREAD: usize = 2;
        let thread = if stream as usize == PER_THREAD { thread::number() } else { 0 };
        Self { stream, thread }
    }
}

/// The order of the eager lane. Used by one thread at a time, as NCCL demands for a communicator.
#[derive(Debug)]
pub struct StreamOrder {
    event: CUevent,
    /// The stream of the last operation. None: there was none yet.
    last: Cell<Option<StreamKey>>,
    /// Every operation records the event after itself.
    records: Cell<bool>,
    /// A waiting kernel was enqueued, and the event could not be recorded after it; or a resumption failed half-way.
    is_lost: AtomicBool,
}

impl StreamOrder {
    /// Makes the event in the current context.
    pub fn new(driver: &Driver) -> DriverResult<Self> {
        Ok(Self {
            event: new_event(driver)?,
            last: Cell::new(None),
            records: Cell::new(false),
            is_lost: AtomicBool::new(false),
        })
    }

    /// Call before an operation is enqueued on `stream`. `await_launches` makes `stream` wait until the launches of
    /// this lane have ended. Returns the key for [`Self::after`].
    #[inline]
    pub fn before(
        &self,
        driver: &Driver,
        stream: CUstream,
        await_launches: impl FnOnce() -> DriverResult<()>,
    ) -> DriverResult<StreamKey> {
        let key = StreamKey::new(stream);
        if self.records.get() {
            self.await_last(driver, stream)?;
        } else if self.last.get().is_some_and(|last| last != key) {
            await_launches()?;
            self.record(driver, stream).inspect_err(|_| self.lose())?;
            self.records.set(true);
        }
        Ok(key)
    }

    /// Call after an operation was enqueued on the stream of `key`.
    #[inline]
    pub fn after(&self, driver: &Driver, key: StreamKey) -> DriverResult<()> {
        self.last.set(Some(key));
        if self.records.get() { self.record(driver, key.stream) } else { Ok(()) }
    }

    fn await_last(&self, driver: &Driver, stream: CUstream) -> DriverResult<()> {
        // SAFETY: an event of ours and a stream of the application.
        driver.check("cuStreamWaitEvent", unsafe { (driver.stream_wait_event)(stream, self.event, 0) })
    }

    fn record(&self, driver: &Driver, stream: CUstream) -> DriverResult<()> {
        // SAFETY: as above.
        driver.check("cuEventRecord", unsafe { (driver.event_record)(self.event, stream) })
    }

    /// Whether the waiting kernel, which is not counted, has ended. Any thread may ask; it does not wait.
    pub fn is_over(&self, driver: &Driver) -> DriverResult<bool> {
        const NOT_READY: i32 = 600;
        if self.is_lost() {
            return Ok(false);
        }
        // SAFETY: an event of ours.
        match unsafe { (driver.event_query)(self.event) } {
            NOT_READY => Ok(false),
            code => driver.check("cuEventQuery", code).map(|()| true),
        }
    }

    /// Something was enqueued, and nothing can tell when it ends.
    pub fn lose(&self) {
        self.is_lost.store(true, Ordering::Relaxed);
    }

    /// Whether something was enqueued that nothing can tell the end of.
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// Destroys the event.
    pub fn free(self, driver: &Driver) -> DriverResult<()> {
        // SAFETY: created in `new`.
        driver.check("cuEventDestroy", unsafe { (driver.event_destroy)(self.event) })
    }
}

/// An event without timing, in the current context.
pub fn new_event(driver: &Driver) -> DriverResult<CUevent> {
    const DISABLE_TIMING: u32 = 2;
    let mut event: CUevent = ptr::null_mut();
    // SAFETY: the out pointer is ours.
    driver.check("cuEventCreate", unsafe { (driver.event_create)(&mut event, DISABLE_TIMING) })?;
    Ok(event)
}
