//! The driver functions that this library calls, each with an integer result, and checked calls on top.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fmt;

use cudarc::driver::sys::{
    CUcontext, CUdevice, CUdeviceptr, CUevent, CUfunction, CUgraph, CUgraphNode, CUipcMemHandle, CUlaunchConfig,
    CUmemAccessDesc, CUmemAllocationProp, CUmemGenericAllocationHandle, CUmodule, CUstream, CUuserObject, CUuuid,
};
use once_cell::race::OnceBox;

use crate::gpu::image::DriverVersion;

/// A driver call that failed: the call, the code, and the driver's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverError {
    /// The driver function.
    pub call: &'static str,
    /// Its result.
    pub code: c_int,
    /// The driver's text for the result.
    pub text: String,
}

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed: {} ({})", self.call, self.text, self.code)
    }
}

/// What a checked driver call returns.
pub type DriverResult<T> = Result<T, DriverError>;

/// The kind of an edge in a graph; all 0: after the node's end. This is the driver's CUgraphEdgeData, which CUDA 12.3
/// added.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EdgeData {
    from_port: u8,
    to_port: u8,
    kind: u8,
    reserved: [u8; 5],
}

macro_rules! driver_functions {
    (
        newer { $($newer:ident = $newer_symbol:literal ($($newer_argument:ty),* $(,)?);)* }
        $($field:ident = $symbol:literal ($($argument:ty),* $(,)?);)*
    ) => {
        /// The opened driver. CUDA 12.0 is the oldest supported; newer functions may be missing.
        #[allow(missing_docs)]
        pub struct Driver {
            $(pub $field: unsafe extern "C" fn($($argument),*) -> c_int,)*
            $(pub $newer: Option<unsafe extern "C" fn($($newer_argument),*) -> c_int>,)*
        }

        impl Driver {
            fn open() -> Result<Self, String> {
                let library = open_library()?;
                Ok(Self {
                    $($field: {
                        let address = symbol(library, concat!($symbol, "\0"))
                            .ok_or(concat!("libcuda.so.1 has no ", $symbol, ": the driver is too old; Dime needs 525 (CUDA 12.0) or newer"))?;
                        // SAFETY: the driver's function of this name has this C type.
                        unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) -> c_int>(address) }
                    },)*
                    $($newer: symbol(library, concat!($newer_symbol, "\0")).map(|address| {
                        // SAFETY: as above.
                        unsafe {
                            std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($newer_argument),*) -> c_int>(address)
                        }
                    }),)*
                })
            }
        }
    };
}

driver_functions! {
    newer {
        // 12.4; loads a function without running it.
        func_load = "cuFuncLoad" (CUfunction);
        // 12.3; the older version fails for nodes with edges of another kind than after their end.
        stream_get_capture_info_with_edges = "cuStreamGetCaptureInfo_v3"
            (CUstream, *mut c_int, *mut u64, *mut CUgraph, *mut *const CUgraphNode, *mut *const EdgeData, *mut usize);
    }
    init = "cuInit" (c_uint);
    driver_get_version = "cuDriverGetVersion" (*mut c_int);
    get_error_string = "cuGetErrorString" (c_int, *mut *const c_char);
    device_get_count = "cuDeviceGetCount" (*mut c_int);
    device_get_attribute = "cuDeviceGetAttribute" (*mut c_int, c_int, CUdevice);
    device_get_name = "cuDeviceGetName" (*mut c_char, c_int, CUdevice);
    device_get_uuid = "cuDeviceGetUuid_v2" (*mut CUuuid, CUdevice);
    device_get_p2p_attribute = "cuDeviceGetP2PAttribute" (*mut c_int, c_int, CUdevice, CUdevice);
    device_can_access_peer = "cuDeviceCanAccessPeer" (*mut c_int, CUdevice, CUdevice);
    primary_ctx_retain = "cuDevicePrimaryCtxRetain" (*mut CUcontext, CUdevice);
    primary_ctx_release = "cuDevicePrimaryCtxRelease_v2" (CUdevice);
    ctx_get_id = "cuCtxGetId" (CUcontext, *mut u64);
    ctx_get_current = "cuCtxGetCurrent" (*mut CUcontext);
    ctx_synchronize = "cuCtxSynchronize" ();
    ctx_push_current = "cuCtxPushCurrent_v2" (CUcontext);
    ctx_pop_current = "cuCtxPopCurrent_v2" (*mut CUcontext);
    ctx_enable_peer_access = "cuCtxEnablePeerAccess" (CUcontext, c_uint);
    mem_alloc = "cuMemAlloc_v2" (*mut CUdeviceptr, usize);
    mem_free = "cuMemFree_v2" (CUdeviceptr);
    mem_host_alloc = "cuMemHostAlloc" (*mut *mut c_void, usize, c_uint);
    mem_free_host = "cuMemFreeHost" (*mut c_void);
    mem_host_register = "cuMemHostRegister_v2" (*mut c_void, usize, c_uint);
    mem_host_get_device_pointer = "cuMemHostGetDevicePointer_v2" (*mut CUdeviceptr, *mut c_void, c_uint);
    memset_d8_async = "cuMemsetD8Async" (CUdeviceptr, u8, usize, CUstream);
    memset_d32_async = "cuMemsetD32Async" (CUdeviceptr, c_uint, usize, CUstream);
    memcpy_htod_async = "cuMemcpyHtoDAsync_v2" (CUdeviceptr, *const c_void, usize, CUstream);
    memcpy_dtoh_async = "cuMemcpyDtoHAsync_v2" (*mut c_void, CUdeviceptr, usize, CUstream);
    mem_get_allocation_granularity = "cuMemGetAllocationGranularity" (*mut usize, *const CUmemAllocationProp, c_uint);
    mem_create = "cuMemCreate" (*mut CUmemGenericAllocationHandle, usize, *const CUmemAllocationProp, u64);
    mem_release = "cuMemRelease" (CUmemGenericAllocationHandle);
    mem_address_reserve = "cuMemAddressReserve" (*mut CUdeviceptr, usize, usize, CUdeviceptr, u64);
    mem_address_free = "cuMemAddressFree" (CUdeviceptr, usize);
    mem_map = "cuMemMap" (CUdeviceptr, usize, usize, CUmemGenericAllocationHandle, u64);
    mem_unmap = "cuMemUnmap" (CUdeviceptr, usize);
    mem_set_access = "cuMemSetAccess" (CUdeviceptr, usize, *const CUmemAccessDesc, usize);
    mem_export = "cuMemExportToShareableHandle" (*mut c_void, CUmemGenericAllocationHandle, c_uint, u64);
    mem_import = "cuMemImportFromShareableHandle" (*mut CUmemGenericAllocationHandle, *mut c_void, c_uint);
    ipc_get_mem_handle = "cuIpcGetMemHandle" (*mut CUipcMemHandle, CUdeviceptr);
    ipc_open_mem_handle = "cuIpcOpenMemHandle_v2" (*mut CUdeviceptr, CUipcMemHandle, c_uint);
    ipc_close_mem_handle = "cuIpcCloseMemHandle" (CUdeviceptr);
    stream_create = "cuStreamCreate" (*mut CUstream, c_uint);
    stream_destroy = "cuStreamDestroy_v2" (CUstream);
    stream_synchronize = "cuStreamSynchronize" (CUstream);
    stream_query = "cuStreamQuery" (CUstream);
    stream_wait_event = "cuStreamWaitEvent" (CUstream, CUevent, c_uint);
    stream_get_capture_info = "cuStreamGetCaptureInfo_v2"
        (CUstream, *mut c_int, *mut u64, *mut CUgraph, *mut *const CUgraphNode, *mut usize);
    thread_exchange_stream_capture_mode = "cuThreadExchangeStreamCaptureMode" (*mut c_int);
    stream_update_capture_dependencies = "cuStreamUpdateCaptureDependencies" (CUstream, *mut CUgraphNode, usize, c_uint);
    graph_add_event_record_node = "cuGraphAddEventRecordNode"
        (*mut CUgraphNode, CUgraph, *const CUgraphNode, usize, CUevent);
    graph_add_dependencies = "cuGraphAddDependencies" (CUgraph, *const CUgraphNode, *const CUgraphNode, usize);
    graph_remove_dependencies = "cuGraphRemoveDependencies" (CUgraph, *const CUgraphNode, *const CUgraphNode, usize);
    user_object_create = "cuUserObjectCreate"
        (*mut CUuserObject, *mut c_void, unsafe extern "C" fn(*mut c_void), c_uint, c_uint);
    user_object_release = "cuUserObjectRelease" (CUuserObject, c_uint);
    graph_retain_user_object = "cuGraphRetainUserObject" (CUgraph, CUuserObject, c_uint, c_uint);
    event_create = "cuEventCreate" (*mut CUevent, c_uint);
    event_destroy = "cuEventDestroy_v2" (CUevent);
    event_record = "cuEventRecord" (CUevent, CUstream);
    event_query = "cuEventQuery" (CUevent);
    module_load_data = "cuModuleLoadData" (*mut CUmodule, *const c_void);
    module_get_function = "cuModuleGetFunction" (*mut CUfunction, CUmodule, *const c_char);
    func_get_attribute = "cuFuncGetAttribute" (*mut c_int, c_int, CUfunction);
    launch_kernel_ex = "cuLaunchKernelEx" (*const CUlaunchConfig, CUfunction, *mut *mut c_void, *mut *mut c_void);
}

/// Threads that come first together each open the driver, and the first result is kept. So a child of fork finds no
/// lock held.
static DRIVER: OnceBox<Result<Driver, String>> = OnceBox::new();

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Driver")
    }
}

impl Driver {
    /// The driver, opened and initialised at the first call; or why there is none.
    pub fn get() -> Result<&'static Self, String> {
        DRIVER.get_or_init(|| Box::new(Self::open_and_initialize())).as_ref().map_err(Clone::clone)
    }

    fn open_and_initialize() -> Result<Self, String> {
        let driver = Self::open()?;
        // SAFETY: cuInit may be called at any time and any number of times.
        driver.check("cuInit", unsafe { (driver.init)(0) }).map_err(|error| error.to_string())?;
        Ok(driver)
    }

    /// The driver's version.
    pub fn version(&self) -> DriverResult<DriverVersion> {
        let mut version = 0;
        // SAFETY: the out pointer is ours.
        self.check("cuDriverGetVersion", unsafe { (self.driver_get_version)(&mut version) })?;
        Ok(DriverVersion(version as u32))
    }

    /// The driver's version in words, such as "580.159.03 (CUDA 13.0)". Reads a file: not for the path of a call.
    pub fn version_in_words(&self) -> String {
        let cuda = self.version().map_or_else(|_| "unknown".to_owned(), DriverVersion::cuda);
        let text = std::fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
        format!("{} (CUDA {cuda})", module_version(&text).unwrap_or("unknown"))
    }

    /// Turns a driver result into an error that names the call.
    pub fn check(&self, call: &'static str, code: c_int) -> DriverResult<()> {
        if code == 0 { Ok(()) } else { Err(self.error(call, code)) }
    }

    #[cold]
    fn error(&self, call: &'static str, code: c_int) -> DriverError {
        let mut text: *const c_char = std::ptr::null();
        // SAFETY: the pointer is ours; an unknown code leaves it null.
        unsafe { (self.get_error_string)(code, &mut text) };
        let text = if text.is_null() {
            "unknown error".to_owned()
        } else {
            // SAFETY: the driver returned a C string that it keeps.
            unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
        };
        DriverError { call, code, text }
    }
}

/// The version in the text that the kernel module shows: the first word of digits and dots.
fn module_version(text: &str) -> Option<&str> {
    let is_version = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.split_whitespace().find(is_version)
}

fn open_library() -> Result<*mut c_void, String> {
    // SAFETY: a constant C string; the handle is kept for the life of the process.
    let library = unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if !library.is_null() {
        return Ok(library);
    }
    // SAFETY: dlerror returns null or a C string of this thread.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return Err("libcuda.so.1 cannot be opened".to_owned());
    }
    // SAFETY: as above.
    Err(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

fn symbol(library: *mut c_void, name: &'static str) -> Option<*mut c_void> {
    debug_assert!(name.ends_with('\0'));
    // SAFETY: an open handle and a string that ends in NUL.
    let address = unsafe { libc::dlsym(library, name.as_ptr().cast()) };
    (!address.is_null()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::module_version;

    #[test]
    fn the_version_is_found_in_what_the_kernel_module_shows() {
        let text =
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.03  Release Build\nGCC version: 12.2.0\n";
        assert_eq!(module_version(text), Some("580.159.03"));
        assert_eq!(module_version(""), None);
    }
}
