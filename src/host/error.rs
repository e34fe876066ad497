//! Dime's own failures, and the last one on each thread.
//!
//! NCCL keeps its own last error. If the last failure on a thread was Dime's, ncclGetLastError must return Dime's
//! text; if NCCL failed after that, NCCL's.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::fmt;

use crate::host::thread;
use crate::nccl::ncclResult_t;

thread_local! {
    static TEXT: RefCell<CString> = RefCell::new(CString::default());
}

/// Keeps the text of a failure of Dime for ncclGetLastError on this thread.
pub fn keep(text: &str) {
    let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
    // A thread that is ending has destroyed its text, and no one will ask for it.
    if TEXT.try_with(|kept| kept.replace(text)).is_ok() {
        thread::note_failure_of_ours();
    }
}

/// The text of the last failure on this thread, if that was Dime's. Valid until Dime's next failure on this thread.
pub fn kept() -> Option<*const c_char> {
    if !thread::failure_is_ours() {
        return None;
    }
    TEXT.try_with(|kept| kept.borrow().as_ptr()).ok()
}

/// A failure of Dime: the code for the caller, and the text for people.
#[derive(Clone, Debug)]
pub struct Error {
    code: ncclResult_t,
    text: String,
}

impl Error {
    /// A failure that C callers see as `code`.
    pub fn new(code: ncclResult_t, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// The code that C callers get.
    pub fn code(&self) -> ncclResult_t {
        self.code
    }

    /// Logs the failure, keeps its text for ncclGetLastError, and returns the code.
    pub fn report(&self) -> ncclResult_t {
        log::warn!("{}", self.text);
        keep(&self.text);
        self.code
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

/// The result of functions of this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;
