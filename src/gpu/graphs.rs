//! Counts the graphs that contain launches of a communicator: they may be replayed after the communicator has ended.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cudarc::driver::sys::{CUgraph, CUuserObject};

use crate::gpu::driver::{Driver, DriverResult};

/// Counts the graphs that contain launches of one communicator. A graph counts until it and every executable graph
/// made of it are destroyed and none of them runs.
#[derive(Debug, Default)]
pub struct Graphs {
    alive: Arc<AtomicUsize>,
}

impl Graphs {
    /// Whether one may still be replayed.
    pub fn any_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire) != 0
    }

    /// Counts `graph`, which is being captured.
    pub(crate) fn hold(&self, driver: &Driver, graph: CUgraph) -> DriverResult<()> {
        const NO_DESTRUCTOR_SYNC: u32 = 1;
        const MOVE: u32 = 1;
        let counted = Arc::into_raw(Arc::clone(&self.alive)).cast_mut().cast::<c_void>();
        self.alive.fetch_add(1, Ordering::AcqRel);
        let mut object: CUuserObject = ptr::null_mut();
        // SAFETY: the out pointer is ours; the driver calls `release` once with the pointer, when the last reference is
        // gone.
        let created = unsafe { (driver.user_object_create)(&mut object, counted, release, 1, NO_DESTRUCTOR_SYNC) };
        if let Err(error) = driver.check("cuUserObjectCreate", created) {
            // SAFETY: the driver does not know of it.
            unsafe { release(counted) };
            return Err(error);
        }
        // SAFETY: the graph is being captured, so it is alive; it takes over the one reference.
        let retained = unsafe { (driver.graph_retain_user_object)(graph, object, 1, MOVE) };
        driver.check("cuGraphRetainUserObject", retained).inspect_err(|_| {
            // SAFETY: the reference is still ours; its destructor does the counting.
            unsafe { (driver.user_object_release)(object, 1) };
        })
    }
}

/// Called by the driver on a thread of its own, where no CUDA call is allowed.
unsafe extern "C" fn release(counted: *mut c_void) {
    // SAFETY: made by `hold` with `into_raw`, and given here once.
    let alive = unsafe { Arc::from_raw(counted.cast::<AtomicUsize>()) };
    alive.fetch_sub(1, Ordering::AcqRel);
}
