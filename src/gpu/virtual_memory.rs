//! The driver's virtual memory management: reserved addresses, physical allocations, and mappings of one at the other.

use std::ffi::c_void;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use cudarc::driver::sys::{
    CUmemAccess_flags, CUmemAccessDesc, CUmemAllocationHandleType, CUmemAllocationProp, CUmemAllocationType,
    CUmemLocation, CUmemLocationType,
};

use crate::gpu::driver::{Driver, DriverResult};
use crate::gpu::{CUdevice, CUdeviceptr};
use crate::host::lock::{Held, Lock};

pub use cudarc::driver::sys::CUmemGenericAllocationHandle;

const POSIX_FD: u32 = CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR.0;

/// Only one thread of the process at a time maps, unmaps, imports or releases. With several threads that did so with
/// the same allocations, the driver's heap was corrupted (580.159, 4 threads, within 40 communicators made and
/// destroyed). The driver may wait for the GPU while the lock is held. So nothing is unmapped while a setup is under
/// way: its ranks may wait for one that is about to take this lock.
static MAPPING: Lock<()> = Lock::new(());

/// Waits until no other thread maps. Held while the functions below are called.
pub fn lock_mapping() -> Held<'static, ()> {
    MAPPING.hold()
}

fn properties(device: CUdevice) -> CUmemAllocationProp {
    // SAFETY: a C struct of integers and pointers for which zero is the default.
    let mut properties: CUmemAllocationProp = unsafe { mem::zeroed() };
    properties.type_ = CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.requestedHandleTypes = CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    properties.location = location(device);
    properties
}

fn location(device: CUdevice) -> CUmemLocation {
    CUmemLocation { type_: CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE, id: device }
}

/// Reserves addresses and does as [`map_at`].
pub fn map(
    driver: &Driver,
    device: CUdevice,
    allocation: CUmemGenericAllocationHandle,
    bytes: usize,
) -> DriverResult<CUdeviceptr> {
    let mut address: CUdeviceptr = 0;
    // SAFETY: the out pointer is ours.
    let reserved = unsafe { (driver.mem_address_reserve)(&mut address, bytes, 0, 0, 0) };
    driver.check("cuMemAddressReserve", reserved)?;
    match map_at(driver, device, allocation, address, bytes) {
        Ok(()) => Ok(address),
        Err(error) => {
            // SAFETY: reserved above, and nothing is mapped there.
            unsafe { (driver.mem_address_free)(address, bytes) };
            Err(error)
        }
    }
}

/// Maps `allocation` at a reserved address and grants `device` access.
pub fn map_at(
    driver: &Driver,
    device: CUdevice,
    allocation: CUmemGenericAllocationHandle,
    address: CUdeviceptr,
    bytes: usize,
) -> DriverResult<()> {
    // SAFETY: the caller has reserved the range; every step is undone when a later one fails.
    unsafe {
        driver.check("cuMemMap", (driver.mem_map)(address, bytes, 0, allocation, 0))?;
        let access = CUmemAccessDesc {
            location: location(device),
            flags: CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
        };
        if let Err(error) = driver.check("cuMemSetAccess", (driver.mem_set_access)(address, bytes, &access, 1)) {
            (driver.mem_unmap)(address, bytes);
            return Err(error);
        }
    }
    Ok(())
}

/// Unmaps a range. The caller knows that no kernel uses it any more. The addresses stay reserved.
pub fn unmap(driver: &Driver, address: CUdeviceptr, bytes: usize) -> DriverResult<()> {
    // SAFETY: the range was mapped by `map_at`, and the caller knows that no kernel uses it any more.
    driver.check("cuMemUnmap", unsafe { (driver.mem_unmap)(address, bytes) })
}

/// Gives reserved addresses back, at which nothing is mapped.
pub fn free_addresses(driver: &Driver, address: CUdeviceptr, bytes: usize) -> DriverResult<()> {
    // SAFETY: the range was reserved by `map`, and nothing is mapped there.
    driver.check("cuMemAddressFree", unsafe { (driver.mem_address_free)(address, bytes) })
}

/// Releases an allocation. Mappings keep its memory.
pub fn release(driver: &Driver, allocation: CUmemGenericAllocationHandle) -> DriverResult<()> {
    // SAFETY: the handle is ours, and its owner drops it with this call.
    driver.check("cuMemRelease", unsafe { (driver.mem_release)(allocation) })
}

/// An allocation on `device`, of bytes that are a multiple of the granularity.
pub fn create(driver: &Driver, device: CUdevice, bytes: usize) -> DriverResult<CUmemGenericAllocationHandle> {
    let mut allocation: CUmemGenericAllocationHandle = 0;
    let properties = properties(device);
    // SAFETY: the out pointer is ours.
    driver.check("cuMemCreate", unsafe { (driver.mem_create)(&mut allocation, bytes, &properties, 0) })?;
    Ok(allocation)
}

/// A descriptor of an allocation that another process can import; close-on-exec.
pub fn export(driver: &Driver, allocation: CUmemGenericAllocationHandle) -> DriverResult<OwnedFd> {
    let mut descriptor = -1;
    // SAFETY: for this handle type the driver writes one int.
    unsafe {
        driver.check(
            "cuMemExportToShareableHandle",
            (driver.mem_export)((&raw mut descriptor).cast::<c_void>(), allocation, POSIX_FD, 0),
        )?;
        libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}

/// Imports what a peer process exported, and lets `map` map it. The mapping keeps the memory, so the import itself is
/// released.
pub fn with_import<T>(
    driver: &Driver,
    descriptor: &OwnedFd,
    map: impl FnOnce(CUmemGenericAllocationHandle) -> DriverResult<T>,
) -> DriverResult<T> {
    let mut allocation: CUmemGenericAllocationHandle = 0;
    // SAFETY: for this handle type the descriptor itself travels in the pointer.
    unsafe {
        driver.check(
            "cuMemImportFromShareableHandle",
            (driver.mem_import)(&mut allocation, descriptor.as_raw_fd() as usize as *mut c_void, POSIX_FD),
        )?;
    }
    let mapped = map(allocation);
    let released = release(driver, allocation);
    let mapped = mapped?;
    released?;
    Ok(mapped)
}

/// What the bytes of an allocation on `device` must be a multiple of.
pub fn granularity(driver: &Driver, device: CUdevice) -> DriverResult<usize> {
    let mut granularity = 0_usize;
    let properties = properties(device);
    // SAFETY: the out pointer is ours.
    driver.check("cuMemGetAllocationGranularity", unsafe {
        (driver.mem_get_allocation_granularity)(&mut granularity, &properties, 0)
    })?;
    Ok(granularity.max(1))
}
