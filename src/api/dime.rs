//! The functions of dime.h: what this library says about itself.

use std::ffi::{CStr, c_char, c_int};
use std::ptr;

use crate::api::boundary::boundary;
use crate::host::error::Error;
use crate::nccl::{
    ncclComm_t, ncclDataType_t, ncclInternalError, ncclInvalidArgument, ncclRedOp_t, ncclResult_t, ncclSuccess,
};
use crate::observe::counters;
use crate::real;

/// Version of this library, such as "0.1.0". A static text.
///
/// NCCL has no such function: its presence tells that this library answers.
#[unsafe(no_mangle)]
pub extern "C" fn dimeVersion() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => unreachable!(),
    };
    VERSION.as_ptr()
}

/// Version of this library as a number: major * 10000 + minor * 100 + patch.
#[unsafe(no_mangle)]
pub extern "C" fn dimeVersionNumber() -> c_int {
    const NUMBER: c_int = number(env!("CARGO_PKG_VERSION_MAJOR")) * 10_000
        + number(env!("CARGO_PKG_VERSION_MINOR")) * 100
        + number(env!("CARGO_PKG_VERSION_PATCH"));
    NUMBER
}

/// Says what an all-reduce of this shape does on this communicator, in a line that begins with one of
///
/// - "fast: KERNEL with up to N blocks of M threads", and ", by line L of the tuning file FILE" if one decides
/// - "forward: REASON"
/// - "undecided: the first all-reduce sets the communicator up"
/// - "failed: an earlier operation failed; abort the communicator"
///
/// Writes one line without a line break to `text`, cut to `text_bytes` bytes with the final zero. Returns
/// ncclInvalidArgument when `comm` or `text` is NULL or `text_bytes` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dimeExplain(
    comm: ncclComm_t,
    count: usize,
    datatype: ncclDataType_t,
    op: ncclRedOp_t,
    text: *mut c_char,
    text_bytes: usize,
) -> ncclResult_t {
    boundary(ncclInternalError, || {
        if text.is_null() || text_bytes == 0 {
            return Error::new(ncclInvalidArgument, "dimeExplain: there is no room for the text").report();
        }
        if comm.is_null() {
            return Error::new(ncclInvalidArgument, "dimeExplain: the communicator is NULL").report();
        }
        // SAFETY: the caller passes a communicator.
        let line = match unsafe { crate::comm::run::explain::explain(comm, count, datatype, op) } {
            Ok(line) => line,
            Err(failed) => return failed,
        };
        let bytes = line.len().min(text_bytes - 1);
        // SAFETY: the caller gave room for `text_bytes` bytes, of which at most all are written.
        unsafe {
            ptr::copy_nonoverlapping(line.as_ptr().cast(), text, bytes);
            text.add(bytes).write(0);
        }
        ncclSuccess
    })
}

/// Name of a counter of this process; NULL past the last. Counters are numbered from 0. A static text.
///
/// There is one for each kernel, which counts the all-reduces that it did, and one for each reason to forward.
#[unsafe(no_mangle)]
pub extern "C" fn dimeCounterName(index: c_int) -> *const c_char {
    usize::try_from(index).ok().and_then(counters::name).map_or(ptr::null(), CStr::as_ptr)
}

/// Value of a counter of this process; 0 past the last. A child of fork begins with zeros.
#[unsafe(no_mangle)]
pub extern "C" fn dimeCounterValue(index: c_int) -> u64 {
    usize::try_from(index).ok().and_then(counters::value).unwrap_or(0)
}

/// Absolute path of the NCCL library behind this one. NULL when none was found, or none was needed yet. Lives for good.
#[unsafe(no_mangle)]
pub extern "C" fn dimeRealLibrary() -> *const c_char {
    real::c_path().map_or(ptr::null(), CStr::as_ptr)
}

const fn number(digits: &str) -> c_int {
    let mut number = 0;
    let mut at = 0;
    while at < digits.len() {
        number = number * 10 + (digits.as_bytes()[at] - b'0') as c_int;
        at += 1;
    }
    number
}
