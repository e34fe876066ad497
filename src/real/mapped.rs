//! The libraries that are mapped into this process, and which of them is this one.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A place in this library, to find out where it is mapped.
static ANCHOR: u8 = 0;

/// Start of the library or program that an address lies in, and its path. None for an address outside all of them.
pub(super) fn owner(address: *const c_void) -> Option<(*const c_void, PathBuf)> {
    let mut info = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    // SAFETY: `info` is a valid Dl_info to write to; the address is only compared.
    let found = unsafe { libc::dladdr(address, &mut info) } != 0;
    // SAFETY: dladdr found the object, so the name is a string that lives as long as the object is mapped.
    (found && !info.dli_fname.is_null()).then(|| (info.dli_fbase.cast_const(), unsafe { path_of(info.dli_fname) }))
}

/// Where this library is mapped, and its path.
pub(super) fn ourselves() -> Option<(*const c_void, PathBuf)> {
    owner((&raw const ANCHOR).cast())
}

/// Paths of all mapped libraries except this one.
pub(super) fn libraries() -> Vec<PathBuf> {
    unsafe extern "C" fn add(info: *mut libc::dl_phdr_info, _: usize, paths: *mut c_void) -> c_int {
        // SAFETY: dl_iterate_phdr passes a valid info and hands through the vector given below.
        let (info, paths) = unsafe { (&*info, &mut *paths.cast::<Vec<PathBuf>>()) };
        if !info.dlpi_name.is_null() {
            // SAFETY: the name of a mapped object, not null.
            let path = unsafe { path_of(info.dlpi_name) };
            // The program itself and the vdso have no path.
            if path.is_absolute() {
                paths.push(path);
            }
        }
        0
    }

    let mut paths: Vec<PathBuf> = Vec::new();
    // SAFETY: `add` gets the vector as what it is, and does not keep it.
    unsafe { libc::dl_iterate_phdr(Some(add), (&raw mut paths).cast()) };
    let own = ourselves().map(|(_, path)| path);
    paths.retain(|path| Some(path) != own.as_ref());
    paths
}

/// # Safety
/// `name` is a C string.
unsafe fn path_of(name: *const c_char) -> PathBuf {
    // SAFETY: the caller's promise.
    let bytes = unsafe { CStr::from_ptr(name) }.to_bytes();
    PathBuf::from(OsStr::from_bytes(bytes))
}
