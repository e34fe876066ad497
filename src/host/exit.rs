//! Handlers for the end of the process.

/// Registers `handler` to run when the process ends by `exit` or a return from `main`, also in children of fork.
/// False: there was no memory for it.
pub fn at_exit(handler: extern "C" fn()) -> bool {
    // SAFETY: the handler lives as long as the library, which is never unmapped.
    unsafe { libc::atexit(handler) == 0 }
}
