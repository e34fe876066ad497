//! The one real NCCL of this process: found at the first call, kept for the life of the process.
//!
//! Any thread may search. The first to finish publishes its result in `OUTCOME` and, if it found NCCL, the addresses
//! in `ACTIVE`. Both are written once, with release, and read with acquire. What they point to never changes and is
//! never freed.

use std::cell::Cell;
use std::ffi::{CString, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use crate::host::config::Config;
use crate::host::error;
use crate::host::thread::inside_nccl;
use crate::nccl::{ncclInvalidUsage, ncclResult_t, ncclSuccess, ncclSystemError};
use crate::real::mapped;
use crate::real::mapped::Object;
use crate::real::names::{COUNT, FUNCTIONS, Function};
use crate::real::open::{Opened, Refusal, open};
use crate::real::search::{Caller, Surroundings, places};

/// Where a function of the real NCCL is.
pub(super) type Address = NonNull<c_void>;

type Addresses = [Option<Address>; COUNT];

/// A real NCCL.
struct Library {
    path: PathBuf,
    c_path: CString,
    addresses: Addresses,
}

/// The result of the search.
enum Outcome {
    Found(Box<Library>),
    /// The text lists what was searched, one place on each line.
    NotFound(String),
}

static OUTCOME: AtomicPtr<Outcome> = AtomicPtr::new(ptr::null_mut());
static ACTIVE: AtomicPtr<Addresses> = AtomicPtr::new(ptr::null_mut());

thread_local! {
    /// This thread is searching. A call that arrives now comes from a constructor of a library that is being opened.
    static SEARCHING: Cell<bool> = const { Cell::new(false) };
}

/// The address of the function with this index, if NCCL has been found.
#[inline(always)]
pub(super) fn known(function: usize) -> Option<Address> {
    let active = ACTIVE.load(Ordering::Acquire);
    // SAFETY: null, or published: the array is complete and lives for good.
    unsafe { active.as_ref() }.and_then(|addresses| addresses[function])
}

/// The address of the function with this index; searches for NCCL if needed. An error is the result for the caller.
pub(super) fn find(function: usize) -> Result<Address, ncclResult_t> {
    match outcome_or_search() {
        None => {
            error::keep("a library that was opened in search of NCCL called NCCL while it was being opened");
            Err(ncclSystemError)
        }
        Some(Outcome::Found(library)) => library.addresses[function].ok_or_else(|| report_lack(library, function)),
        Some(Outcome::NotFound(searched)) => {
            error::keep(searched);
            Err(ncclSystemError)
        }
    }
}

/// Reports which release has the function: once in the log, and as the last error each time.
fn report_lack(library: &Library, function: usize) -> ncclResult_t {
    static REPORTED: [AtomicBool; COUNT] = [const { AtomicBool::new(false) }; COUNT];
    let (name, since) = FUNCTIONS[function];
    let text = format!(
        "{} needs NCCL >= {since}; loaded {} is {}",
        name.to_string_lossy(),
        library.path.display(),
        version_text().unwrap_or_else(|| "of unknown version".to_owned()),
    );
    if !REPORTED[function].swap(true, Ordering::Relaxed) {
        log::warn!("{text}");
    }
    error::keep(&text);
    ncclInvalidUsage
}

fn outcome() -> Option<&'static Outcome> {
    // SAFETY: null, or published: complete, and lives for good.
    unsafe { OUTCOME.load(Ordering::Acquire).as_ref() }
}

/// None: this thread is already searching.
fn outcome_or_search() -> Option<&'static Outcome> {
    if let Some(known) = outcome() {
        return Some(known);
    }
    if SEARCHING.replace(true) {
        return None;
    }
    struct Searching;
    impl Drop for Searching {
        fn drop(&mut self) {
            SEARCHING.set(false);
        }
    }
    let _searching = Searching;

    let (config, warnings) = Config::from_env();
    crate::observe::log::start(&config);
    let (found, origin) = search(&config);
    let found = Box::into_raw(Box::new(found));
    if OUTCOME.compare_exchange(ptr::null_mut(), found, Ordering::AcqRel, Ordering::Acquire).is_err() {
        // Another thread was faster. It found the same file, since the search depends on the process alone.
        // SAFETY: made by Box above, and nobody else has seen it.
        drop(unsafe { Box::from_raw(found) });
        return outcome();
    }
    // SAFETY: published just now, lives for good.
    let found: &'static Outcome = unsafe { &*found };
    if let Outcome::Found(library) = found {
        ACTIVE.store((&raw const library.addresses).cast_mut(), Ordering::Release);
    }
    for warning in warnings {
        let level = if warning.is_about_the_level { log::Level::Error } else { log::Level::Warn };
        log::log!(level, "{warning}");
    }
    match found {
        Outcome::Found(library) => {
            let version = version_text().unwrap_or_else(|| "unknown".to_owned());
            log::info!(
                "Dime {} in front of NCCL {version} at {} (found: {origin})",
                env!("CARGO_PKG_VERSION"),
                library.path.display(),
            );
        }
        Outcome::NotFound(searched) => searched.lines().for_each(|line| log::error!("{line}")),
    }
    Some(found)
}

/// Tries all places in order. The second value says where NCCL was found.
fn search(config: &Config) -> (Outcome, String) {
    let objects = mapped::objects(c"libnccl.so.2", mapped::caller());
    let surroundings = Surroundings::of_this_process(
        config.nccl_lib.clone(),
        objects.iter().filter_map(|object| object.path.clone()).collect(),
        // With a configured path the loader's folders are not needed.
        if config.nccl_lib.is_some() { Vec::new() } else { callers(objects) },
    );
    let mut searched = "no NCCL library was found, so no call can succeed. Searched:".to_owned();
    let (mut is_dime, mut is_diverted) = (false, false);
    for place in places(&surroundings) {
        let mut refusals = Vec::new();
        for file in place.files() {
            match open(&file) {
                Ok(opened) => return (Outcome::Found(Box::new(Library::new(opened))), place.what),
                Err(refusal) => {
                    is_dime |= refusal.is_dime();
                    is_diverted |= matches!(refusal, Refusal::Diverted(_));
                    refusals.push(format!("{}: {}: {refusal}", place.what, file.display()));
                }
            }
        }
        if refusals.is_empty() {
            refusals.push(format!("{place}: nothing there"));
        }
        for refusal in refusals {
            searched.push('\n');
            searched.push_str(&crate::observe::log::one_line(format_args!("  {refusal}")));
        }
    }
    searched.push_str(match (&surroundings.configured, is_dime, is_diverted) {
        (_, _, true) => {
            "\nAn auditor (LD_AUDIT) or a link redirects NCCL's name to Dime. Remove it, or set DIME_NCCL_LIB to a copy or hard link \
             of the real NCCL under another name."
        }
        (None, true, _) => {
            "\nDime stands in the place of NCCL there. Set DIME_NCCL_LIB to the path of the real NCCL, wherever it is kept now."
        }
        (None, false, _) => "\nSet DIME_NCCL_LIB to the path of the NCCL to use.",
        (Some(_), ..) => "\nCorrect DIME_NCCL_LIB, or unset it to have NCCL searched for.",
    });
    (Outcome::NotFound(searched), String::new())
}

/// The programs and libraries that may have asked the loader for NCCL: first those linked with it, then the one that
/// made the first call, then the program, then all others, since any may call dlopen.
fn callers(mut objects: Vec<Object>) -> Vec<Caller> {
    // If the stack shows no caller, the program counts as the caller.
    let is_caller_seen = objects.iter().any(|object| object.holds_address);
    for program in objects.iter_mut().filter(|object| object.path.is_none()) {
        program.holds_address |= !is_caller_seen;
    }
    objects.sort_by_key(|object| (!object.needs_library, !object.holds_address, object.path.is_some()));
    objects
        .iter()
        .map(|object| Caller {
            is_known: object.needs_library || object.holds_address,
            has_runpath: object.has_runpath,
            folders: mapped::loader_folders(object),
        })
        .collect()
}

impl Library {
    fn new(opened: Opened) -> Self {
        let mut addresses = [None; COUNT];
        for (address, (name, _)) in addresses.iter_mut().zip(FUNCTIONS) {
            *address = opened.symbol(name);
        }
        let c_path =
            CString::new(opened.path.as_os_str().as_bytes()).expect("a path that was opened holds no zero byte");
        Self { path: opened.path, c_path, addresses }
    }
}

/// The absolute path of the real NCCL, once it has been found. Does not search.
pub fn path() -> Option<&'static Path> {
    library().map(|library| library.path.as_path())
}

/// As [`path`], for C.
pub fn c_path() -> Option<&'static std::ffi::CStr> {
    library().map(|library| library.c_path.as_c_str())
}

fn library() -> Option<&'static Library> {
    match outcome()? {
        Outcome::Found(library) => Some(library),
        Outcome::NotFound(_) => None,
    }
}

/// Version of the real NCCL as ncclGetVersion writes it. Does not search.
pub fn version_code() -> Option<u32> {
    type GetVersion = unsafe extern "C" fn(*mut c_int) -> ncclResult_t;
    let address = library()?.addresses[Function::ncclGetVersion as usize]?;
    // SAFETY: the real NCCL exports this address under this name, which has this prototype in every release.
    let get_version = unsafe { std::mem::transmute::<Address, GetVersion>(address) };
    let mut code: c_int = 0;
    // SAFETY: the out pointer is ours.
    let result = inside_nccl(|| unsafe { get_version(&mut code) }, |result| result != ncclSuccess);
    if result != ncclSuccess {
        return None;
    }
    u32::try_from(code).ok()
}

/// Version of the real NCCL as people write it, such as 2.32.3. Does not search.
pub fn version_text() -> Option<String> {
    let code = version_code()?;
    // Until 2.8 the minor version had one digit less.
    let (major, rest) = if code < 10_000 { (code / 1000, code % 1000) } else { (code / 10_000, code % 10_000) };
    Some(format!("{major}.{}.{}", rest / 100, rest % 100))
}
