//! The order of a communicator's operations on the device, across streams. (For those in graphs: [`crate::comm::run::graph_order`].)
//!
//! Operations on one stream are ordered by it. When an operation comes on another stream than the one before, it waits for it.
//! While a communicator is used from one stream only, no event is recorded: it would cost a driver call and keep the next launch from
//! starting early. At the first change of streams the earlier stream may be gone already, or in a capture, so it is not
//! touched: a kernel on the new stream waits for the count of blocks to say that the launches before are over. From then on every
//! operation waits for an event that the one before recorded behind itself, whatever their streams look like. No count tells when that
//! kernel is over, so the event is recorded behind it at once: the launch behind it may fail.
//!
//! Streams are told apart by their handles, and the per-thread default streams, which share one, by their threads. The driver gives the
//! handle of a destroyed stream to the next one that is made, also while work of the first still runs; such a second stream is
//! taken for the first (its id would tell, but costs 0.8 us a call on an H200, driver 580.159). The result is right all the same:
//! every operation waits for its turn itself (kernels/device/epoch.h). But it takes its whole grid for that, where a kernel or an event
//! would take a warp or nothing: enough of them, ready before an operation that has its turn first, would leave it no room. That
//! is why handles are trusted only until the first change.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::gpu::driver::{Driver, DriverResult};
use crate::gpu::{CUevent, CUstream};
use crate::host::thread;

/// Where an operation was enqueued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamKey {
    stream: CUstream,
    /// Tells per-thread default streams apart.
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

/// The order of the eager lane. Used by one thread at a time, as NCCL demands of a communicator.
#[derive(Debug)]
pub struct StreamOrder {
    event: CUevent,
    /// Of the last operation. None: none yet.
    last: Cell<Option<StreamKey>>,
    /// Every operation records the event behind itself.
    records: Cell<bool>,
    /// A kernel that waits was enqueued, and the event could not be recorded behind it.
    is_lost: AtomicBool,
}

impl StreamOrder {
    /// In the current context.
    pub fn new(driver: &Driver) -> DriverResult<Self> {
        Ok(Self {
            event: new_event(driver)?,
            last: Cell::new(None),
            records: Cell::new(false),
            is_lost: AtomicBool::new(false),
        })
    }

    /// Call before an operation is enqueued on `stream`. `await_launches` has `stream` wait until the launches of this lane are over.
    /// Returns where the operation is enqueued, for [`Self::after`].
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
            self.record(driver, stream).inspect_err(|_| self.is_lost.store(true, Ordering::Relaxed))?;
            self.records.set(true);
        }
        Ok(key)
    }

    /// Call after an operation was enqueued at `key`.
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

    /// Whether what was enqueued here and is not counted is over. Any thread may ask; nothing is waited for.
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

    /// Whether something was enqueued of which nobody can tell when it is over.
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// Gives the event back.
    pub fn free(self, driver: &Driver) -> DriverResult<()> {
        // SAFETY: created in `new`.
        driver.check("cuEventDestroy", unsafe { (driver.event_destroy)(self.event) })
    }
}

/// An event without a time, in the current context.
pub fn new_event(driver: &Driver) -> DriverResult<CUevent> {
    const DISABLE_TIMING: u32 = 2;
    let mut event: CUevent = ptr::null_mut();
    // SAFETY: the out pointer is ours.
    driver.check("cuEventCreate", unsafe { (driver.event_create)(&mut event, DISABLE_TIMING) })?;
    Ok(event)
}
