//! How the messages of a setup reach all ranks: one ncclAllGather for each round, on a stream of its own.

use std::ffi::c_void;
use std::ptr;

use crate::comm::setup::hello::{HELLO_BYTES, Hello};
use crate::gpu::context::with_context;
use crate::gpu::driver::{Driver, DriverResult};
use crate::gpu::{CUcontext, CUdeviceptr, CUstream};
use crate::kernel::layout::MAX_RANKS;
use crate::nccl::{ncclComm_t, ncclInProgress, ncclResult_t, ncclSuccess, ncclUint8};
use crate::real;

/// What one communicator needs for the rounds of its setup.
#[derive(Debug)]
pub struct Channel {
    comm: ncclComm_t,
    ranks: usize,
    driver: &'static Driver,
    context: CUcontext,
    /// A stream that nothing else uses, or this thread's default one.
    pub stream: CUstream,
    /// This rank's message, then those of all ranks.
    buffer: Buffer,
}

/// Memory that NCCL can read and write on the device.
#[derive(Debug)]
enum Buffer {
    OfDevice(CUdeviceptr),
    /// Host memory, which has the same address on the device.
    OfHost(*mut c_void),
}

impl Buffer {
    const BYTES: usize = HELLO_BYTES * (MAX_RANKS + 1);

    /// Device memory or, if that is full, host memory: a rank without a buffer could not tell the others that it
    /// cannot go on, and they would wait for it.
    fn allocate(driver: &Driver) -> DriverResult<Self> {
        const PORTABLE_AND_MAPPED: u32 = 1 | 2;
        let mut address: CUdeviceptr = 0;
        let mut host = ptr::null_mut();
        // SAFETY: out pointers are ours.
        unsafe {
            match driver.check("cuMemAlloc", (driver.mem_alloc)(&mut address, Self::BYTES)) {
                Ok(()) => Ok(Self::OfDevice(address)),
                Err(full) => {
                    let allocated = (driver.mem_host_alloc)(&mut host, Self::BYTES, PORTABLE_AND_MAPPED);
                    driver.check("cuMemHostAlloc", allocated).map(|()| Self::OfHost(host)).map_err(|_| full)
                }
            }
        }
    }

    fn address(&self) -> CUdeviceptr {
        match *self {
            Self::OfDevice(address) => address,
            Self::OfHost(address) => address as CUdeviceptr,
        }
    }

    fn free(self, driver: &Driver) -> DriverResult<()> {
        // SAFETY: allocated in `allocate`; nothing uses it any more.
        unsafe {
            match self {
                Self::OfDevice(address) => driver.check("cuMemFree", (driver.mem_free)(address)),
                Self::OfHost(address) => driver.check("cuMemFreeHost", (driver.mem_free_host)(address)),
            }
        }
    }
}

/// The thread's own default stream, which always exists.
const STREAM_OF_THREAD: CUstream = 2 as CUstream;

impl Channel {
    /// Makes a stream and a buffer in `context`. If no stream can be made, the thread's default one is used, so that
    /// this rank does not leave the others waiting.
    pub fn open(comm: ncclComm_t, ranks: usize, driver: &'static Driver, context: CUcontext) -> DriverResult<Self> {
        const NON_BLOCKING: u32 = 1;
        with_context(driver, context, || {
            let buffer = Buffer::allocate(driver)?;
            let mut stream: CUstream = ptr::null_mut();
            // SAFETY: the out pointer is ours.
            let created = driver.check("cuStreamCreate", unsafe { (driver.stream_create)(&mut stream, NON_BLOCKING) });
            let stream = created.map_or(STREAM_OF_THREAD, |()| stream);
            Ok(Self { comm, ranks, driver, context, stream, buffer })
        })?
    }

    /// Writes this rank's message, and zeros where the ranks' messages will arrive: stale bytes must not pass for a
    /// message.
    fn send(&self, hello: &Hello) -> DriverResult<()> {
        let mut message = vec![0; HELLO_BYTES * (1 + self.ranks)];
        message[..HELLO_BYTES].copy_from_slice(&hello.encode());
        with_context(self.driver, self.context, || {
            // SAFETY: the driver has read pageable memory when it returns.
            self.driver.check("cuMemcpyHtoDAsync", unsafe {
                (self.driver.memcpy_htod_async)(
                    self.buffer.address(),
                    message.as_ptr().cast(),
                    message.len(),
                    self.stream,
                )
            })
        })?
    }

    /// Has NCCL gather the messages of all ranks.
    fn gather(&self) -> ncclResult_t {
        let (sent, gathered) = (self.buffer.address(), self.buffer.address() + HELLO_BYTES as CUdeviceptr);
        // SAFETY: both buffers are device memory of the communicator's device, as long as said.
        unsafe {
            real::ncclAllGather(
                sent as *const _,
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
                // The wait is not left to the copy. A copy into pageable memory waits for the stream inside the
                // driver, and launches of other threads wait there too. Other communicators may depend on such a
                // launch.
                self.driver.check("cuStreamSynchronize", (self.driver.stream_synchronize)(self.stream))?;
                self.driver.check(
                    "cuMemcpyDtoHAsync",
                    (self.driver.memcpy_dtoh_async)(
                        bytes.as_mut_ptr().cast(),
                        self.buffer.address() + HELLO_BYTES as CUdeviceptr,
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

    /// Whether the driver waits for every device of the process when the buffer is freed.
    pub fn is_in_host_memory(&self) -> bool {
        matches!(self.buffer, Buffer::OfHost(_))
    }

    /// Destroys the stream and frees the buffer.
    pub fn close(self) -> DriverResult<()> {
        with_context(self.driver, self.context, || {
            let freed = self.buffer.free(self.driver);
            if self.stream == STREAM_OF_THREAD {
                return freed;
            }
            // SAFETY: made in `open`; nothing runs on the stream any more.
            freed.and(self.driver.check("cuStreamDestroy", unsafe { (self.driver.stream_destroy)(self.stream) }))
        })?
    }
}

/// Waits until NCCL has finished the last call on a non-blocking communicator.
pub(in crate::comm) fn await_ready(comm: ncclComm_t) -> ncclResult_t {
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

/// One round: sends this rank's message and returns those of all ranks.
pub fn round(channel: &Channel, hello: &Hello) -> Result<Vec<u8>, String> {
    let in_nccl = |result: ncclResult_t| match result {
        result if result == ncclSuccess || result == ncclInProgress => Ok(()),
        code => Err(format!("ncclAllGather returned NCCL error {code}")),
    };
    channel.send(hello).map_err(|error| error.to_string())?;
    // The communicator's GPU is current during the call. NCCL restores the device that it finds; in a thread without
    // one, that would make a context on the first GPU.
    with_context(channel.driver, channel.context, || {
        in_nccl(channel.gather())?;
        in_nccl(await_ready(channel.comm))
    })
    .map_err(|error| error.to_string())??;
    channel.receive().map_err(|error| error.to_string())
}
