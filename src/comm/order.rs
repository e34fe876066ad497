//! The order of a communicator's operations on the device, across streams.
//!
//! Operations on one stream are ordered by it. When an operation comes on another stream than the one before, it waits for an
//! event. While a communicator is used from one stream only, no event is recorded: the first change of streams records one
//! on the earlier stream, and from then on every operation records one behind itself, because an application may
//! destroy a stream once it has enqueued its work.

use std::cell::Cell;
use std::ptr;

use crate::gpu::driver::{Driver, DriverResult};
use crate::gpu::{CUevent, CUstream};

/// The order of one lane. Used by one thread at a time, as NCCL demands of a communicator.
#[derive(Debug)]
pub struct Order {
    event: CUevent,
    /// The capture an operation belonged to, 0 for none, and its stream. None: no operation yet.
    last: Cell<Option<(u64, CUstream)>>,
    several_streams: Cell<bool>,
}

impl Order {
    /// In the current context.
    pub fn new(driver: &Driver) -> DriverResult<Self> {
        const DISABLE_TIMING: u32 = 2;
        let mut event: CUevent = ptr::null_mut();
        // SAFETY: the out pointer is ours.
        driver.check("cuEventCreate", unsafe { (driver.event_create)(&mut event, DISABLE_TIMING) })?;
        Ok(Self { event, last: Cell::new(None), several_streams: Cell::new(false) })
    }

    /// Call before an operation is enqueued on `stream`. `capture` is the capture that the stream is in, or 0.
    #[inline]
    pub fn before(&self, driver: &Driver, capture: u64, stream: CUstream) -> DriverResult<()> {
        match self.last.get() {
            Some(last) if last == (capture, stream) => Ok(()),
            // An event of another capture, or of none, cannot be waited for in this one. What a graph does when it is replayed
            // is ordered by the streams that it is launched on.
            Some((last_capture, last_stream)) if last_capture == capture => self.wait(driver, last_stream, stream),
            _ => Ok(()),
        }
    }

    /// Call after an operation was enqueued on `stream`.
    #[inline]
    pub fn after(&self, driver: &Driver, capture: u64, stream: CUstream) -> DriverResult<()> {
        self.last.set(Some((capture, stream)));
        if self.several_streams.get() { self.record(driver, stream) } else { Ok(()) }
    }

    #[cold]
    fn wait(&self, driver: &Driver, last_stream: CUstream, stream: CUstream) -> DriverResult<()> {
        if !self.several_streams.replace(true) {
            self.record(driver, last_stream)?;
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
