//! The contexts that communicators use. The caller's current context and capture mode are restored.

use std::ptr;

use crate::gpu::driver::{Driver, DriverResult};
use crate::gpu::{CUcontext, CUdevice};

/// A device's primary context, retained for one owner.
#[derive(Debug)]
pub struct PrimaryContext {
    /// The opened driver.
    pub driver: &'static Driver,
    /// The context.
    pub context: CUcontext,
    /// Its device.
    pub device: CUdevice,
}

impl PrimaryContext {
    /// Retains the primary context of a device.
    pub fn retain(driver: &'static Driver, device: CUdevice) -> DriverResult<Self> {
        let mut context: CUcontext = ptr::null_mut();
        // SAFETY: the out pointer is ours.
        driver.check("cuDevicePrimaryCtxRetain", unsafe { (driver.primary_ctx_retain)(&mut context, device) })?;
        Ok(Self { driver, context, device })
    }

    /// The same context, retained once more.
    pub fn retain_again(&self) -> DriverResult<Self> {
        Self::retain(self.driver, self.device)
    }

    /// Runs `work` with this context current.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> DriverResult<T> {
        with_context(self.driver, self.context, work)
    }

    /// Releases the context. There is no `Drop`, because the driver may be gone at the end of the process; a context
    /// that is not released stays retained.
    pub fn release(self) -> DriverResult<()> {
        // SAFETY: retained in `retain`.
        let released = unsafe { (self.driver.primary_ctx_release)(self.device) };
        self.driver.check("cuDevicePrimaryCtxRelease", released)
    }
}

/// Runs `work` with `context` current on this thread. Pushes and pops it unless it is current already.
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

/// While it lives, this thread may allocate although another stream is being captured. Dime's own calls belong to no
/// capture.
pub struct RelaxedCapture {
    driver: Option<&'static Driver>,
    before: i32,
}

impl RelaxedCapture {
    /// Switches this thread to the relaxed mode until the value is dropped.
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
