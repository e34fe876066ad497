//! The libraries that are mapped into this process, which of them is Dime, and where the loader searches on their
//! behalf.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_uint, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr::NonNull;

/// An address in this library, which shows where it is mapped.
static ANCHOR: u8 = 0;

/// The start of the library or program that contains an address, and its path. None: no library contains it.
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

/// The address in another library or the program from which this library was called. None: the stack does not show
/// it.
pub(super) fn caller() -> Option<usize> {
    struct Walk {
        own: *const c_void,
        caller: Option<usize>,
    }
    unsafe extern "C" {
        fn _Unwind_Backtrace(
            visit: unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int,
            walk: *mut c_void,
        ) -> c_int;
        fn _Unwind_GetIP(frame: *mut c_void) -> usize;
    }
    const GO_ON: c_int = 0;
    const STOP: c_int = 4;
    unsafe extern "C" fn visit(frame: *mut c_void, walk: *mut c_void) -> c_int {
        // SAFETY: the unwinder passes a frame of its own, and hands through the walk given below.
        let (address, walk) = unsafe { (_Unwind_GetIP(frame), &mut *walk.cast::<Walk>()) };
        if owner(address as *const c_void).is_some_and(|(base, _)| base == walk.own) {
            return GO_ON;
        }
        walk.caller = Some(address);
        // Frames of other libraries are not unwound: their tables may be wrong.
        STOP
    }
    let mut walk = Walk { own: ourselves()?.0, caller: None };
    // SAFETY: the functions are those of the unwinder that the standard library is linked with; `visit` gets the walk
    // as what it is, and does not keep it.
    unsafe { _Unwind_Backtrace(visit, (&raw mut walk).cast()) };
    walk.caller
}

/// A program or library of this process, as the loader has it.
pub(super) struct Object {
    /// None for the program, which the loader knows without a name.
    pub path: Option<PathBuf>,
    /// Its DT_NEEDED names the library that was asked for.
    pub needs_library: bool,
    /// It has a DT_RUNPATH. The loader then looks at no DT_RPATH for it, neither its own nor an inherited one.
    pub has_runpath: bool,
    /// The address that was asked for lies in it.
    pub holds_address: bool,
}

/// The program and all mapped libraries, in the loader's order. `library`: one that they may need. `address`: one
/// that they may contain.
pub(super) fn objects(library: &CStr, address: Option<usize>) -> Vec<Object> {
    struct Search<'a> {
        library: &'a CStr,
        address: Option<usize>,
        objects: Vec<Object>,
    }
    unsafe extern "C" fn add(info: *mut libc::dl_phdr_info, _: usize, search: *mut c_void) -> c_int {
        // SAFETY: dl_iterate_phdr passes a valid info and hands through the search given below.
        let (info, search) = unsafe { (&*info, &mut *search.cast::<Search>()) };
        // SAFETY: the name of a mapped object, or null.
        let name = if info.dlpi_name.is_null() { PathBuf::new() } else { unsafe { path_of(info.dlpi_name) } };
        // The program has no name here; the vdso has one that is no path, and nothing of interest.
        if name.as_os_str().is_empty() || name.is_absolute() {
            // SAFETY: the object is mapped while it is iterated over.
            let (needs_library, has_runpath) = unsafe { dynamic_entries(info, search.library) };
            // SAFETY: the loader gives as many headers as it says.
            let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
            let holds_address = search.address.is_some_and(|address| {
                headers.iter().filter(|header| header.p_type == libc::PT_LOAD).any(|header| {
                    let start = info.dlpi_addr + header.p_vaddr;
                    (start..start + header.p_memsz).contains(&(address as u64))
                })
            });
            let path = (!name.as_os_str().is_empty()).then_some(name);
            search.objects.push(Object { path, needs_library, has_runpath, holds_address });
        }
        0
    }

    let mut search = Search { library, address, objects: Vec::new() };
    // SAFETY: `add` gets the search as what it is, and does not keep it.
    unsafe { libc::dl_iterate_phdr(Some(add), (&raw mut search).cast()) };
    search.objects
}

/// Whether an object needs `library`, and whether it has a DT_RUNPATH.
///
/// # Safety
/// The object stays mapped during the call.
unsafe fn dynamic_entries(info: &libc::dl_phdr_info, library: &CStr) -> (bool, bool) {
    const DT_NEEDED: i64 = 1;
    const DT_STRTAB: i64 = 5;
    const DT_RUNPATH: i64 = 29;
    #[repr(C)]
    struct Dynamic {
        tag: i64,
        value: u64,
    }
    // SAFETY: the loader gives as many headers as it says; a dynamic section ends with tag 0, and its string offsets
    // lie in its string table.
    unsafe {
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
        let Some(header) = headers.iter().find(|header| header.p_type == libc::PT_DYNAMIC) else {
            return (false, false);
        };
        let mut entry = (info.dlpi_addr + header.p_vaddr) as *const Dynamic;
        let mut entries = Vec::new();
        while (*entry).tag != 0 {
            entries.push(((*entry).tag, (*entry).value));
            entry = entry.add(1);
        }
        let has_runpath = entries.iter().any(|(tag, _)| *tag == DT_RUNPATH);
        let Some((_, table)) = entries.iter().find(|(tag, _)| *tag == DT_STRTAB) else { return (false, has_runpath) };
        // The loader may have left the address as it is in the file.
        let table = if *table < info.dlpi_addr { info.dlpi_addr + table } else { *table };
        let text = |offset: u64| CStr::from_ptr((table + offset) as *const c_char);
        (entries.iter().any(|(tag, offset)| *tag == DT_NEEDED && text(*offset) == library), has_runpath)
    }
}

/// The folders in which the loader searches for a library that the object asks for by name, in its order: first
/// DT_RPATH of the object, of what loaded it and of the program, or none of these if the object has a DT_RUNPATH;
/// then LD_LIBRARY_PATH as it was when the process started; then DT_RUNPATH; then the loader's own folders.
/// `$ORIGIN`, `$LIB` and `$PLATFORM` are filled in.
pub(super) fn loader_folders(object: &Object) -> Vec<PathBuf> {
    #[repr(C)]
    struct SearchPath {
        name: *const c_char,
        _flags: c_uint,
    }
    #[repr(C)]
    struct SearchInfo {
        size: usize,
        count: c_uint,
        paths: [SearchPath; 0],
    }
    let name = match &object.path {
        None => None,
        Some(path) => match CString::new(path.as_os_str().as_bytes()) {
            Ok(name) => Some(name),
            Err(_) => return Vec::new(),
        },
    };
    let name = name.as_deref().map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: null, or a C string. Nothing is loaded: the handle is one more reference to what is mapped already.
    let handle = unsafe { libc::dlopen(name, libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    if handle.is_null() {
        return Vec::new();
    }
    let mut folders = Vec::new();
    let mut needed = SearchInfo { size: 0, count: 0, paths: [] };
    // SAFETY: the handle is open; this request writes the size and the count.
    if unsafe { libc::dlinfo(handle, libc::RTLD_DI_SERINFOSIZE, (&raw mut needed).cast()) } == 0 {
        // A vector of words, so that it is aligned. The second request expects the answer of the first in it.
        let mut room = vec![0_usize; needed.size.div_ceil(size_of::<usize>()).max(2)];
        let info: *mut SearchInfo = room.as_mut_ptr().cast();
        // SAFETY: the room is as large as the loader said, aligned for the struct, and begins with the size and the
        // count. The names that are written lie behind the array, inside the room.
        unsafe {
            (*info).size = needed.size;
            (*info).count = needed.count;
            if libc::dlinfo(handle, libc::RTLD_DI_SERINFO, info.cast()) == 0 {
                let paths = (&raw const (*info).paths).cast::<SearchPath>();
                for index in 0..(*info).count as usize {
                    folders.push(path_of((*paths.add(index)).name));
                }
            }
        }
    }
    // SAFETY: the handle came from dlopen above, and is used no more.
    unsafe { libc::dlclose(handle) };
    folders
}

/// Where the object behind a handle of dlopen is mapped, and its path.
pub(super) fn behind(handle: NonNull<c_void>) -> Option<(*const c_void, PathBuf)> {
    /// The start of the loader's struct link_map, which is public.
    #[repr(C)]
    struct LinkMap {
        _address: usize,
        _name: *const c_char,
        dynamic: *const c_void,
    }
    let mut map: *const LinkMap = std::ptr::null();
    // SAFETY: the handle is open; this request writes a pointer.
    let found = unsafe { libc::dlinfo(handle.as_ptr(), libc::RTLD_DI_LINKMAP, (&raw mut map).cast()) } == 0;
    // SAFETY: null, or the loader's entry of an object that stays mapped. Its dynamic section lies in the object.
    if found { owner(unsafe { map.as_ref() }?.dynamic) } else { None }
}

/// # Safety
/// `name` is a C string.
unsafe fn path_of(name: *const c_char) -> PathBuf {
    // SAFETY: the caller's promise.
    let bytes = unsafe { CStr::from_ptr(name) }.to_bytes();
    PathBuf::from(OsStr::from_bytes(bytes))
}
