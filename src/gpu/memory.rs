//! Scratch memory: allocated here, mapped by every peer.
//!
//! The usual way is a VMM allocation that travels as a file descriptor (or, within one process, as its handle). Where a device
//! lacks that, plain device memory travels as a legacy IPC handle (within one process, as its address).

use std::ffi::{c_int, c_void};
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use cudarc::driver::sys::{
    CUipcMemHandle, CUmemAccess_flags, CUmemAccessDesc, CUmemAllocationHandleType, CUmemAllocationProp,
    CUmemAllocationType, CUmemGenericAllocationHandle, CUmemLocation, CUmemLocationType,
};

use super::driver::{Driver, DriverResult};
use super::{CUdevice, CUdeviceptr};
use crate::lock::{Held, Lock};

const POSIX_FD: u32 = CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR.0;
const IPC_LAZY_ENABLE_PEER_ACCESS: u32 = 1;

/// Bytes of a legacy IPC handle.
pub const IPC_HANDLE_BYTES: usize = 64;

/// How scratch reaches the peers. All ranks of a communicator use one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// VMM allocation, as a file descriptor.
    Descriptor,
    /// `cuMemAlloc`, as a legacy IPC handle.
    LegacyIpc,
}

/// Scratch that this rank owns, mapped here.
#[derive(Debug)]
pub struct Scratch {
    /// Where it is mapped on its own device.
    pub address: CUdeviceptr,
    bytes: usize,
    allocation: Option<CUmemGenericAllocationHandle>,
}

/// Scratch of a peer, mapped here.
#[derive(Debug)]
pub struct PeerScratch {
    /// Where it is mapped for our device.
    pub address: CUdeviceptr,
    bytes: usize,
    kind: PeerKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PeerKind {
    Mapped,
    Ipc,
    SameProcess,
}

/// One thread of the process at a time maps, unmaps, imports or releases: with several threads that do so with the same
/// allocations, the driver's heap was found corrupted (580.159, 4 threads, seen within 40 communicators made and destroyed).
/// Nothing under the lock waits for another thread.
static MAPPING: Lock<()> = Lock::new(());

fn one_at_a_time() -> Held<'static, ()> {
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

/// Reserves addresses, maps `allocation` there and opens it to `device`.
fn map(
    driver: &Driver,
    device: CUdevice,
    allocation: CUmemGenericAllocationHandle,
    bytes: usize,
) -> DriverResult<CUdeviceptr> {
    let mut address: CUdeviceptr = 0;
    // SAFETY: out pointers are ours; every step is undone when a later one fails.
    unsafe {
        driver.check("cuMemAddressReserve", (driver.mem_address_reserve)(&mut address, bytes, 0, 0, 0))?;
        if let Err(error) = driver.check("cuMemMap", (driver.mem_map)(address, bytes, 0, allocation, 0)) {
            (driver.mem_address_free)(address, bytes);
            return Err(error);
        }
        let access = CUmemAccessDesc {
            location: location(device),
            flags: CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
        };
        if let Err(error) = driver.check("cuMemSetAccess", (driver.mem_set_access)(address, bytes, &access, 1)) {
            (driver.mem_unmap)(address, bytes);
            (driver.mem_address_free)(address, bytes);
            return Err(error);
        }
    }
    Ok(address)
}

fn unmap(driver: &Driver, address: CUdeviceptr, bytes: usize) -> DriverResult<()> {
    // SAFETY: the range was mapped by `map`, and the caller knows that no kernel uses it any more.
    unsafe {
        driver.check("cuMemUnmap", (driver.mem_unmap)(address, bytes))?;
        driver.check("cuMemAddressFree", (driver.mem_address_free)(address, bytes))
    }
}

impl Scratch {
    /// Allocates `bytes` (rounded up to what the driver asks for) on `device`, whose context is current.
    pub fn allocate(driver: &Driver, device: CUdevice, bytes: usize, sharing: Sharing) -> DriverResult<Self> {
        let _alone = one_at_a_time();
        if sharing == Sharing::LegacyIpc {
            let mut address: CUdeviceptr = 0;
            // SAFETY: the out pointer is ours.
            driver.check("cuMemAlloc", unsafe { (driver.mem_alloc)(&mut address, bytes) })?;
            return Ok(Self { address, bytes, allocation: None });
        }
        let properties = properties(device);
        let mut granularity = 0_usize;
        let mut allocation: CUmemGenericAllocationHandle = 0;
        // SAFETY: out pointers are ours.
        unsafe {
            driver.check(
                "cuMemGetAllocationGranularity",
                (driver.mem_get_allocation_granularity)(&mut granularity, &properties, 0),
            )?;
        }
        let bytes = bytes.next_multiple_of(granularity.max(1));
        // SAFETY: as above.
        driver.check("cuMemCreate", unsafe { (driver.mem_create)(&mut allocation, bytes, &properties, 0) })?;
        match map(driver, device, allocation, bytes) {
            Ok(address) => Ok(Self { address, bytes, allocation: Some(allocation) }),
            Err(error) => {
                // SAFETY: nothing maps the allocation.
                unsafe { (driver.mem_release)(allocation) };
                Err(error)
            }
        }
    }

    /// A descriptor that another process can import; close-on-exec.
    pub fn export_descriptor(&self, driver: &Driver) -> DriverResult<OwnedFd> {
        let _alone = one_at_a_time();
        let allocation = self.allocation.expect("only VMM scratch is shared as a descriptor");
        let mut descriptor: c_int = -1;
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

    /// The legacy IPC handle.
    pub fn export_ipc(&self, driver: &Driver) -> DriverResult<[u8; IPC_HANDLE_BYTES]> {
        let mut handle = CUipcMemHandle { reserved: [0; IPC_HANDLE_BYTES] };
        // SAFETY: the out pointer is ours.
        driver.check("cuIpcGetMemHandle", unsafe { (driver.ipc_get_mem_handle)(&mut handle, self.address) })?;
        Ok(handle.reserved.map(|byte| byte as u8))
    }

    /// What a peer in this process maps.
    pub fn same_process_key(&self) -> SameProcessKey {
        SameProcessKey { allocation: self.allocation, address: self.address, bytes: self.bytes }
    }

    /// Gives the memory back. The caller knows that no kernel of ours uses it any more; a peer's mapping of a VMM allocation
    /// keeps the memory alive for the peer.
    pub fn free(self, driver: &Driver) -> DriverResult<()> {
        let _alone = one_at_a_time();
        match self.allocation {
            Some(allocation) => {
                unmap(driver, self.address, self.bytes)?;
                // SAFETY: our mapping is gone.
                driver.check("cuMemRelease", unsafe { (driver.mem_release)(allocation) })
            }
            // SAFETY: allocated in `allocate`.
            None => driver.check("cuMemFree", unsafe { (driver.mem_free)(self.address) }),
        }
    }
}

/// Names a scratch allocation within this process.
#[derive(Clone, Copy, Debug)]
pub struct SameProcessKey {
    allocation: Option<CUmemGenericAllocationHandle>,
    address: CUdeviceptr,
    bytes: usize,
}

impl PeerScratch {
    /// Maps what a peer process exported, for `device`.
    pub fn import_descriptor(
        driver: &Driver,
        device: CUdevice,
        descriptor: &OwnedFd,
        bytes: usize,
    ) -> DriverResult<Self> {
        let _alone = one_at_a_time();
        let mut allocation: CUmemGenericAllocationHandle = 0;
        // SAFETY: for this handle type the descriptor itself travels in the pointer.
        unsafe {
            driver.check(
                "cuMemImportFromShareableHandle",
                (driver.mem_import)(&mut allocation, descriptor.as_raw_fd() as usize as *mut c_void, POSIX_FD),
            )?;
        }
        let bytes = bytes.next_multiple_of(granularity(driver, device)?);
        let mapped = map(driver, device, allocation, bytes);
        // SAFETY: the mapping, if there is one, keeps the memory.
        let released = driver.check("cuMemRelease", unsafe { (driver.mem_release)(allocation) });
        let address = mapped?;
        released?;
        Ok(Self { address, bytes, kind: PeerKind::Mapped })
    }

    /// Opens a legacy IPC handle of a peer process.
    pub fn import_ipc(driver: &Driver, handle: [u8; IPC_HANDLE_BYTES], bytes: usize) -> DriverResult<Self> {
        let mut address: CUdeviceptr = 0;
        let handle = CUipcMemHandle { reserved: handle.map(|byte| byte as _) };
        // SAFETY: the out pointer is ours; the driver checks the handle.
        driver.check("cuIpcOpenMemHandle", unsafe {
            (driver.ipc_open_mem_handle)(&mut address, handle, IPC_LAZY_ENABLE_PEER_ACCESS)
        })?;
        Ok(Self { address, bytes, kind: PeerKind::Ipc })
    }

    /// Maps scratch of another rank of this process, in `context`, which is the current one and that of `device`.
    pub(crate) fn same_process(
        driver: &Driver,
        device: CUdevice,
        context: super::CUcontext,
        key: SameProcessKey,
        peer_context: super::CUcontext,
    ) -> DriverResult<Self> {
        let _alone = one_at_a_time();
        if let Some(allocation) = key.allocation {
            let address = map(driver, device, allocation, key.bytes)?;
            return Ok(Self { address, bytes: key.bytes, kind: PeerKind::Mapped });
        }
        const PEER_ACCESS_ALREADY_ENABLED: c_int = 704;
        // Ranks that share a GPU share its context.
        if peer_context != context {
            // SAFETY: both are primary contexts that are retained.
            let code = unsafe { (driver.ctx_enable_peer_access)(peer_context, 0) };
            if code != PEER_ACCESS_ALREADY_ENABLED {
                driver.check("cuCtxEnablePeerAccess", code)?;
            }
        }
        Ok(Self { address: key.address, bytes: key.bytes, kind: PeerKind::SameProcess })
    }

    /// Takes the mapping away. The caller knows that no kernel of ours uses it any more.
    pub fn close(self, driver: &Driver) -> DriverResult<()> {
        let _alone = one_at_a_time();
        match self.kind {
            PeerKind::Mapped => unmap(driver, self.address, self.bytes),
            PeerKind::Ipc => {
                // SAFETY: opened by import_ipc.
                driver.check("cuIpcCloseMemHandle", unsafe { (driver.ipc_close_mem_handle)(self.address) })
            }
            PeerKind::SameProcess => Ok(()),
        }
    }
}

fn granularity(driver: &Driver, device: CUdevice) -> DriverResult<usize> {
    let mut granularity = 0_usize;
    let properties = properties(device);
    // SAFETY: the out pointer is ours.
    driver.check("cuMemGetAllocationGranularity", unsafe {
        (driver.mem_get_allocation_granularity)(&mut granularity, &properties, 0)
    })?;
    Ok(granularity.max(1))
}
