//! Opens one file as the real NCCL, or says why it is none.

use std::ffi::{CStr, CString, c_void};
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use crate::host::loader;
use crate::real::library_file;
use crate::real::library_file::Unfit;
use crate::real::mapped;

/// A symbol that every build of Dime has and no NCCL has: it identifies a copy of Dime.
const OUR_MARKER: &CStr = c"dimeVersion";
/// Symbols that every NCCL has. A library that lacks one of them is of no use.
const NCCL_MARKERS: [&CStr; 5] =
    [c"ncclGetVersion", c"ncclGetUniqueId", c"ncclCommInitRank", c"ncclCommDestroy", c"ncclAllReduce"];

/// An opened library that is NCCL, judging by its symbols.
pub(super) struct Opened {
    /// Absolute, without links.
    pub path: PathBuf,
    handle: NonNull<c_void>,
}

/// Why a file cannot serve as the real NCCL.
#[derive(Debug)]
pub(super) enum Refusal {
    Unfit(Unfit),
    Ourselves,
    CopyOfOurselves,
    /// The loader was asked for one file and opened this one, which is Dime.
    Diverted(PathBuf),
    NotLoadable(String),
    /// It lacks this function.
    NotNccl(&'static CStr),
}

impl Refusal {
    /// Whether the file would be Dime again.
    pub fn is_dime(&self) -> bool {
        matches!(self, Self::Ourselves | Self::CopyOfOurselves | Self::Diverted(_))
    }
}

impl<E: Into<Unfit>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Unfit(error.into())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfit(reason) => reason.fmt(f),
            Self::Ourselves => write!(f, "is Dime itself, not the NCCL behind it"),
            Self::CopyOfOurselves => write!(f, "is a copy of Dime, not the NCCL behind it"),
            Self::NotLoadable(reason) => write!(f, "cannot be loaded: {reason}"),
            Self::Diverted(to) => {
                write!(
                    f,
                    "is not what the loader opens under this name: it opens Dime itself, {} (an auditor that LD_AUDIT names \
                     can do that, or a library that replaces dlopen)",
                    to.display()
                )
            }
            Self::NotNccl(lacking) => {
                write!(f, "is a library, but not NCCL: it has no {}", lacking.to_string_lossy())
            }
        }
    }
}

/// Opens the file at `path` and checks that it is an NCCL other than ourselves.
pub(super) fn open(path: &Path) -> Result<Opened, Refusal> {
    // Links are resolved first: the path is then the one that other tools report, and the log shows where links end.
    let path = fs::canonicalize(path)?;
    library_file::check(&path)?;
    let metadata = fs::metadata(&path)?;
    let is_same = |other: &Path| {
        fs::metadata(other).is_ok_and(|other| (other.dev(), other.ino()) == (metadata.dev(), metadata.ino()))
    };
    if mapped::ourselves().is_some_and(|(_, own)| is_same(&own)) {
        return Err(Refusal::Ourselves);
    }

    let c_path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Unfit::Missing)?;
    // RTLD_LOCAL: no other library's symbols are resolved to it. Not RTLD_DEEPBIND: with that, some releases abort in
    // processes that replace malloc.
    // SAFETY: the path is a C string; what the library's constructors do is NCCL's affair.
    let handle = unsafe { libc::dlopen(c_path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL | libc::RTLD_NODELETE) };
    let Some(handle) = NonNull::new(handle) else {
        return Err(Refusal::NotLoadable(loader::last_error()));
    };
    let opened = Opened { path, handle };
    if let Some((base, file)) = mapped::behind(handle)
        && opened.marker_base() == Some(base)
    {
        return Err(if is_same(&file) { Refusal::CopyOfOurselves } else { Refusal::Diverted(file) });
    }
    if let Some(lacking) = NCCL_MARKERS.into_iter().find(|marker| opened.symbol(marker).is_none()) {
        return Err(Refusal::NotNccl(lacking));
    }
    Ok(opened)
}

impl Opened {
    /// Where the library with Dime's marker is mapped: this library, or one that it depends on.
    fn marker_base(&self) -> Option<*const c_void> {
        // SAFETY: the handle came from dlopen and is never closed; the name is a C string.
        let address = NonNull::new(unsafe { libc::dlsym(self.handle.as_ptr(), OUR_MARKER.as_ptr()) })?;
        mapped::owner(address.as_ptr()).map(|(base, _)| base)
    }

    /// The address of a function of this library. None: it lacks it.
    ///
    /// A library that itself depends on libnccl.so.2 finds Dime's functions under these names. Those do not count.
    pub fn symbol(&self, name: &CStr) -> Option<NonNull<c_void>> {
        // SAFETY: the handle came from dlopen and is never closed; the name is a C string.
        let address = NonNull::new(unsafe { libc::dlsym(self.handle.as_ptr(), name.as_ptr()) })?;
        let (owner, _) = mapped::owner(address.as_ptr())?;
        let ours = mapped::ourselves().is_some_and(|(own, _)| own == owner);
        (!ours).then_some(address)
    }
}
