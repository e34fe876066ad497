//! The order of a communicator's operations on the device, across streams.
//!
//! Operations on one stream are ordered by it. When an operation comes on another stream than the one before, it waits for it.
//! While a communicator is used from one stream only, no event is recorded: it would cost a driver call and keep the next launch from
//! starting early. At the first change of streams the earlier stream may be gone already, or in a capture, so it is not
//! touched: a kernel on the new stream waits for the epoch words to say that the launches before are over. From then on every
//! operation records an event behind itself.
//!
//! Streams are told apart by their handles, and the per-thread default streams, which share one, by their threads. The driver gives the
//! handle of a destroyed stream to the next one that is made, also while work of the first still runs; such a second stream is
//! taken for the first. Its id would tell, but costs 0.8 us a call on an H200 (driver 580.159).

use std::cell::Cell;
use std::ptr;

use crate::gpu::driver::{Driver, DriverResult};
use crate::gpu::{CUevent, CUstream};
use crate::real::thread;

/// Where an operation was enqueued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The capture that the stream was in, 0 for none.
    capture: u64,
    stream: CUstream,
    /// Tells per-thread default streams apart.
    thread: usize,
}

impl Place {
    #[inline]
    fn new(capture: u64, stream: CUstream) -> Self {
        const PER_THREAD: usize = 2;
        let thread = if stream as usize == PER_THREAD { thread::number() } else { 0 };
        Self { capture, stream, thread }
    }
}

/// The order of one lane. Used by one thread at a time, as NCCL demands of a communicator.
#[derive(Debug)]
pub struct Order {
    event: CUevent,
    /// Of the last operation. None: none yet.
    last: Cell<Option<Place>>,
    /// Every operation records the event behind itself.
    records: Cell<bool>,
}

impl Order {
    /// In the current context.
    pub fn new(driver: &Driver) -> DriverResult<Self> {
        const DISABLE_TIMING: u32 = 2;
        let mut event: CUevent = ptr::null_mut();
        // SAFETY: the out pointer is ours.
        driver.check("cuEventCreate", unsafe { (driver.event_create)(&mut event, DISABLE_TIMING) })?;
        Ok(Self { event, last: Cell::new(None), records: Cell::new(false) })
    }

    /// Call before an operation is enqueued on `stream`. `capture` is the capture that the stream is in, or 0. `await_launches`
    /// has `stream` wait until the launches of this lane are over; it is called for operations outside of captures only. Returns
    /// where the operation is enqueued, for [`Self::after`].
    #[inline]
    pub fn before(
        &self,
        driver: &Driver,
        capture: u64,
        stream: CUstream,
        await_launches: impl FnOnce() -> DriverResult<()>,
    ) -> DriverResult<Place> {
        let place = Place::new(capture, stream);
        match self.last.get() {
            Some(last) if last != place && last.capture == capture => {
                self.change(driver, last, stream, await_launches)?
            }
            // An event of another capture, or of none, cannot be waited for in this one. What a graph does when it is replayed
            // is ordered by the streams that it is launched on.
            _ => {}
        }
        Ok(place)
    }

    /// Call after an operation was enqueued at `place`.
    #[inline]
    pub fn after(&self, driver: &Driver, place: Place) -> DriverResult<()> {
        self.last.set(Some(place));
        if self.records.get() { self.record(driver, place.stream) } else { Ok(()) }
    }

    #[cold]
    fn change(
        &self,
        driver: &Driver,
        last: Place,
        stream: CUstream,
        await_launches: impl FnOnce() -> DriverResult<()>,
    ) -> DriverResult<()> {
        if !self.records.get() {
            if last.capture == 0 {
                await_launches()?;
                self.records.set(true);
                return Ok(());
            }
            // A stream cannot be destroyed while it is captured.
            self.record(driver, last.stream)?;
            self.records.set(true);
        }
        // SAFETY: an event of ours and a stream of the application.
        driver.check("cuStreamWaitEvent", unsafe { (driver.stream_wait_event)(stream, self.event, 0) })
    }

    fn record(&self, driver: &Driver, stream: CUstream) -> DriverResult<()> {
        // SAFETY: as above.
        driver.check("cuEventRecord", unsafe { (driver.event_record)(self.event, stream) })
    }

    /// Gives the event back.
    pub fn free(self, driver: &Driver) -> DriverResult<()> {
        // SAFETY: created in `new`.
        driver.check("cuEventDestroy", unsafe { (driver.event_destroy)(self.event) })
    }
}
