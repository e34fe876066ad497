//! Whether a stream is being captured into a graph.

use std::ptr;

use crate::comm::run::graph_order::Capture;
use crate::gpu::CUstream;
use crate::gpu::driver::{Driver, DriverResult};
use crate::nccl::AllReduce;

/// The capture that a stream is in.
#[inline]
pub fn of_stream(driver: &Driver, stream: CUstream) -> DriverResult<Option<Capture>> {
    const ACTIVE: i32 = 1;
    const INVALIDATED: i32 = 2;
    const CAPTURE_INVALIDATED: i32 = 901;
    let (code, status, capture) = ask(driver, stream);
    driver.check("cuStreamGetCaptureInfo", code)?;
    if status == INVALIDATED {
        driver.check("cuStreamGetCaptureInfo", CAPTURE_INVALIDATED)?;
    }
    Ok((status == ACTIVE).then_some(capture))
}

/// Whether the call's stream is being captured, or cannot be queried because of another capture. Then no communicator
/// may be set up. All ranks get the same answer. Any other failure concerns this rank alone, and must not keep it
/// from a setup in which the others wait.
pub fn is_captured(call: &AllReduce) -> bool {
    const OF_CAPTURES: std::ops::RangeInclusive<i32> = 900..=908;
    let Ok(driver) = Driver::get() else { return false };
    let (code, status, _) = ask(driver, call.stream.cast());
    OF_CAPTURES.contains(&code) || code == 0 && status != 0
}

/// The driver's answer about a stream: result code, capture status, and the capture if it is in one.
#[inline]
fn ask(driver: &Driver, stream: CUstream) -> (i32, i32, Capture) {
    let mut status = 0;
    let mut capture = Capture { id: 0, graph: ptr::null_mut() };
    // SAFETY: out pointers are ours; the driver allows those to be null that are.
    let code = unsafe {
        (driver.stream_get_capture_info)(
            stream,
            &mut status,
            &mut capture.id,
            &mut capture.graph,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    (code, status, capture)
}
