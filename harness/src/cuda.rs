//! The CUDA driver, opened at run time: a table of the functions that the tools call, and small owners for what they make.
//!
//! Results are plain integers, never a closed enum, so a code that a newer driver invents is printed and not misread.
//! Everything here works on the primary context of a device, the one the runtime API inside NCCL uses too.
//! Owners give their object back on drop, unless anything failed before: freeing memory behind a kernel that spins for
//! a peer that is gone would never return, so after a failure everything is left to the end of the process.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::loader::{Opened, function_table};

type Handle = *mut c_void;

/// CU_STREAM_NON_BLOCKING
const STREAM_NON_BLOCKING: c_uint = 1;
/// CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
const CAPTURE_THREAD_LOCAL: c_int = 1;
/// CUDA_ERROR_NOT_READY
const NOT_READY: c_int = 600;

function_table! {
    /// Entry points of libcuda.so.1.
    struct Driver;
    init = "cuInit" (c_uint);
    error_name = "cuGetErrorName" (c_int, *mut *const c_char);
    error_string = "cuGetErrorString" (c_int, *mut *const c_char);
    driver_version = "cuDriverGetVersion" (*mut c_int);
    device_count = "cuDeviceGetCount" (*mut c_int);
    device_get = "cuDeviceGet" (*mut c_int, c_int);
    device_name = "cuDeviceGetName" (*mut c_char, c_int, c_int);
    device_memory = "cuDeviceTotalMem_v2" (*mut usize, c_int);
    device_attribute = "cuDeviceGetAttribute" (*mut c_int, c_int, c_int);
    primary_retain = "cuDevicePrimaryCtxRetain" (*mut Handle, c_int);
    set_current = "cuCtxSetCurrent" (Handle);
    memory_info = "cuMemGetInfo_v2" (*mut usize, *mut usize);
    alloc = "cuMemAlloc_v2" (*mut u64, usize);
    free = "cuMemFree_v2" (u64);
    host_alloc = "cuMemHostAlloc" (*mut Handle, usize, c_uint);
    host_free = "cuMemFreeHost" (Handle);
    set_d8_async = "cuMemsetD8Async" (u64, u8, usize, Handle);
    copy_to_device = "cuMemcpyHtoD_v2" (u64, *const c_void, usize);
    copy_to_host_async = "cuMemcpyDtoHAsync_v2" (Handle, u64, usize, Handle);
    copy_on_device_async = "cuMemcpyDtoDAsync_v2" (u64, u64, usize, Handle);
    stream_create = "cuStreamCreate" (*mut Handle, c_uint);
    stream_destroy = "cuStreamDestroy_v2" (Handle);
    stream_query = "cuStreamQuery" (Handle);
    stream_synchronize = "cuStreamSynchronize" (Handle);
    event_create = "cuEventCreate" (*mut Handle, c_uint);
    event_destroy = "cuEventDestroy_v2" (Handle);
    event_record = "cuEventRecord" (Handle, Handle);
    event_elapsed = "cuEventElapsedTime" (*mut f32, Handle, Handle);
    begin_capture = "cuStreamBeginCapture_v2" (Handle, c_int);
    end_capture = "cuStreamEndCapture" (Handle, *mut Handle);
    graph_instantiate = "cuGraphInstantiateWithFlags" (*mut Handle, Handle, u64);
    graph_upload = "cuGraphUpload" (Handle, Handle);
    graph_launch = "cuGraphLaunch" (Handle, Handle);
    graph_destroy = "cuGraphDestroy" (Handle);
    graph_exec_destroy = "cuGraphExecDestroy" (Handle);
}

impl Driver {
    fn open() -> Fallible<Driver> {
        let library = Opened::open(c"libcuda.so.1").map_err(|error| format!("no CUDA driver here: {error}"))?;
        Driver::resolve(library, |symbol| format!("the CUDA driver has no {symbol}; it is too old"))
    }
}

static ABANDONED: AtomicBool = AtomicBool::new(false);

/// From now on, drops free nothing in this process. Called wherever an error comes up.
pub fn abandon_cleanup() {
    ABANDONED.store(true, Ordering::Release);
}

fn cleans_up() -> bool {
    !ABANDONED.load(Ordering::Acquire)
}

fn driver() -> Fallible<&'static Driver> {
    static DRIVER: OnceLock<Fallible<Driver>> = OnceLock::new();
    DRIVER.get_or_init(Driver::open).as_ref().map_err(Clone::clone)
}

/// Turns a driver result into an error that names the call, the code and its meaning.
fn check(driver: &Driver, code: c_int, call: &str) -> Fallible<()> {
    if code == 0 {
        return Ok(());
    }
    abandon_cleanup();
    let text = |lookup: unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int| {
        let mut text: *const c_char = std::ptr::null();
        // SAFETY: the out pointer is valid; on success the driver leaves a static string there.
        unsafe {
            if lookup(code, &mut text) == 0 && !text.is_null() {
                CStr::from_ptr(text).to_string_lossy().into_owned()
            } else {
                "unknown".to_owned()
            }
        }
    };
    Err(format!("{call}: {} ({code}): {}", text(driver.error_name), text(driver.error_string)))
}

/// Calls one driver function and checks its result.
macro_rules! call {
    ($field:ident($($argument:expr),*)) => {{
        let driver = driver()?;
        // SAFETY: the callers in this module pass live handles and valid out pointers, as each function's contract asks.
        let code = unsafe { (driver.$field)($($argument),*) };
        check(driver, code, Driver::$field)
    }};
}

/// Starts the driver in this process. Never call this in a process that will fork workers.
pub fn init() -> Fallible<()> {
    call!(init(0))
}

/// Devices this process sees.
pub fn device_count() -> Fallible<usize> {
    let mut count = 0;
    call!(device_count(&mut count))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// The CUDA version the driver speaks, as 1000 * major + 10 * minor.
pub fn driver_version() -> Fallible<i32> {
    let mut version = 0;
    call!(driver_version(&mut version))?;
    Ok(version)
}

/// The driver's own version ("580.159.03") as the kernel module states it.
pub fn kernel_driver_version() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    let is_version = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.split_whitespace().find(is_version).map(str::to_owned)
}

/// Whether the driver is that of the simulated node, on which times mean nothing.
pub fn is_simulated() -> bool {
    Opened::open(c"libcuda.so.1").is_ok_and(|library| library.symbol("dimeSimLaunchPolled").is_some())
}

/// The primary context of one device, retained for the life of the process: giving it back and taking it again would
/// cost every run a fresh context.
pub struct Context {
    raw: Handle,
}

impl Context {
    /// Retains the primary context of device `ordinal` and makes it current on this thread.
    pub fn retain(ordinal: usize) -> Fallible<Context> {
        let ordinal = c_int::try_from(ordinal).map_err(|e| e.to_string())?;
        let (mut device, mut raw) = (0, std::ptr::null_mut());
        call!(device_get(&mut device, ordinal)).map_err(|e| format!("device {ordinal}: {e}"))?;
        call!(primary_retain(&mut raw, device)).map_err(|e| format!("device {ordinal}: {e}"))?;
        let context = Context { raw };
        context.enter()?;
        Ok(context)
    }

    /// Makes this context current on the calling thread.
    pub fn enter(&self) -> Fallible<()> {
        call!(set_current(self.raw))
    }

    /// Free and total device memory in bytes. The context must be current.
    pub fn memory_bytes(&self) -> Fallible<(usize, usize)> {
        let (mut free, mut total) = (0, 0);
        call!(memory_info(&mut free, &mut total))?;
        Ok((free, total))
    }
}

/// The product name of device `ordinal`, for example "NVIDIA H200"; makes no context.
pub fn device_name(ordinal: usize) -> Fallible<String> {
    let mut device = 0;
    call!(device_get(&mut device, c_int::try_from(ordinal).map_err(|e| e.to_string())?))?;
    let mut name = [0 as c_char; 128];
    call!(device_name(name.as_mut_ptr(), 127, device))?;
    // SAFETY: the array is larger than what the driver may write, so a terminating zero is always inside it.
    Ok(unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
}

/// The memory of device `ordinal` in bytes; makes no context.
pub fn device_memory_bytes(ordinal: usize) -> Fallible<usize> {
    let (mut device, mut bytes) = (0, 0);
    call!(device_get(&mut device, c_int::try_from(ordinal).map_err(|e| e.to_string())?))?;
    call!(device_memory(&mut bytes, device))?;
    Ok(bytes)
}

/// Whether NVSwitch can do a part of an operation for device `ordinal` (NVLS). None: the driver does not know the question.
pub fn has_multicast(ordinal: usize) -> Option<bool> {
    /// CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED, of CUDA 12.1.
    const MULTICAST_SUPPORTED: c_int = 132;
    let (mut device, mut value) = (0, 0);
    let asked = || -> Fallible<()> {
        call!(device_get(&mut device, c_int::try_from(ordinal).map_err(|e| e.to_string())?))?;
        call!(device_attribute(&mut value, MULTICAST_SUPPORTED, device))
    };
    let asked = { asked }();
    asked.ok().map(|()| value != 0)
}

/// A stream that does not synchronise with the default stream.
pub struct Stream {
    raw: Handle,
}

impl Stream {
    /// Creates a stream in the current context.
    pub fn new() -> Fallible<Stream> {
        let mut raw = std::ptr::null_mut();
        call!(stream_create(&mut raw, STREAM_NON_BLOCKING))?;
        Ok(Stream { raw })
    }

    /// The handle to pass to NCCL.
    pub fn raw(&self) -> Handle {
        self.raw
    }

    /// Waits until the stream is idle, at most `limit`; a stream that is not idle by then is reported as hung.
    pub fn wait(&self, limit: Duration) -> Fallible<()> {
        let start = Instant::now();
        loop {
            let driver = driver()?;
            // SAFETY: the stream is alive.
            let code = unsafe { (driver.stream_query)(self.raw) };
            if code != NOT_READY {
                return check(driver, code, Driver::stream_query);
            }
            let waited = start.elapsed();
            if waited > limit {
                abandon_cleanup();
                return Err(format!("HANG: the stream is still busy after {:.0} s", waited.as_secs_f64()));
            }
            if waited > Duration::from_millis(20) {
                std::thread::sleep(Duration::from_micros(100));
            } else {
                std::hint::spin_loop();
            }
        }
    }

    /// Fills `bytes` bytes at `target` with `value`.
    pub fn fill(&self, target: u64, value: u8, bytes: usize) -> Fallible<()> {
        if bytes == 0 {
            return Ok(());
        }
        call!(set_d8_async(target, value, bytes, self.raw))
    }

    /// Copies `bytes` bytes between two places on this device.
    pub fn copy_on_device(&self, target: u64, source: u64, bytes: usize) -> Fallible<()> {
        if bytes == 0 {
            return Ok(());
        }
        call!(copy_on_device_async(target, source, bytes, self.raw))
    }

    /// Copies `bytes` bytes from the device into `target` at `offset`; they are there once the stream is idle.
    pub fn copy_to_host(&self, target: &PinnedBuffer, offset: usize, source: u64, bytes: usize) -> Fallible<()> {
        if offset.checked_add(bytes).is_none_or(|end| end > target.bytes) {
            return Err(format!(
                "a copy of {bytes} bytes to offset {offset} leaves a buffer of {} bytes",
                target.bytes
            ));
        }
        if bytes == 0 {
            return Ok(());
        }
        call!(copy_to_host_async(target.raw.cast::<u8>().wrapping_add(offset).cast(), source, bytes, self.raw))
    }

    fn begin_capture(&self) -> Fallible<()> {
        call!(begin_capture(self.raw, CAPTURE_THREAD_LOCAL))
    }

    fn end_capture(&self) -> Fallible<Handle> {
        let mut graph = std::ptr::null_mut();
        call!(end_capture(self.raw, &mut graph))?;
        Ok(graph)
    }

    fn instantiate(&self, graph: Handle) -> Fallible<Graph> {
        let mut exec = std::ptr::null_mut();
        let instantiated = call!(graph_instantiate(&mut exec, graph, 0));
        let graph = Graph { graph, exec };
        instantiated?;
        call!(graph_upload(exec, self.raw))?;
        Ok(graph)
    }

    /// Captures what `body` puts on this stream, and makes it launchable.
    pub fn capture(&self, body: impl FnOnce() -> Fallible<()>) -> Fallible<Graph> {
        self.begin_capture()?;
        let recorded = body();
        let ended = self.end_capture();
        recorded.map_err(|e| format!("during stream capture: {e}"))?;
        self.instantiate(ended?)
    }

    /// Launches a captured graph on this stream.
    pub fn launch(&self, graph: &Graph) -> Fallible<()> {
        call!(graph_launch(graph.exec, self.raw))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = (|| if cleans_up() { call!(stream_destroy(self.raw)) } else { Ok(()) })();
    }
}

/// Captures one graph on each of several streams at once, because one grouped call puts work on all of them. `first`
/// is called for each stream by index, then `rest` once.
pub fn capture_all<'a>(
    places: impl Iterator<Item = (&'a Context, &'a Stream)> + Clone,
    first: impl Fn(usize) -> Fallible<()>,
    rest: impl FnOnce() -> Fallible<()>,
) -> Fallible<Vec<Graph>> {
    for (index, (context, stream)) in places.clone().enumerate() {
        context.enter()?;
        stream.begin_capture()?;
        first(index)?;
    }
    rest().map_err(|e| format!("during stream capture: {e}"))?;
    places
        .map(|(context, stream)| {
            context.enter()?;
            let graph = stream.end_capture()?;
            stream.instantiate(graph)
        })
        .collect()
}

/// A timing event.
pub struct Event {
    raw: Handle,
}

impl Event {
    /// Creates an event in the current context.
    pub fn new() -> Fallible<Event> {
        let mut raw = std::ptr::null_mut();
        call!(event_create(&mut raw, 0))?;
        Ok(Event { raw })
    }

    /// Records the event behind the work now on `stream`.
    pub fn record(&self, stream: &Stream) -> Fallible<()> {
        call!(event_record(self.raw, stream.raw))
    }

    /// Microseconds between this event and `end`; both must have happened.
    pub fn us_until(&self, end: &Event) -> Fallible<f64> {
        let mut ms = 0f32;
        call!(event_elapsed(&mut ms, self.raw, end.raw))?;
        Ok(f64::from(ms) * 1000.0)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let _ = (|| if cleans_up() { call!(event_destroy(self.raw)) } else { Ok(()) })();
    }
}

/// An executable graph and the graph it came from.
pub struct Graph {
    graph: Handle,
    exec: Handle,
}

impl Drop for Graph {
    fn drop(&mut self) {
        let _ = (|| {
            if !cleans_up() {
                return Ok(());
            }
            if !self.exec.is_null() {
                call!(graph_exec_destroy(self.exec))?;
            }
            call!(graph_destroy(self.graph))
        })();
    }
}

/// Ordinary device memory, as cudaMalloc gives it.
pub struct DeviceBuffer {
    address: u64,
    bytes: usize,
}

impl DeviceBuffer {
    /// Allocates in the current context.
    pub fn new(bytes: usize) -> Fallible<DeviceBuffer> {
        let mut address = 0;
        call!(alloc(&mut address, bytes.max(1))).map_err(|e| format!("{bytes} bytes of device memory: {e}"))?;
        Ok(DeviceBuffer { address, bytes })
    }

    /// Device address of the first byte.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Copies host bytes to the start of the buffer and waits for it.
    pub fn upload(&self, source: &[u8]) -> Fallible<()> {
        if source.len() > self.bytes {
            return Err(format!("an upload of {} bytes into {} bytes", source.len(), self.bytes));
        }
        call!(copy_to_device(self.address, source.as_ptr().cast(), source.len()))?;
        // From pageable memory the call returns when the bytes are staged, not when they have arrived; the copy is work of
        // the default stream, for which our streams do not wait.
        call!(stream_synchronize(std::ptr::null_mut()))
    }

    /// Repeats the first `period` bytes over the whole buffer, in stream order.
    pub fn tile(&self, period: usize, stream: &Stream) -> Fallible<()> {
        let mut done = period;
        while done < self.bytes {
            // `done` stays a multiple of the period until the last, shorter piece.
            let piece = done.min(self.bytes - done);
            stream.copy_on_device(self.address + done as u64, self.address, piece)?;
            done += piece;
        }
        Ok(())
    }
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        let _ = (|| if cleans_up() { call!(free(self.address)) } else { Ok(()) })();
    }
}

/// Page-locked host memory that copies from the device land in.
pub struct PinnedBuffer {
    raw: Handle,
    bytes: usize,
}

impl PinnedBuffer {
    /// Allocates in the current context.
    pub fn new(bytes: usize) -> Fallible<PinnedBuffer> {
        let mut raw = std::ptr::null_mut();
        call!(host_alloc(&mut raw, bytes.max(1), 0)).map_err(|e| format!("{bytes} bytes of pinned memory: {e}"))?;
        // SAFETY: the driver just gave us this many bytes; zeroing makes reading them defined before any copy.
        unsafe { std::ptr::write_bytes(raw.cast::<u8>(), 0, bytes) };
        Ok(PinnedBuffer { raw, bytes })
    }

    /// The bytes, as of the last stream the caller waited for.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the memory is live and initialised; callers read only after waiting for the copies they queued.
        unsafe { std::slice::from_raw_parts(self.raw.cast::<u8>(), self.bytes) }
    }
}

impl Drop for PinnedBuffer {
    fn drop(&mut self) {
        let _ = (|| if cleans_up() { call!(host_free(self.raw)) } else { Ok(()) })();
    }
}
