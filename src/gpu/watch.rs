//! Host memory between a communicator and its kernels that spin: the order to stop, and what they wait for.

use std::ffi::c_void;
use std::mem::size_of;
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::CUdeviceptr;
use super::driver::{Driver, DriverResult};
use crate::layout::{LANES, MAX_RANKS, ORDER_GO_ON, ORDER_REPORT, ORDER_STOP, Watch};

const HOST_ALLOC_PORTABLE_AND_MAPPED: u32 = 1 | 2;

/// The watch words of every lane, in pinned memory that kernels can reach.
#[derive(Debug)]
pub struct WatchWords {
    view: View,
    /// Where kernels find those of lane 0; the others follow.
    pub device: CUdeviceptr,
}

/// The same memory, for whoever knows that it is not freed yet.
#[derive(Clone, Copy, Debug)]
pub struct View(*const [Watch; LANES]);

/// What a launch waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The launch's.
    pub epoch: u32,
    /// The ranks it waits for, bit by bit.
    pub missing: u32,
    /// NCCL's number of the element type.
    pub datatype: u8,
    /// NCCL's number of the operation.
    pub op: u8,
    /// The number of the kernel.
    pub kernel: u8,
    /// Bytes of the launch.
    pub bytes: u64,
}

// SAFETY: the pointer names pinned memory of atomics that any thread may use.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl WatchWords {
    /// Allocates the words; kernels go on.
    pub fn allocate(driver: &Driver) -> DriverResult<Self> {
        let mut host: *mut c_void = ptr::null_mut();
        let mut device: CUdeviceptr = 0;
        const BYTES: usize = size_of::<[Watch; LANES]>();
        // SAFETY: out pointers are ours; zeros are valid words.
        unsafe {
            driver
                .check("cuMemHostAlloc", (driver.mem_host_alloc)(&mut host, BYTES, HOST_ALLOC_PORTABLE_AND_MAPPED))?;
            ptr::write_bytes(host.cast::<u8>(), 0, BYTES);
            if let Err(error) =
                driver.check("cuMemHostGetDevicePointer", (driver.mem_host_get_device_pointer)(&mut device, host, 0))
            {
                (driver.mem_free_host)(host);
                return Err(error);
            }
        }
        Ok(Self { view: View(host.cast_const().cast()), device })
    }

    /// Tells every kernel of the communicator to stop spinning, for good.
    pub fn stop(&self) {
        for lane in self.view.lanes() {
            lane.order.store(ORDER_STOP, Release);
        }
    }

    /// The same memory for another thread, which must not use it after `free`.
    pub fn view(&self) -> View {
        self.view
    }

    /// Gives the words back; no kernel reads them any more.
    pub fn free(self, driver: &Driver) -> DriverResult<()> {
        // SAFETY: allocated in `allocate`.
        driver.check("cuMemFreeHost", unsafe { (driver.mem_free_host)(self.view.0.cast_mut().cast()) })
    }
}

impl View {
    fn lanes(&self) -> &[Watch; LANES] {
        // SAFETY: the words live until `free`, after which nobody has a view.
        unsafe { &*self.0 }
    }

    /// Asks all kernels that spin what they wait for. They answer when they look next.
    pub fn ask(&self) {
        for lane in self.lanes() {
            lane.waits.iter().for_each(|epoch| epoch.store(0, Relaxed));
            // Not where they were told to stop.
            let _ = lane.order.compare_exchange(ORDER_GO_ON, ORDER_REPORT, AcqRel, Relaxed);
        }
    }

    /// Asks no more.
    pub fn ask_no_more(&self) {
        for lane in self.lanes() {
            let _ = lane.order.compare_exchange(ORDER_REPORT, ORDER_GO_ON, AcqRel, Relaxed);
        }
    }

    /// What was answered since, by lane. None: no kernel of the lane spins.
    pub fn reports(&self) -> [Option<Report>; LANES] {
        self.lanes().each_ref().map(|lane| {
            // Those that wait for the latest epoch: a launch that is over may have answered before it ended.
            let waits = lane.waits.each_ref().map(|epoch| epoch.load(Acquire));
            let epoch = waits.into_iter().filter(|epoch| *epoch != 0).reduce(later)?;
            let missing = (0..MAX_RANKS).filter(|rank| waits[*rank] == epoch).fold(0, |ranks, rank| ranks | 1 << rank);
            let [datatype, op, kernel, _] = lane.shape.load(Relaxed).to_le_bytes();
            Some(Report { epoch, missing, datatype, op, kernel, bytes: lane.bytes.load(Relaxed) })
        })
    }
}

/// The later of two epochs that are not far apart.
fn later(a: u32, b: u32) -> u32 {
    if b.wrapping_sub(a) < 1 << 31 { b } else { a }
}
