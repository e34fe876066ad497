//! One loaded NCCL-compatible library: its C functions as a table, and where it came from.
//!
//! Libraries are opened by absolute path with RTLD_LOCAL, so that libdime.so and the real NCCL, which share the
//! SONAME libnccl.so.2, are used side by side. Each table is checked to belong to the file that was asked for.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::Fallible;
use crate::cuda::{self, Stream};
use crate::loader::{Opened, function_table};
use crate::number::{Dtype, Op};
use crate::route::Route;

type Handle = *mut c_void;

/// What ncclGetUniqueId fills; passed by value, as in nccl.h.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct UniqueId(pub [u8; 128]);

/// A communicator handle of one library.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Comm(pub Handle);

function_table! {
    /// NCCL's functions as they are; results of type int are NCCL's codes.
    pub struct Functions;
    get_version = "ncclGetVersion" (*mut c_int);
    get_unique_id = "ncclGetUniqueId" (*mut UniqueId);
    comm_init_rank = "ncclCommInitRank" (*mut Handle, c_int, UniqueId, c_int);
    comm_split = "ncclCommSplit" (Handle, c_int, c_int, *mut Handle, *mut c_void);
    comm_init_all = "ncclCommInitAll" (*mut Handle, c_int, *const c_int);
    comm_destroy = "ncclCommDestroy" (Handle);
    comm_abort = "ncclCommAbort" (Handle);
    comm_count = "ncclCommCount" (Handle, *mut c_int);
    comm_user_rank = "ncclCommUserRank" (Handle, *mut c_int);
    comm_cu_device = "ncclCommCuDevice" (Handle, *mut c_int);
    async_error = "ncclCommGetAsyncError" (Handle, *mut c_int);
    all_reduce = "ncclAllReduce" (*const c_void, *mut c_void, usize, c_int, c_int, Handle, Handle);
    create_pre_mul_sum = "ncclRedOpCreatePreMulSum" (*mut c_int, *mut c_void, c_int, c_int, Handle);
    red_op_destroy = "ncclRedOpDestroy" (c_int, Handle);
    group_start = "ncclGroupStart" ();
    group_end = "ncclGroupEnd" ();
    error_string = "ncclGetErrorString" (c_int) -> *const c_char;
}

function_table! {
    /// The functions that only libdime.so has.
    struct Extras;
    version = "dimeVersion" () -> *const c_char;
    explain = "dimeExplain" (Handle, usize, c_int, c_int, *mut c_char, usize);
    counter_name = "dimeCounterName" (c_int) -> *const c_char;
    counter_value = "dimeCounterValue" (c_int) -> u64;
    real_library = "dimeRealLibrary" () -> *const c_char;
}

/// A library that answers NCCL's functions.
pub struct Library {
    /// The file it was loaded from.
    pub path: PathBuf,
    /// For calls whose result is not to be checked; the others have methods.
    pub functions: Functions,
    last_error: Option<unsafe extern "C" fn(Handle) -> *const c_char>,
    extras: Option<Extras>,
}

/// The file that holds the code at `address`.
fn file_of(address: Handle) -> Option<PathBuf> {
    // SAFETY: Dl_info is plain data for which zero is valid; dladdr fills it or returns 0.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(address, &mut info) == 0 || info.dli_fname.is_null() {
            return None;
        }
        Some(PathBuf::from(std::ffi::OsStr::from_bytes(CStr::from_ptr(info.dli_fname).to_bytes())))
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (std::fs::metadata(a), std::fs::metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// Opens an absolute path. Links stay as they are: behind one may be a path that the loader reads in another way.
fn open(path: &Path) -> Fallible<Opened> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|e| e.to_string())?;
    Opened::open(&name).map_err(|error| format!("cannot be loaded: {error}"))
}

impl Library {
    /// Loads libdime.so, and refuses a file that is not it. The errors here say what the file is, without its name.
    pub fn dime(path: &Path) -> Fallible<Library> {
        let library = open(path)?;
        let extras =
            Extras::resolve(library, |symbol| format!("is a library, but not libdime.so: it has no {symbol}"))?;
        Library::finish(library, path, Some(extras))
    }

    /// Loads the real NCCL, and refuses libdime.so in its place.
    pub fn real(path: &Path) -> Fallible<Library> {
        let library = open(path)?;
        if library.symbol("dimeVersion").is_some() {
            return Err("is libdime.so, not the real NCCL".to_owned());
        }
        Library::finish(library, path, None)
    }

    fn finish(library: Opened, path: &Path, extras: Option<Extras>) -> Fallible<Library> {
        let functions =
            Functions::resolve(library, |symbol| format!("is a library, but not NCCL: it has no {symbol}"))?;
        let owner = file_of(functions.all_reduce as Handle);
        if owner.as_deref().is_none_or(|owner| !same_file(owner, path)) {
            return Err(format!(
                "is not what was loaded: its ncclAllReduce lies in {}",
                owner.map_or("an unknown file".into(), |p| p.display().to_string())
            ));
        }
        Ok(Library {
            functions,
            extras,
            // SAFETY: the signature is the one nccl.h declares.
            last_error: library.symbol("ncclGetLastError").map(|address| unsafe {
                std::mem::transmute::<Handle, unsafe extern "C" fn(Handle) -> *const c_char>(address)
            }),
            path: path.to_path_buf(),
        })
    }

    /// Whether this is libdime.so.
    pub fn is_dime(&self) -> bool {
        self.extras.is_some()
    }

    /// "dime" or "nccl".
    pub fn label(&self) -> &'static str {
        if self.is_dime() { "dime" } else { "nccl" }
    }

    fn check(&self, code: c_int, call: &str) -> Fallible<()> {
        if code == 0 {
            return Ok(());
        }
        cuda::abandon_cleanup();
        // SAFETY: both functions return null or C strings that outlive this copy.
        let (meaning, last) = unsafe {
            let copy = |text: *const c_char| {
                if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
            };
            (
                copy((self.functions.error_string)(code)),
                self.last_error.map(|f| copy(f(std::ptr::null_mut()))).unwrap_or_default(),
            )
        };
        let last = if last.is_empty() { String::new() } else { format!("; last error: {last}") };
        Err(format!("{} ({}): code {code}, {meaning}{last}", call, self.label()))
    }

    /// NCCL's version number as its own ncclGetVersion gives it, written 2.28.9.
    pub fn version(&self) -> Fallible<String> {
        let mut version = 0;
        // SAFETY: the out pointer is valid.
        let code = unsafe { (self.functions.get_version)(&mut version) };
        self.check(code, "ncclGetVersion")?;
        Ok(format_version(version))
    }

    /// The path of the NCCL that libdime.so has found, after a search if there was none; else what it says about the search.
    pub fn real_library(&self) -> Fallible<PathBuf> {
        let extras = self.extras.as_ref().ok_or("this is not libdime.so")?;
        let mut version = 0;
        // SAFETY: the out pointer is valid; both texts are C strings or null, and copied at once.
        let (code, path, error) = unsafe {
            let code = (self.functions.get_version)(&mut version);
            let copy = |text: *const c_char| (!text.is_null()).then(|| CStr::from_ptr(text).to_bytes().to_vec());
            (code, copy((extras.real_library)()), self.last_error.and_then(|f| copy(f(std::ptr::null_mut()))))
        };
        match path {
            Some(path) if code == 0 => Ok(std::ffi::OsStr::from_bytes(&path).into()),
            Some(path) => Err(format!("{}: ncclGetVersion fails with code {code}", String::from_utf8_lossy(&path))),
            None => Err(String::from_utf8_lossy(&error.unwrap_or_default()).into_owned()),
        }
    }

    /// dimeVersion(), where this is libdime.so.
    pub fn dime_version(&self) -> Option<String> {
        let extras = self.extras.as_ref()?;
        // SAFETY: the function returns a static C string or null.
        unsafe {
            let text = (extras.version)();
            (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    }

    /// A fresh id for a new set of communicators.
    pub fn unique_id(&self) -> Fallible<UniqueId> {
        let mut id = UniqueId([0; 128]);
        // SAFETY: the out pointer is valid.
        let code = unsafe { (self.functions.get_unique_id)(&mut id) };
        self.check(code, "ncclGetUniqueId")?;
        Ok(id)
    }

    /// Starts one rank of a communicator on the current device. Inside a group the handle is ready after its end.
    pub fn comm_init_rank(&self, ranks: usize, id: UniqueId, rank: usize) -> Fallible<Box<Comm>> {
        // The handle's place must stay put until the group ends, hence the box.
        let mut comm = Box::new(Comm(std::ptr::null_mut()));
        // SAFETY: the out pointer stays valid for as long as the caller keeps the box.
        let code = unsafe { (self.functions.comm_init_rank)(&mut comm.0, ranks as c_int, id, rank as c_int) };
        self.check(code, "ncclCommInitRank")?;
        Ok(comm)
    }

    /// Splits off a communicator with the same ranks. Inside a group the handle is ready after its end.
    pub fn comm_split(&self, parent: Comm, rank: usize) -> Fallible<Box<Comm>> {
        let mut comm = Box::new(Comm(std::ptr::null_mut()));
        // SAFETY: the parent is alive, the out pointer stays valid with the box, a null config means the defaults.
        let code =
            unsafe { (self.functions.comm_split)(parent.0, 0, rank as c_int, &mut comm.0, std::ptr::null_mut()) };
        self.check(code, "ncclCommSplit")?;
        Ok(comm)
    }

    /// Destroys a communicator.
    pub fn comm_destroy(&self, comm: Comm) -> Fallible<()> {
        // SAFETY: the handle came from this library and is destroyed once.
        let code = unsafe { (self.functions.comm_destroy)(comm.0) };
        self.check(code, "ncclCommDestroy")
    }

    /// Reports an asynchronous error of the communicator, if there is one.
    pub fn check_async_error(&self, comm: Comm) -> Fallible<()> {
        let mut state = 0;
        // SAFETY: the handle is alive and the out pointer valid.
        let code = unsafe { (self.functions.async_error)(comm.0, &mut state) };
        self.check(code, "ncclCommGetAsyncError")?;
        self.check(state, "asynchronous error of the communicator")
    }

    /// ncclAllReduce with device addresses. `op` is a raw code so that operations made at run time work too.
    pub fn all_reduce_raw(
        &self,
        input: u64,
        output: u64,
        count: usize,
        dtype: Dtype,
        op: i32,
        comm: Comm,
        stream: &Stream,
    ) -> Fallible<()> {
        // SAFETY: the library only passes the addresses on to the device; communicator and stream are alive.
        let code = unsafe {
            (self.functions.all_reduce)(
                input as *const c_void,
                output as *mut c_void,
                count,
                dtype.code(),
                op,
                comm.0,
                stream.raw(),
            )
        };
        if code == 0 { Ok(()) } else { self.check(code, "ncclAllReduce") }
    }

    /// Makes an operation that multiplies each contribution by `factor` (f32) before summing.
    pub fn pre_mul_sum(&self, factor: f32, comm: Comm) -> Fallible<i32> {
        let (mut op, mut factor) = (0, factor);
        /// ncclScalarHostImmediate
        const HOST_IMMEDIATE: c_int = 1;
        // SAFETY: the scalar is read before the call returns, as host-immediate residence says.
        let code = unsafe {
            (self.functions.create_pre_mul_sum)(
                &mut op,
                (&raw mut factor).cast(),
                Dtype::F32.code(),
                HOST_IMMEDIATE,
                comm.0,
            )
        };
        self.check(code, "ncclRedOpCreatePreMulSum")?;
        Ok(op)
    }

    /// Destroys an operation made by `pre_mul_sum`.
    pub fn destroy_op(&self, op: i32, comm: Comm) -> Fallible<()> {
        // SAFETY: the operation belongs to this communicator.
        let code = unsafe { (self.functions.red_op_destroy)(op, comm.0) };
        self.check(code, "ncclRedOpDestroy")
    }

    /// ncclGroupStart.
    pub fn group_start(&self) -> Fallible<()> {
        // SAFETY: no arguments.
        let code = unsafe { (self.functions.group_start)() };
        self.check(code, "ncclGroupStart")
    }

    /// ncclGroupEnd.
    pub fn group_end(&self) -> Fallible<()> {
        // SAFETY: no arguments.
        let code = unsafe { (self.functions.group_end)() };
        self.check(code, "ncclGroupEnd")
    }

    /// What libdime.so would do with this all-reduce; the real library always forwards, so to speak.
    pub fn route(&self, comm: Comm, count: usize, dtype: Dtype, op: Op) -> Fallible<Route> {
        match self.explain_raw(comm, count, dtype, op.code())? {
            Some(line) => Route::parse(&line),
            None => Ok(Route::Forward("the real NCCL".to_owned())),
        }
    }

    /// The line dimeExplain writes; None where this is the real NCCL.
    pub fn explain_raw(&self, comm: Comm, count: usize, dtype: Dtype, op: i32) -> Fallible<Option<String>> {
        let Some(extras) = &self.extras else { return Ok(None) };
        let mut text = [0 as c_char; 512];
        // SAFETY: the buffer's size is passed; the last byte is kept back so that a C string always ends inside.
        let code = unsafe { (extras.explain)(comm.0, count, dtype.code(), op, text.as_mut_ptr(), text.len() - 1) };
        self.check(code, "dimeExplain")?;
        // SAFETY: zero-terminated as said above.
        Ok(Some(unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().trim().to_owned()))
    }

    /// All counters of libdime.so in this process; empty for the real NCCL.
    pub fn counters(&self) -> Vec<(String, u64)> {
        let Some(extras) = &self.extras else { return Vec::new() };
        let mut counters = Vec::new();
        for index in 0..1024 {
            // SAFETY: both functions take any index; names are static C strings, null past the last.
            unsafe {
                let name = (extras.counter_name)(index);
                if name.is_null() {
                    break;
                }
                counters.push((CStr::from_ptr(name).to_string_lossy().into_owned(), (extras.counter_value)(index)));
            }
        }
        counters
    }
}

/// The name that nccl.h has for a result code.
pub fn result_name(code: c_int) -> String {
    const NAMES: [&str; 9] = [
        "ncclSuccess",
        "ncclUnhandledCudaError",
        "ncclSystemError",
        "ncclInternalError",
        "ncclInvalidArgument",
        "ncclInvalidUsage",
        "ncclRemoteError",
        "ncclInProgress",
        "ncclTimeout",
    ];
    let name = usize::try_from(code).ok().and_then(|index| NAMES.get(index));
    name.map_or_else(|| format!("result {code}"), |name| (*name).to_owned())
}

/// NCCL's version number as text: 2.9 and later count major * 10000 + minor * 100 + patch.
fn format_version(version: i32) -> String {
    if version >= 10_000 {
        format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100)
    } else {
        format!("{}.{}.{}", version / 1000, version / 100 % 10, version % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_number_is_written_with_dots() {
        assert_eq!(format_version(22809), "2.28.9");
        assert_eq!(format_version(2708), "2.7.8");
    }
}
