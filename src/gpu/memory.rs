//! Scratch memory: allocated by its rank, mapped by every peer.
//!
//! Usually it is a VMM allocation that is passed as a file descriptor (within one process, as its handle). Every
//! mapping keeps the memory alive. If a device lacks VMM, it is plain device memory that is passed as a legacy IPC
//! handle (within one process, as its address). Its owner must not free it while a peer has it open. So each peer
//! holds a lease until it has closed the memory. The lease of another process is the write end of a pipe, which also
//! closes when that process ends; the lease of a rank of this process is a reference.
//!
//! VMM scratch can be suspended: the physical memory is released, and the addresses stay reserved. When it is resumed,
//! new physical memory is mapped at the same addresses, so the graphs that contain them stay valid.

use std::ffi::c_int;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::CUipcMemHandle;

use crate::gpu::driver::{Driver, DriverResult};
use crate::gpu::virtual_memory::{
    self, CUmemGenericAllocationHandle, create, free_addresses, granularity, lock_mapping, map, map_at, release, unmap,
    with_import,
};
use crate::gpu::{CUdevice, CUdeviceptr};

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
    /// Its address on its own device, which it keeps while it is suspended.
    pub address: CUdeviceptr,
    bytes: usize,
    /// A plain mutex suffices: a child of fork never looks at its parent's scratch.
    backing: Mutex<Backing>,
    /// Leases held in this process, by ranks that map it or use its address.
    leases_here: Arc<()>,
    /// The read end of the pipe whose write ends are the leases of other processes.
    leases_elsewhere: Option<OwnedFd>,
}

/// The physical memory behind the addresses of a rank's own scratch.
#[derive(Clone, Copy, Debug)]
enum Backing {
    /// None: a VMM allocation was here, and is suspended.
    Suspended,
    /// Memory of `cuMemAlloc`, shared by legacy IPC.
    Plain,
    /// A VMM allocation, mapped.
    Allocation(CUmemGenericAllocationHandle),
}

/// Scratch of a peer, mapped here.
#[derive(Debug)]
pub struct PeerScratch {
    /// Its address on this rank's device, which it keeps while it is suspended.
    pub address: CUdeviceptr,
    bytes: usize,
    kind: PeerKind,
}

#[derive(Debug)]
enum PeerKind {
    /// A VMM allocation; false: suspended, and the addresses are only reserved.
    Mapped(AtomicBool),
    /// With the lease, which is held until the memory is closed.
    Ipc(OwnedFd),
    SameProcess(#[allow(dead_code, reason = "held, not read")] Arc<()>),
}

impl Scratch {
    /// Allocates `bytes` (rounded up to what the driver asks for) on `device`, whose context is current.
    pub fn allocate(driver: &Driver, device: CUdevice, bytes: usize, sharing: Sharing) -> DriverResult<Self> {
        let _held = lock_mapping();
        if sharing == Sharing::LegacyIpc {
            let mut address: CUdeviceptr = 0;
            // SAFETY: the out pointer is ours.
            driver.check("cuMemAlloc", unsafe { (driver.mem_alloc)(&mut address, bytes) })?;
            return Ok(Self::new(address, bytes, Backing::Plain));
        }
        let bytes = bytes.next_multiple_of(granularity(driver, device)?);
        let allocation = create(driver, device, bytes)?;
        match map(driver, device, allocation, bytes) {
            Ok(address) => Ok(Self::new(address, bytes, Backing::Allocation(allocation))),
            Err(error) => {
                // Only the first error is reported.
                let _ = release(driver, allocation);
                Err(error)
            }
        }
    }

    fn new(address: CUdeviceptr, bytes: usize, backing: Backing) -> Self {
        let backing = Mutex::new(backing);
        Self { address, bytes, backing, leases_here: Arc::default(), leases_elsewhere: None }
    }

    /// How it is shared.
    pub fn sharing(&self) -> Sharing {
        match *self.backing() {
            Backing::Plain => Sharing::LegacyIpc,
            Backing::Allocation(_) | Backing::Suspended => Sharing::Descriptor,
        }
    }

    /// Runs `work` with the address. The memory is not suspended meanwhile. None: it is suspended.
    pub fn while_present<T>(&self, work: impl FnOnce(CUdeviceptr) -> T) -> Option<T> {
        let backing = self.backing();
        (!matches!(*backing, Backing::Suspended)).then(|| work(self.address))
    }

    /// Releases the physical memory of a VMM allocation and keeps the addresses. Does nothing if that was done. The
    /// caller knows that no kernel of Dime uses the memory. A peer's mapping keeps the memory alive for that peer.
    pub fn suspend(&self, driver: &Driver) -> DriverResult<()> {
        let mut backing = self.backing();
        if let Backing::Allocation(allocation) = *backing {
            let _held = lock_mapping();
            unmap(driver, self.address, self.bytes)?;
            *backing = Backing::Suspended;
            release(driver, allocation)?;
        }
        Ok(())
    }

    /// Maps new physical memory at the addresses that [`Self::suspend`] kept.
    pub fn resume(&self, driver: &Driver, device: CUdevice) -> DriverResult<()> {
        let mut backing = self.backing();
        let _held = lock_mapping();
        let allocation = create(driver, device, self.bytes)?;
        if let Err(error) = map_at(driver, device, allocation, self.address, self.bytes) {
            // Only the first error is reported.
            let _ = release(driver, allocation);
            return Err(error);
        }
        *backing = Backing::Allocation(allocation);
        Ok(())
    }

    fn backing(&self) -> MutexGuard<'_, Backing> {
        self.backing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn allocation(&self) -> Option<CUmemGenericAllocationHandle> {
        if let Backing::Allocation(allocation) = *self.backing() { Some(allocation) } else { None }
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
        let allocation = self.allocation().expect("only VMM scratch is shared as a descriptor");
        let _held = lock_mapping();
        virtual_memory::export(driver, allocation)
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
        SameProcessKey { allocation: self.allocation(), address: self.address, bytes: self.bytes, lease }
    }

    /// Frees the memory. The caller knows that no kernel of Dime uses it and that no peer holds a lease. A peer's
    /// mapping of a VMM allocation keeps the memory alive for that peer.
    pub fn free(self, driver: &Driver) -> DriverResult<()> {
        let backing = *self.backing();
        match backing {
            Backing::Allocation(allocation) => {
                let _held = lock_mapping();
                unmap(driver, self.address, self.bytes)?;
                free_addresses(driver, self.address, self.bytes)?;
                release(driver, allocation)
            }
            Backing::Suspended => {
                let _held = lock_mapping();
                free_addresses(driver, self.address, self.bytes)
            }
            // SAFETY: allocated in `allocate`.
            Backing::Plain => driver.check("cuMemFree", unsafe { (driver.mem_free)(self.address) }),
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
        let bytes = bytes.next_multiple_of(granularity(driver, device)?);
        let address = with_import(driver, descriptor, |allocation| map(driver, device, allocation, bytes))?;
        Ok(Self { address, bytes, kind: PeerKind::mapped() })
    }

    /// Unmaps a peer's VMM allocation and keeps the addresses. Does nothing if that was done. The caller knows that no
    /// kernel of Dime uses the memory.
    pub fn suspend(&self, driver: &Driver) -> DriverResult<()> {
        if let PeerKind::Mapped(is_mapped) = &self.kind
            && is_mapped.load(Ordering::Acquire)
        {
            let _held = lock_mapping();
            unmap(driver, self.address, self.bytes)?;
            is_mapped.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// Maps, at the addresses that [`Self::suspend`] kept, what a peer process exported.
    pub fn resume_descriptor(&self, driver: &Driver, device: CUdevice, descriptor: &OwnedFd) -> DriverResult<()> {
        let _held = lock_mapping();
        with_import(driver, descriptor, |allocation| self.map_again(driver, device, allocation))
    }

    /// As [`Self::resume_descriptor`], for the scratch of another rank of this process.
    pub fn resume_same_process(&self, driver: &Driver, device: CUdevice, key: &SameProcessKey) -> DriverResult<()> {
        let allocation = key.allocation.expect("only VMM scratch is suspended");
        let _held = lock_mapping();
        self.map_again(driver, device, allocation)
    }

    fn map_again(
        &self,
        driver: &Driver,
        device: CUdevice,
        allocation: CUmemGenericAllocationHandle,
    ) -> DriverResult<()> {
        let PeerKind::Mapped(is_mapped) = &self.kind else { unreachable!("only VMM scratch is suspended") };
        map_at(driver, device, allocation, self.address, self.bytes)?;
        is_mapped.store(true, Ordering::Release);
        Ok(())
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
            return Ok(Self { address, bytes: key.bytes, kind: PeerKind::mapped() });
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
            PeerKind::Mapped(is_mapped) => {
                let _held = lock_mapping();
                if is_mapped.into_inner() {
                    unmap(driver, self.address, self.bytes)?;
                }
                free_addresses(driver, self.address, self.bytes)
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

impl PeerKind {
    fn mapped() -> Self {
        Self::Mapped(AtomicBool::new(true))
    }
}
