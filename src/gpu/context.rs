//! The caller's current context and capture mode are left as they were.

use std::ptr;

use crate::gpu::CUcontext;
use crate::gpu::driver::{Driver, DriverResult};

/// Runs `work` with `context` current on this thread. Pushes only when it is not current already, and pops again.
pub(crate) fn with_context<T>(driver: &Driver, context: CUcontext, work: impl FnOnce() -> T) -> DriverResult<T> {
    let mut current: CUcontext = ptr::null_mut();
    // SAFETY: the pointer is ours.
    driver.check("cuCtxGetCurrent", unsafe { (driver.ctx_get_current)(&mut current) })?;
    if current == context {
        return Ok(work());
    }
    // SAFETY: the context is a primary context that we have retained.
    driver.check("cuCtxPushCurrent", unsafe { (driver.ctx_push_current)(context) })?;
    let result = work();
    // SAFETY: pops what was pushed above; `work` leaves the stack as it found it.
    driver.check("cuCtxPopCurrent", unsafe { (driver.ctx_pop_current)(&mut current) })?;
    Ok(result)
}

/// While it lives, this thread may allocate although another stream is captured: what we do is not part of any capture.
pub struct RelaxedCapture {
    driver: Option<&'static Driver>,
    before: i32,
}

impl RelaxedCapture {
    /// Until it is dropped.
    pub fn enter() -> Self {
        const RELAXED: i32 = 2;
        let mut mode = RELAXED;
        let driver = Driver::get().ok();
        if let Some(driver) = driver {
            // SAFETY: swaps the mode of this thread with the one in the variable.
            unsafe { (driver.thread_exchange_stream_capture_mode)(&mut mode) };
        }
        Self { driver, before: mode }
    }
}

impl Drop for RelaxedCapture {
    fn drop(&mut self) {
        if let Some(driver) = self.driver {
            // SAFETY: as above.
            unsafe { (driver.thread_exchange_stream_capture_mode)(&mut self.before) };
        }
    }
}
