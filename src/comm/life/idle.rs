//! Whether a communicator's eager work has ended. The check waits for nothing else: other work on the GPU may depend
//! on what this thread does next.

use std::mem::size_of_val;
use std::ptr;

use crate::comm::run::stream_order::StreamOrder;
use crate::gpu::driver::{Driver, DriverResult};
use crate::gpu::memory::Scratch;
use crate::gpu::{CUdeviceptr, CUstream};
use crate::kernel::layout::{COUNT_OFFSET, COUNT_SHIFT, EAGER_LANE, LANE_BYTES};

/// Whether the count of blocks in this scratch has reached `blocks`, the number enqueued in the eager lane, and
/// whether the waiting kernels, which are not counted, have ended. Both hold while scratch is suspended. Uses the current
/// context.
pub fn is_over(
    driver: &Driver,
    stream: &OwnStream,
    scratch: &Scratch,
    blocks: u32,
    order: &StreamOrder,
) -> DriverResult<bool> {
    let count_word =
        |scratch: CUdeviceptr| stream.read(driver, scratch + (EAGER_LANE * LANE_BYTES + COUNT_OFFSET) as CUdeviceptr);
    match scratch.while_present(count_word) {
        None => Ok(true),
        Some(word) => Ok((word? >> COUNT_SHIFT) as u32 == blocks && order.is_over(driver)?),
    }
}

/// A stream for one check.
pub struct OwnStream(CUstream, &'static Driver);

impl OwnStream {
    /// Made in the current context, in which it must also be dropped.
    pub fn new(driver: &'static Driver) -> DriverResult<Self> {
        const NON_BLOCKING: u32 = 1;
        let mut stream: CUstream = ptr::null_mut();
        // SAFETY: the out pointer is ours.
        driver.check("cuStreamCreate", unsafe { (driver.stream_create)(&mut stream, NON_BLOCKING) })?;
        Ok(Self(stream, driver))
    }

    fn read(&self, driver: &Driver, word: CUdeviceptr) -> DriverResult<u64> {
        let mut value = 0_u64;
        // SAFETY: within our scratch; the variable lives until the stream is synchronised.
        unsafe {
            driver.check(
                "cuMemcpyDtoHAsync",
                (driver.memcpy_dtoh_async)((&raw mut value).cast(), word, size_of_val(&value), self.0),
            )?;
            driver.check("cuStreamSynchronize", (driver.stream_synchronize)(self.0))?;
        }
        Ok(value)
    }
}

impl Drop for OwnStream {
    fn drop(&mut self) {
        // SAFETY: created in `new`; its context is current where it lives.
        unsafe { (self.1.stream_destroy)(self.0) };
    }
}
