//! The stream barrier: if a group uses one communicator on several streams, these streams wait for each other before
//! its first operation and after its last, as in NCCL.

use std::ptr;

use crate::comm::run::group::Kept;
use crate::comm::run::stream_order::new_event;
use crate::comm::table::fast::{Comm, Fast};
use crate::gpu::driver::DriverResult;
use crate::gpu::{CUevent, CUstream};

/// The calls of a communicator in a group that are on several streams.
pub struct StreamBarrier {
    comm: &'static Comm,
    handle: usize,
    streams: Vec<CUstream>,
    /// The indices of the calls before and after which the streams wait for each other.
    first: usize,
    last: usize,
}

impl StreamBarrier {
    /// One barrier for each communicator that has calls on several streams.
    pub fn of(calls: &[(Kept, Option<&'static Comm>)]) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for (index, (Kept { call, .. }, comm)) in calls.iter().enumerate() {
            let Some(comm) = *comm else { continue };
            let stream: CUstream = call.stream.cast();
            match all.iter_mut().find(|barrier| ptr::eq(barrier.comm, comm)) {
                Some(barrier) => {
                    barrier.last = index;
                    if !barrier.streams.contains(&stream) {
                        barrier.streams.push(stream);
                    }
                }
                None => {
                    let handle = call.comm as usize;
                    all.push(Self { comm, handle, streams: vec![stream], first: index, last: index });
                }
            }
        }
        all.retain(|barrier| barrier.streams.len() > 1);
        all
    }

    /// Call before the call of this index.
    pub fn before(&self, index: usize) -> DriverResult<()> {
        if index == self.first { self.enqueue() } else { Ok(()) }
    }

    /// Call after the call of this index.
    pub fn after(&self, index: usize) -> DriverResult<()> {
        if index == self.last { self.enqueue() } else { Ok(()) }
    }

    /// Makes work enqueued from now on in any of the streams wait for the work in all of them. Does nothing on a
    /// communicator that forwards, since NCCL does it itself.
    fn enqueue(&self) -> DriverResult<()> {
        let Some(busy) = self.comm.enter(self.handle) else { return Ok(()) };
        let Some(fast) = busy.fast() else { return Ok(()) };
        fast.resources.context.run(|| {
            let event = new_event(fast.driver())?;
            let waited = self.enqueue_with(fast, event);
            // SAFETY: our own event; waits that are enqueued stay valid.
            let destroyed = fast.driver().check("cuEventDestroy", unsafe { (fast.driver().event_destroy)(event) });
            waited.and(destroyed)
        })?
    }

    fn enqueue_with(&self, fast: &Fast, event: CUevent) -> DriverResult<()> {
        let driver = fast.driver();
        let wait = |stream, other| {
            // SAFETY: streams of the application, an event of ours.
            unsafe {
                driver.check("cuEventRecord", (driver.event_record)(event, other))?;
                driver.check("cuStreamWaitEvent", (driver.stream_wait_event)(stream, event, 0))
            }
        };
        let [first, others @ ..] = self.streams.as_slice() else { return Ok(()) };
        others.iter().try_for_each(|other| wait(*first, *other))?;
        others.iter().try_for_each(|other| wait(*other, *first))
    }
}
