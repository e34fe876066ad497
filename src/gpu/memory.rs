//! Scratch memory: allocated by its rank, mapped by every peer.
//!
//! Usually it is a VMM allocation that is passed as a file descriptor (within one process, as its handle). Every
//! mapping keeps the memory alive. If a device lacks VMM, it is plain device memory that is passed as a legacy IPC
//! handle (within one process, as its address). Its owner must not free it while a peer has it open. So each peer
//! holds a lease until it has closed the memory. The lease of another process is the write end of a pipe, which also
//! closes when that process ends; the lease of a rank of this process is a reference.

use std::ffi::{c_int, c_void};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use cudarc::driver::sys::{
    CUipcMemHandle, CUmemAccess_flags, CUmemAccessDesc, CUmemAllocationHandleType, CUmemAllocationProp,
    CUmemAllocationType, CUmemGenericAllocationHandle, CUmemLocation, CUmemLocationType,
};

use crate::gpu::driver::{Driver, DriverResult};
use crate::gpu::{CUdevice, CUdeviceptr};
use crate::host::lock::{Held, Lock};

const POSIX_FD: u32 = CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR.0;
const IPC_LAZY_ENABLE_PEER_ACCESS: u32 = 1;

/// Bytes of a legacy IPC handle.
pub const IPC_HANDLE_BYTES: usize = 64;

/// How scratch is shared with the peers. All ranks of a communicator use the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// A VMM allocation, passed as a file descriptor.
    Descriptor,
    /// `cuMemAlloc` memory, passed as a legacy IPC handle.
    LegacyIpc,
}

/// Scratch that this rank owns, mapped here.
#[derive(Debug)]
pub struct Scratch {
    /// Its address on its own device.
    pub address: CUdeviceptr,
    bytes: usize,
    allocation: Option<CUmemGenericAllocationHandle>,
    /// Leases held in this process, by ranks that map it or use its address.
    leases_here: Arc<()>,
    /// The read end of the pipe whose write ends are the leases of other processes.
    leases_elsewhere: Option<OwnedFd>,
}

/// Scratch of a peer, mapped here.
#[derive(Debug)]
pub struct PeerScratch {
    /// Its address on this rank's device.
    pub address: CUdeviceptr,
    bytes: usize,
    kind: PeerKind,
}

#[derive(Debug)]
enum PeerKind {
    Mapped,
    /// With the lease, which is held until the memory is closed.
    Ipc(OwnedFd),
    SameProcess(#[allow(dead_code, reason = "held, not read")] Arc<()>),
}

/// Only one thread of the process at a time maps, unmaps, imports or releases. With several threads that did so with
/// the same allocations, the driver's heap was corrupted (580.159, 4 threads, within 40 communicators made and
/// destroyed). The driver may wait for the GPU while the lock is held. So nothing is unmapped while a setup is under
/// way: its ranks may wait for one that is about to take this lock.
static MAPPING: Lock<()> = Lock::new(());

fn lock_mapping() -> Held<'static, ()> {
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

/// Reserves addresses, maps `allocation` there and grants `device` access.
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
        let _held = lock_mapping();
        if sharing == Sharing::LegacyIpc {
            let mut address: CUdeviceptr = 0;
            // SAFETY: the out pointer is ours.
            driver.check("cuMemAlloc", unsafe { (driver.mem_alloc)(&mut address, bytes) })?;
            return Ok(Self::new(address, bytes, None));
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
            Ok(address) => Ok(Self::new(address, bytes, Some(allocation))),
            Err(error) => {
                // SAFETY: nothing maps the allocation.
                unsafe { (driver.mem_release)(allocation) };
                Err(error)
            }
        }
    }

    fn new(address: CUdeviceptr, bytes: usize, allocation: Option<CUmemGenericAllocationHandle>) -> Self {
        Self { address, bytes, allocation, leases_here: Arc::default(), leases_elsewhere: None }
    }

    /// The lease that every peer in another process must hold from before it opens the legacy IPC handle until it has
    /// closed it. The caller passes it on and drops it.
    pub fn lease(&mut self) -> io::Result<OwnedFd> {
        let mut ends = [-1; 2];
        // SAFETY: two descriptors are written, and are ours then.
        let (reading, writing) = unsafe {
            if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
                return Err(io::Error::last_os_error());
            }
            (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
        };
        self.leases_elsewhere = Some(reading);
        Ok(writing)
    }

    /// Whether a peer holds a lease.
    pub fn is_leased(&self) -> bool {
        Arc::strong_count(&self.leases_here) > 1 || self.is_leased_elsewhere()
    }

    /// Whether a peer in another process holds a lease. A pipe hangs up when its last write end is closed.
    pub fn is_leased_elsewhere(&self) -> bool {
        self.leases_elsewhere.as_ref().is_some_and(|pipe| {
            let mut polled = libc::pollfd { fd: pipe.as_raw_fd(), events: 0, revents: 0 };
            // SAFETY: one pollfd, as said; it does not wait.
            let news = unsafe { libc::poll(&mut polled, 1, 0) };
            news != 1 || polled.revents & libc::POLLHUP == 0
        })
    }

    /// A descriptor that another process can import; close-on-exec.
    pub fn export_descriptor(&self, driver: &Driver) -> DriverResult<OwnedFd> {
        let _held = lock_mapping();
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

    /// What a peer in this process needs to map the scratch.
    pub fn same_process_key(&self) -> SameProcessKey {
        let lease = Arc::clone(&self.leases_here);
        SameProcessKey { allocation: self.allocation, address: self.address, bytes: self.bytes, lease }
    }

    /// Frees the memory. The caller knows that no kernel of Dime uses it and that no peer holds a lease. A peer's
    /// mapping of a VMM allocation keeps the memory alive for that peer.
    pub fn free(self, driver: &Driver) -> DriverResult<()> {
        match self.allocation {
            Some(allocation) => {
                let _held = lock_mapping();
                unmap(driver, self.address, self.bytes)?;
                // SAFETY: our mapping is gone.
                driver.check("cuMemRelease", unsafe { (driver.mem_release)(allocation) })
            }
            // SAFETY: allocated in `allocate`.
            None => driver.check("cuMemFree", unsafe { (driver.mem_free)(self.address) }),
        }
    }
}

/// A scratch allocation within this process. Holding the key keeps the memory.
#[derive(Clone, Debug)]
pub struct SameProcessKey {
    allocation: Option<CUmemGenericAllocationHandle>,
    address: CUdeviceptr,
    bytes: usize,
    lease: Arc<()>,
}

impl PeerScratch {
    /// Maps what a peer process exported, for `device`.
    pub fn import_descriptor(
        driver: &Driver,
        device: CUdevice,
        descriptor: &OwnedFd,
        bytes: usize,
    ) -> DriverResult<Self> {
        let _held = lock_mapping();
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

    /// Opens a legacy IPC handle of a peer process; `lease` is its lease.
    pub fn import_ipc(
        driver: &Driver,
        handle: [u8; IPC_HANDLE_BYTES],
        bytes: usize,
        lease: OwnedFd,
    ) -> DriverResult<Self> {
        let mut address: CUdeviceptr = 0;
        let handle = CUipcMemHandle { reserved: handle.map(|byte| byte as _) };
        // SAFETY: the out pointer is ours; the driver checks the handle.
        driver.check("cuIpcOpenMemHandle", unsafe {
            (driver.ipc_open_mem_handle)(&mut address, handle, IPC_LAZY_ENABLE_PEER_ACCESS)
        })?;
        Ok(Self { address, bytes, kind: PeerKind::Ipc(lease) })
    }

    /// Maps the scratch of another rank of this process. `context` is current and belongs to `device`.
    pub(crate) fn same_process(
        driver: &Driver,
        device: CUdevice,
        context: super::CUcontext,
        key: SameProcessKey,
        peer_context: super::CUcontext,
    ) -> DriverResult<Self> {
        let _held = lock_mapping();
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
        Ok(Self { address: key.address, bytes: key.bytes, kind: PeerKind::SameProcess(key.lease) })
    }

    /// Unmaps or closes the memory. The caller knows that no kernel of Dime uses it.
    pub fn close(self, driver: &Driver) -> DriverResult<()> {
        match self.kind {
            PeerKind::Mapped => {
                let _held = lock_mapping();
                unmap(driver, self.address, self.bytes)
            }
            PeerKind::Ipc(lease) => {
                // SAFETY: opened by import_ipc.
                let closed =
                    driver.check("cuIpcCloseMemHandle", unsafe { (driver.ipc_close_mem_handle)(self.address) });
                // The lease is kept: memory that may still be open must not be freed.
                closed.inspect_err(|_| mem::forget(lease))
            }
            PeerKind::SameProcess(_) => Ok(()),
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
