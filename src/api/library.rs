//! The library itself: version, error texts, logging, encryption.

use std::ffi::{c_char, c_int};

use crate::api::boundary::{INTERNAL_ERROR_TEXT, boundary};
use crate::host::error;
use crate::nccl::{ncclComm_t, ncclEncryptionConfig_t, ncclInternalError, ncclResult_t};
use crate::real;

/// Writes the version of the NCCL library behind this one: major * 10000 + minor * 100 + patch.
///
/// Programs decide by this number which calls they may make, so it is never this library's own. `dimeVersionNumber` is
/// that. Fails with ncclInvalidArgument when `version` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGetVersion(version: *mut c_int) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclGetVersion(version) })
}

/// Same as ncclGetVersion, for profilers that put their own ncclGetVersion before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclGetVersion(version: *mut c_int) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclGetVersion(version) })
}

/// A short text for a result, for people to read. Never NULL; the text is static.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGetErrorString(result: ncclResult_t) -> *const c_char {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(INTERNAL_ERROR_TEXT.as_ptr(), || unsafe { real::ncclGetErrorString(result) })
}

/// Same as ncclGetErrorString, for profilers that put their own ncclGetErrorString before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclGetErrorString(result: ncclResult_t) -> *const c_char {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(INTERNAL_ERROR_TEXT.as_ptr(), || unsafe { real::ncclGetErrorString(result) })
}

/// What went wrong last, in more words than a result has. `comm` is not used and may be NULL.
///
/// When the last failure on this thread was this library's own, the text is its own too and stays valid until the next
/// one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGetLastError(comm: ncclComm_t) -> *const c_char {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(INTERNAL_ERROR_TEXT.as_ptr(), || error::kept().unwrap_or_else(|| unsafe { real::ncclGetLastError(comm) }))
}

/// Same as ncclGetLastError, for profilers that put their own ncclGetLastError before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclGetLastError(comm: ncclComm_t) -> *const c_char {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(INTERNAL_ERROR_TEXT.as_ptr(), || error::kept().unwrap_or_else(|| unsafe { real::ncclGetLastError(comm) }))
}

/// Makes NCCL read the environment variables that govern its logging again. Deprecated by NCCL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclResetDebugInit() {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary((), || unsafe { real::ncclResetDebugInit() })
}

/// Same as ncclResetDebugInit, for profilers that put their own ncclResetDebugInit before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclResetDebugInit() {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary((), || unsafe { real::ncclResetDebugInit() })
}

/// What ncclResetDebugInit calls. Exported by NCCL, but in no header of it; it has no `pnccl` twin.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclResetDebugInitInternal() {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary((), || unsafe { real::ncclResetDebugInitInternal() })
}

/// Has NCCL's TCP sockets encrypted. To be called before the first communicator is made.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclSetEncryption(config: *const ncclEncryptionConfig_t) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclSetEncryption(config) })
}

/// Same as ncclSetEncryption, for profilers that put their own ncclSetEncryption before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclSetEncryption(config: *const ncclEncryptionConfig_t) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclSetEncryption(config) })
}
