//! Being told of the end of the process.

/// From now on `handler` runs when the process ends by `exit` or a return from `main`, in children of fork too. False: there was no
/// memory for that.
pub fn at_exit(handler: extern "C" fn()) -> bool {
    // SAFETY: the handler lives as long as the library, which is never unmapped.
    unsafe { libc::atexit(handler) == 0 }
}
