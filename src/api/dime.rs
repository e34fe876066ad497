//! The functions of dime.h: what this library says about itself, and the suspension of its own memory.

use std::ffi::{CStr, c_char, c_int};
use std::ptr;

use crate::api::boundary::boundary;
use crate::comm::life::suspension;
use crate::host::error::Error;
use crate::host::thread;
use crate::nccl::{
    ncclComm_t, ncclDataType_t, ncclInternalError, ncclInvalidArgument, ncclInvalidUsage, ncclRedOp_t, ncclResult_t,
    ncclSuccess,
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
/// - "suspended: all-reduces are refused until it is resumed"
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

/// Gives back this library's memory of an idle communicator, 64 MiB on each rank's GPU, and leaves NCCL's alone: for NCCL
/// before 2.29.7, whose ncclCommSuspend does it for both.
///
/// All ranks call it. No operation of the communicator may be under way or begin meanwhile, replays of graphs included; the
/// call waits for the whole device. Until dimeCommResume, all-reduces on the communicator return ncclInvalidUsage; other
/// operations go on. Graphs stay valid, but must not be launched before that.
///
/// Returns ncclInvalidUsage when it is suspended already, when its all-reduces do not end within 10 s, and inside a group;
/// ncclInvalidArgument when `comm` is NULL. A communicator that has no memory of this library is left as it is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dimeCommSuspend(comm: ncclComm_t) -> ncclResult_t {
    // SAFETY: the caller passes a communicator.
    boundary(ncclInternalError, || unsafe { outside_groups("dimeCommSuspend", comm, suspension::suspend) })
}

/// Takes back what dimeCommSuspend gave up. All ranks call it, and it waits for them.
///
/// If a rank cannot have its memory again, the call fails on all ranks, and the communicator must be aborted: operations
/// and ncclCommGetAsyncError fail too. A communicator that is not suspended is left as it is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dimeCommResume(comm: ncclComm_t) -> ncclResult_t {
    // SAFETY: the caller passes a communicator.
    boundary(ncclInternalError, || unsafe { outside_groups("dimeCommResume", comm, suspension::resume) })
}

/// Calls `function` with a communicator that NCCL knows, unless a group is open.
///
/// # Safety
/// The handle is a communicator, or NULL.
unsafe fn outside_groups(
    name: &str,
    comm: ncclComm_t,
    function: impl FnOnce(ncclComm_t) -> ncclResult_t,
) -> ncclResult_t {
    if comm.is_null() {
        return Error::new(ncclInvalidArgument, format!("{name}: the communicator is NULL")).report();
    }
    if thread::group_depth() != 0 {
        let text = format!("{name} was called inside a group: call it before ncclGroupStart or after ncclGroupEnd");
        return Error::new(ncclInvalidUsage, text).report();
    }
    let mut ranks = 0;
    // SAFETY: the caller passes a communicator; the out pointer is ours.
    match unsafe { real::ncclCommCount(comm, &mut ranks) } {
        ncclSuccess => function(comm),
        failed => failed,
    }
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
