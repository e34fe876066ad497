//! The panic boundary: no Rust panic leaves this library.

use std::any::Any;
use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::host::error;
use crate::nccl::ncclTeam_t;

/// What a function returns that cannot return a result but must return a text.
pub const INTERNAL_ERROR_TEXT: &CStr = c"internal error";

/// What a function returns that cannot return a result but must return a team.
pub const NO_TEAM: ncclTeam_t = ncclTeam_t { nRanks: 0, rank: 0, stride: 0 };

/// Runs `body`; a panic inside is logged, kept for ncclGetLastError, and becomes `failure`.
///
/// Free when nothing panics: the forwarded call itself cannot unwind, so only the way to the library has landing pads.
#[inline(always)]
pub fn boundary<R>(failure: R, body: impl FnOnce() -> R) -> R {
    // Nothing that `body` touches is looked at again in a broken state: it works on Copy arguments and on statics that are
    // each consistent after every step.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => result,
        Err(payload) => {
            report(payload);
            failure
        }
    }
}

#[cold]
#[inline(never)]
fn report(payload: Box<dyn Any + Send>) {
    let reason = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("of unknown kind");
    let text = format!("internal error: panic: {reason}");
    // Writing the report must not bring the panic back.
    let _ = catch_unwind(|| {
        ::log::error!("{text}");
        error::keep(&text);
    });
    // Dropping a payload runs code of whoever panicked, and that may panic once more.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
}
