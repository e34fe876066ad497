//! The caller's current context is left as it was.

use std::ptr;

use super::CUcontext;
use super::driver::{Driver, DriverResult};

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
