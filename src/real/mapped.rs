//! The libraries that are mapped into this process, and which of them is this one.

use std::ffi::{CStr, OsStr, OsString, c_char, c_int, c_void};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

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

/// The run paths (DT_RPATH, DT_RUNPATH) of the program and the libraries that ask the loader for `library`, in the order of the
/// objects, with $ORIGIN filled in. When this library is preloaded under that name the loader looks no further, so the real one
/// may be known from nowhere else.
pub(super) fn run_paths_to(library: &CStr) -> Vec<PathBuf> {
    struct Search<'a> {
        library: &'a CStr,
        folders: Vec<PathBuf>,
    }
    unsafe extern "C" fn add(info: *mut libc::dl_phdr_info, _: usize, search: *mut c_void) -> c_int {
        // SAFETY: dl_iterate_phdr passes a valid info and hands through the search given below.
        let (info, search) = unsafe { (&*info, &mut *search.cast::<Search>()) };
        // SAFETY: the name of a mapped object, or null.
        let name = if info.dlpi_name.is_null() { PathBuf::new() } else { unsafe { path_of(info.dlpi_name) } };
        // The program has no name here; the vdso has one that is no path, and nothing of interest.
        let path = if name.as_os_str().is_empty() { PathBuf::from("/proc/self/exe") } else { name };
        if path.is_absolute() {
            let origin = std::fs::canonicalize(&path).ok().and_then(|path| path.parent().map(PathBuf::from));
            // SAFETY: the object is mapped while it is iterated over.
            let texts = unsafe { run_paths_of(info, search.library) };
            for folder in texts.iter().flat_map(|text| text.split(|byte| *byte == b':')).filter(|part| !part.is_empty())
            {
                let origin = origin.as_deref().map(Path::as_os_str).unwrap_or_default();
                search.folders.push(with_origin(folder, origin.as_bytes()));
            }
        }
        0
    }

    let mut search = Search { library, folders: Vec::new() };
    // SAFETY: `add` gets the search as what it is, and does not keep it.
    unsafe { libc::dl_iterate_phdr(Some(add), (&raw mut search).cast()) };
    search.folders
}

/// A run path with $ORIGIN filled in.
fn with_origin(run_path: &[u8], origin: &[u8]) -> PathBuf {
    let mut path = Vec::new();
    let mut rest = run_path;
    while let [byte, behind @ ..] = rest {
        if let Some(behind) = rest.strip_prefix(b"${ORIGIN}").or_else(|| rest.strip_prefix(b"$ORIGIN")) {
            path.extend(origin);
            rest = behind;
        } else {
            path.push(*byte);
            rest = behind;
        }
    }
    OsString::from_vec(path).into()
}

/// The run paths of one object, if it needs `library`.
///
/// # Safety
/// The object stays mapped during the call.
unsafe fn run_paths_of(info: &libc::dl_phdr_info, library: &CStr) -> Vec<Vec<u8>> {
    const DT_NEEDED: i64 = 1;
    const DT_STRTAB: i64 = 5;
    const DT_RPATH: i64 = 15;
    const DT_RUNPATH: i64 = 29;
    #[repr(C)]
    struct Dynamic {
        tag: i64,
        value: u64,
    }
    // SAFETY: the loader gives as many headers as it says; a dynamic section ends with tag 0, and its string offsets lie in its
    // string table.
    unsafe {
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
        let Some(header) = headers.iter().find(|header| header.p_type == libc::PT_DYNAMIC) else { return Vec::new() };
        let mut entry = (info.dlpi_addr + header.p_vaddr) as *const Dynamic;
        let mut entries = Vec::new();
        while (*entry).tag != 0 {
            entries.push(((*entry).tag, (*entry).value));
            entry = entry.add(1);
        }
        let Some((_, table)) = entries.iter().find(|(tag, _)| *tag == DT_STRTAB) else { return Vec::new() };
        // The loader may have left the address as it is in the file.
        let table = if *table < info.dlpi_addr { info.dlpi_addr + table } else { *table };
        let text = |offset: u64| CStr::from_ptr((table + offset) as *const c_char);
        if !entries.iter().any(|(tag, offset)| *tag == DT_NEEDED && text(*offset) == library) {
            return Vec::new();
        }
        let run_paths = entries.iter().filter(|(tag, _)| matches!(*tag, DT_RPATH | DT_RUNPATH));
        run_paths.map(|(_, offset)| text(*offset).to_bytes().to_vec()).collect()
    }
}

/// # Safety
/// `name` is a C string.
unsafe fn path_of(name: *const c_char) -> PathBuf {
    // SAFETY: the caller's promise.
    let bytes = unsafe { CStr::from_ptr(name) }.to_bytes();
    PathBuf::from(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_is_filled_in_and_all_else_stays_whatever_its_encoding() {
        for (run_path, expected) in [
            (&b"$ORIGIN/../lib"[..], &b"/o\xff/../lib"[..]),
            (b"/a/${ORIGIN}", b"/a//o\xff"),
            (b"/\xe9/$ORIGI/${ORIGIN", b"/\xe9/$ORIGI/${ORIGIN"),
        ] {
            assert_eq!(with_origin(run_path, b"/o\xff").as_os_str().as_bytes(), expected);
        }
    }
}
