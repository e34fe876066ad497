//! Handlers for forks.

unsafe extern "C" {
    // Of the C library. It ties the handler to this library, which is never unmapped.
    fn pthread_atfork(
        prepare: Option<unsafe extern "C" fn()>,
        parent: Option<unsafe extern "C" fn()>,
        child: Option<extern "C" fn()>,
    ) -> std::ffi::c_int;
}

/// Registers `handler` to run in every child of fork, before anything else there. It may do only what a signal
/// handler may. False: there was no memory for it.
pub fn in_children(handler: extern "C" fn()) -> bool {
    // SAFETY: the handler lives as long as the library, which is never unmapped.
    unsafe { pthread_atfork(None, None, Some(handler)) == 0 }
}
