//! Profiler ranges by the protocol of NVTX 3: they show which kernel an all-reduce takes, on the timeline of the
//! thread that enqueues it.
//!
//! The protocol needs no library but the profiler's own. A profiler (Nsight Systems, Nsight Compute, CUPTI) puts the
//! path of its library into NVTX_INJECTION64_PATH. A library that has ranges to show opens it and calls its entry
//! point with a function that returns tables. The profiler writes its own functions into the slots of those tables. A
//! slot that it leaves empty is not called.
//!
//! Invariants:
//! - Whether there is a profiler is decided once, at the first setup of a communicator. Without one nothing is
//!   opened, and a range costs a load and a branch.
//! - The profiler's library is never closed.

use std::ffi::{CString, OsStr, c_char, c_int, c_void};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use crate::host::loader;
use crate::kernel::Kernel;
use crate::route::Shape;

/// A slot for one function of the profiler; null: it has none.
type Slot = AtomicPtr<c_void>;
/// The table that the profiler gets: the addresses of the slots. The first entry and the one after the last are
/// empty.
type Table = [Option<&'static Slot>; MOST_SLOTS + 1];

/// The number of slots of each module of the protocol, by the module's number; the first of each is never used. Dime
/// calls functions of `DOMAINS` only, but a profiler may refuse a library that lacks the other modules.
const SLOTS_OF: [usize; 7] = [0, 16, 9, 15, 7, 16, 7];
const MOST_SLOTS: usize = 16;
/// The module for domains ("CORE2"), and numbers of functions in it.
const DOMAINS: usize = 5;
const RANGE_PUSH: usize = 4;
const RANGE_POP: usize = 5;
const CREATE: usize = 12;

type Push = unsafe extern "C" fn(domain: *mut c_void, attributes: *const Attributes) -> c_int;
type Pop = unsafe extern "C" fn(domain: *mut c_void) -> c_int;
type Create = unsafe extern "C" fn(name: *const c_char) -> *mut c_void;
type ExportTable = extern "C" fn(number: u32) -> *const c_void;
type Initialize = unsafe extern "C" fn(ExportTable) -> c_int;

const VERSION: u16 = 3;

/// The attributes of a range. Fields that are 0 here are not used.
#[repr(C)]
struct Attributes {
    version: u16,
    bytes: u16,
    category: u32,
    color_type: i32,
    color: u32,
    payload_type: i32,
    reserved: i32,
    payload: u64,
    message_type: i32,
    message: *const c_char,
}

/// Returns the tables of the modules.
#[repr(C)]
struct Callbacks {
    bytes: usize,
    module_table:
        unsafe extern "C" fn(module: c_int, table: *mut *const Option<&'static Slot>, slots: *mut u32) -> c_int,
}

/// Returns the version of the protocol.
#[repr(C)]
struct VersionInfo {
    bytes: usize,
    version: u32,
    reserved: u32,
    set_version_of_profiler: extern "C" fn(u32),
}

static SLOTS: [[Slot; MOST_SLOTS]; SLOTS_OF.len()] =
    [const { [const { AtomicPtr::new(ptr::null_mut()) }; MOST_SLOTS] }; SLOTS_OF.len()];
static TABLES: [Table; SLOTS_OF.len()] = tables();
static CALLBACKS: Callbacks = Callbacks { bytes: size_of::<Callbacks>(), module_table };
static VERSION_INFO: VersionInfo =
    VersionInfo { bytes: size_of::<VersionInfo>(), version: VERSION as u32, reserved: 0, set_version_of_profiler };

/// There is a profiler, and it may want ranges. Set after `DOMAIN`.
static IS_WATCHED: AtomicBool = AtomicBool::new(false);
/// The profiler's handle of Dime's domain; null is the domain without a name.
static DOMAIN: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

const fn tables() -> [Table; SLOTS_OF.len()] {
    let mut tables = [[None; MOST_SLOTS + 1]; SLOTS_OF.len()];
    let mut module = 0;
    while module < SLOTS_OF.len() {
        let mut number = 1;
        while number < SLOTS_OF[module] {
            tables[module][number] = Some(&SLOTS[module][number]);
            number += 1;
        }
        module += 1;
    }
    tables
}

/// Looks for a profiler, once; later calls do nothing. They do not wait for the first either, since a child of fork
/// must find no lock held.
pub fn start() {
    static STARTED: AtomicBool = AtomicBool::new(false);
    if STARTED.swap(true, Ordering::Relaxed) {
        return;
    }
    let Some(path) = std::env::var_os("NVTX_INJECTION64_PATH").filter(|path| !path.is_empty()) else { return };
    match attach(&path) {
        Ok(()) => log::info!("all-reduces are shown to the profiler at {}", path.display()),
        Err(why) => log::warn!("all-reduces are not shown to the profiler at {}: {why}", path.display()),
    }
}

/// Opens the profiler's library and has it fill the slots.
fn attach(path: &OsStr) -> Result<(), String> {
    let path = CString::new(path.as_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: the path is a C string. That the library is run in this process is what the variable asks for.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_LOCAL) };
    if handle.is_null() {
        return Err(loader::last_error());
    }
    // SAFETY: the handle came from dlopen; the name is a C string.
    let entry = unsafe { libc::dlsym(handle, c"InitializeInjectionNvtx2".as_ptr()) };
    if entry.is_null() {
        return Err("it has no InitializeInjectionNvtx2".to_owned());
    }
    // SAFETY: the function of this name has this type in every library that has it.
    let initialize = unsafe { std::mem::transmute::<*mut c_void, Initialize>(entry) };
    // SAFETY: what is passed has the protocol's type, and all that it gives out lives for good.
    if unsafe { initialize(export_table) } == 0 {
        return Err("its InitializeInjectionNvtx2 returned 0".to_owned());
    }
    if let Some(create) = function(CREATE) {
        // SAFETY: the profiler's function for this slot has this type; the name is a C string.
        let domain = unsafe { std::mem::transmute::<*mut c_void, Create>(create)(c"dime".as_ptr()) };
        DOMAIN.store(domain, Ordering::Relaxed);
    }
    IS_WATCHED.store(true, Ordering::Release);
    Ok(())
}

/// The profiler's function of this number in the module for domains.
fn function(number: usize) -> Option<*mut c_void> {
    let function = SLOTS[DOMAINS][number].load(Ordering::Relaxed);
    (!function.is_null()).then_some(function)
}

extern "C" fn export_table(number: u32) -> *const c_void {
    match number {
        1 => (&raw const CALLBACKS).cast(),
        3 => (&raw const VERSION_INFO).cast(),
        _ => ptr::null(),
    }
}

/// # Safety
/// Each pointer is null or valid for a write of its type.
unsafe extern "C" fn module_table(module: c_int, table: *mut *const Option<&'static Slot>, slots: *mut u32) -> c_int {
    let Some(module) = usize::try_from(module).ok().filter(|module| (1..SLOTS_OF.len()).contains(module)) else {
        return 0;
    };
    // SAFETY: the caller's contract.
    unsafe {
        if let Some(table) = table.as_mut() {
            *table = TABLES[module].as_ptr();
        }
        if let Some(slots) = slots.as_mut() {
            *slots = SLOTS_OF[module] as u32;
        }
    }
    1
}

extern "C" fn set_version_of_profiler(_version: u32) {}

/// A range on this thread. It ends when it is dropped.
#[must_use]
pub struct Range {
    is_open: bool,
}

impl Range {
    /// Begins a range that is named after an all-reduce, such as `one_shot_ll 4096 B bfloat16 sum`, if there is a
    /// profiler.
    #[inline(always)]
    pub fn of(kernel: Kernel, shape: &Shape) -> Self {
        Self { is_open: IS_WATCHED.load(Ordering::Acquire) && push(kernel, shape) }
    }
}

impl Drop for Range {
    #[inline(always)]
    fn drop(&mut self) {
        if self.is_open {
            pop();
        }
    }
}

/// False: the profiler does not want ranges.
#[cold]
fn push(kernel: Kernel, shape: &Shape) -> bool {
    const ASCII: i32 = 1;
    let Some(push) = function(RANGE_PUSH) else { return false };
    let mut text = [0_u8; 96];
    let room = text.len() - 1;
    let (bytes, datatype, op) = (shape.bytes, shape.datatype.name(), shape.op.name());
    // A text that does not fit is cut off; the terminating zero stays.
    let _ = write!(&mut text[..room], "{} {bytes} B {datatype} {op}", kernel.name());
    let attributes = Attributes {
        version: VERSION,
        bytes: size_of::<Attributes>() as u16,
        category: 0,
        color_type: 0,
        color: 0,
        payload_type: 0,
        reserved: 0,
        payload: 0,
        message_type: ASCII,
        message: text.as_ptr().cast(),
    };
    // SAFETY: the profiler's function for this slot has this type, and copies what it wants to keep.
    unsafe { std::mem::transmute::<*mut c_void, Push>(push)(DOMAIN.load(Ordering::Relaxed), &attributes) };
    true
}

#[cold]
fn pop() {
    if let Some(pop) = function(RANGE_POP) {
        // SAFETY: the profiler's function for this slot has this type.
        unsafe { std::mem::transmute::<*mut c_void, Pop>(pop)(DOMAIN.load(Ordering::Relaxed)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_a_slot_for_each_function_and_nothing_before_and_behind() {
        for (module, slots) in SLOTS_OF.into_iter().enumerate() {
            for (number, entry) in TABLES[module].iter().enumerate() {
                assert_eq!(entry.is_some(), number >= 1 && number < slots, "module {module}, function {number}");
            }
        }
        assert_eq!(size_of::<Attributes>(), 48);
    }
}
