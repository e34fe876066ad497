//! Exchanging messages between the ranks of communicators over NCCL itself: one ncclAllGather a round, on a stream of our own.

use std::ptr;

use super::hello::{HELLO_BYTES, Hello};
use crate::api::abi::{ncclComm_t, ncclInProgress, ncclResult_t, ncclSuccess, ncclUint8};
use crate::gpu::context::with_context;
use crate::gpu::driver::{Driver, DriverResult};
use crate::gpu::{CUcontext, CUdeviceptr, CUstream};
use crate::layout::MAX_RANKS;
use crate::real;

/// What one communicator needs to exchange messages.
#[derive(Debug)]
pub struct Channel {
    comm: ncclComm_t,
    ranks: usize,
    driver: &'static Driver,
    context: CUcontext,
    /// A stream that nobody else uses.
    pub stream: CUstream,
    /// Our message, and behind it everybody's.
    buffer: CUdeviceptr,
}

impl Channel {
    /// Makes a stream and a buffer in `context`.
    pub fn open(comm: ncclComm_t, ranks: usize, driver: &'static Driver, context: CUcontext) -> DriverResult<Self> {
        const NON_BLOCKING: u32 = 1;
        with_context(driver, context, || {
            let mut stream: CUstream = ptr::null_mut();
            let mut buffer: CUdeviceptr = 0;
            // SAFETY: out pointers are ours.
            unsafe {
                driver.check("cuStreamCreate", (driver.stream_create)(&mut stream, NON_BLOCKING))?;
                let bytes = HELLO_BYTES * (MAX_RANKS + 1);
                if let Err(error) = driver.check("cuMemAlloc", (driver.mem_alloc)(&mut buffer, bytes)) {
                    (driver.stream_destroy)(stream);
                    return Err(error);
                }
            }
            Ok(Self { comm, ranks, driver, context, stream, buffer })
        })?
    }

    /// Our message, and zeros where those of all ranks are to come: what is there from before never passes for an answer.
    fn send(&self, hello: &Hello) -> DriverResult<()> {
        let mut message = vec![0; HELLO_BYTES * (1 + self.ranks)];
        message[..HELLO_BYTES].copy_from_slice(&hello.encode());
        with_context(self.driver, self.context, || {
            // SAFETY: the driver has read pageable memory when it returns.
            self.driver.check("cuMemcpyHtoDAsync", unsafe {
                (self.driver.memcpy_htod_async)(self.buffer, message.as_ptr().cast(), message.len(), self.stream)
            })
        })?
    }

    /// Has NCCL gather the messages of all ranks.
    fn gather(&self) -> ncclResult_t {
        let gathered = self.buffer + HELLO_BYTES as CUdeviceptr;
        // SAFETY: both buffers are device memory of the communicator's device, as long as said.
        unsafe {
            real::ncclAllGather(
                self.buffer as *const _,
                gathered as *mut _,
                HELLO_BYTES,
                ncclUint8,
                self.comm,
                self.stream.cast(),
            )
        }
    }

    fn receive(&self) -> DriverResult<Vec<u8>> {
        let mut bytes = vec![0; HELLO_BYTES * self.ranks];
        with_context(self.driver, self.context, || {
            // SAFETY: the vector lives until the stream is synchronised.
            unsafe {
                // Not left to the copy: one into pageable memory waits for the stream inside the driver, where launches of other threads
                // would have to wait with it, and with them other communicators that peers wait for.
                self.driver.check("cuStreamSynchronize", (self.driver.stream_synchronize)(self.stream))?;
                self.driver.check(
                    "cuMemcpyDtoHAsync",
                    (self.driver.memcpy_dtoh_async)(
                        bytes.as_mut_ptr().cast(),
                        self.buffer + HELLO_BYTES as CUdeviceptr,
                        bytes.len(),
                        self.stream,
                    ),
                )?;
                self.driver.check("cuStreamSynchronize", (self.driver.stream_synchronize)(self.stream))
            }
        })??;
        Ok(bytes)
    }

    /// Whether nothing runs on the stream.
    pub fn is_idle(&self) -> bool {
        let asked = with_context(self.driver, self.context, || {
            // SAFETY: our own stream.
            unsafe { (self.driver.stream_query)(self.stream) }
        });
        asked == Ok(0)
    }

    /// Gives stream and buffer back.
    pub fn close(self) -> DriverResult<()> {
        with_context(self.driver, self.context, || {
            // SAFETY: made in `open`; nothing runs on the stream any more.
            unsafe {
                let freed = self.driver.check("cuMemFree", (self.driver.mem_free)(self.buffer));
                freed.and(self.driver.check("cuStreamDestroy", (self.driver.stream_destroy)(self.stream)))
            }
        })?
    }
}

/// Waits until a communicator that was made non-blocking has done what it was asked.
pub(super) fn await_ready(comm: ncclComm_t) -> ncclResult_t {
    loop {
        let mut state = ncclSuccess;
        // SAFETY: the handle is the application's; the out pointer is ours.
        let asked = unsafe { real::ncclCommGetAsyncError(comm, &mut state) };
        match (asked, state) {
            (0, state) if state == ncclInProgress => std::thread::yield_now(),
            (0, state) => return state,
            (failed, _) => return failed,
        }
    }
}

/// One round: sends a message and gets those of all ranks.
pub fn round(channel: &Channel, hello: &Hello) -> Result<Vec<u8>, String> {
    let in_nccl = |result: ncclResult_t| match result {
        result if result == ncclSuccess || result == ncclInProgress => Ok(()),
        code => Err(format!("ncclAllGather gave {code}")),
    };
    channel.send(hello).map_err(|error| error.to_string())?;
    // With the communicator's GPU current: NCCL puts back what it finds, and in a thread without a current GPU that would be a context
    // on the first one.
    with_context(channel.driver, channel.context, || {
        in_nccl(channel.gather())?;
        in_nccl(await_ready(channel.comm))
    })
    .map_err(|error| error.to_string())??;
    channel.receive().map_err(|error| error.to_string())
}
