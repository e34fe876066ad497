//! Errors of the dynamic loader.

use std::ffi::CStr;

/// The loader's text for its last failure on this thread.
pub fn last_error() -> String {
    // SAFETY: dlerror returns null or a string that is valid until the next call of the loader on this thread.
    let error = unsafe { libc::dlerror() };
    if error.is_null() {
        return "unknown reason".to_owned();
    }
    // SAFETY: not null, see above.
    unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned()
}
