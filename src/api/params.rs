//! NCCL's parameters: by handle with a type, or by name as text.

use std::ffi::{c_char, c_int, c_void};

use crate::api::boundary::boundary;
use crate::nccl::{ncclInternalError, ncclParamHandle_t, ncclResult_t};
use crate::real;

/// Writes a handle for the parameter named `key`. NCCL owns it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclParamBind(out: *mut ncclParamHandle_t, key: *const c_char) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamBind(out, key) })
}

/// Same as ncclParamBind, for profilers that put their own ncclParamBind before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclParamBind(out: *mut ncclParamHandle_t, key: *const c_char) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamBind(out, key) })
}

/// Writes the value of a parameter as a signed integer of 8 bits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclParamGetI8(h: ncclParamHandle_t, out: *mut i8) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamGetI8(h, out) })
}

/// Same as ncclParamGetI8, for profilers that put their own ncclParamGetI8 before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclParamGetI8(h: ncclParamHandle_t, out: *mut i8) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamGetI8(h, out) })
}

/// Writes the value of a parameter as a signed integer of 16 bits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclParamGetI16(h: ncclParamHandle_t, out: *mut i16) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamGetI16(h, out) })
}

/// Same as ncclParamGetI16, for profilers that put their own ncclParamGetI16 before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclParamGetI16(h: ncclParamHandle_t, out: *mut i16) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamGetI16(h, out) })
}

/// Writes the value of a parameter as a signed integer of 32 bits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclParamGetI32(h: ncclParamHandle_t, out: *mut i32) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamGetI32(h, out) })
}

/// Same as ncclParamGetI32, for profilers that put their own ncclParamGetI32 before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclParamGetI32(h: ncclParamHandle_t, out: *mut i32) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamGetI32(h, out) })
}

/// Writes the value of a parameter as a signed integer of 64 bits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclParamGetI64(h: ncclParamHandle_t, out: *mut i64) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamGetI64(h, out) })
}

/// Same as ncclParamGetI64, for profilers that put their own ncclParamGetI64 before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclParamGetI64(h: ncclParamHandle_t, out: *mut i64) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamGetI64(h, out) })
}

/// Writes the value of a parameter as an unsigned integer of 8 bits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclParamGetU8(h: ncclParamHandle_t, out: *mut u8) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamGetU8(h, out) })
}

/// Same as ncclParamGetU8, for profilers that put their own ncclParamGetU8 before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclParamGetU8(h: ncclParamHandle_t, out: *mut u8) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamGetU8(h, out) })
}

/// Writes the value of a parameter as an unsigned integer of 16 bits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclParamGetU16(h: ncclParamHandle_t, out: *mut u16) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamGetU16(h, out) })
}

/// Same as ncclParamGetU16, for profilers that put their own ncclParamGetU16 before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclParamGetU16(h: ncclParamHandle_t, out: *mut u16) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamGetU16(h, out) })
}

/// Writes the value of a parameter as an unsigned integer of 32 bits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclParamGetU32(h: ncclParamHandle_t, out: *mut u32) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamGetU32(h, out) })
}

/// Same as ncclParamGetU32, for profilers that put their own ncclParamGetU32 before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclParamGetU32(h: ncclParamHandle_t, out: *mut u32) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamGetU32(h, out) })
}

/// Writes the value of a parameter as an unsigned integer of 64 bits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclParamGetU64(h: ncclParamHandle_t, out: *mut u64) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamGetU64(h, out) })
}

/// Same as ncclParamGetU64, for profilers that put their own ncclParamGetU64 before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclParamGetU64(h: ncclParamHandle_t, out: *mut u64) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamGetU64(h, out) })
}

/// Writes the value of a parameter as text. NCCL owns it; it is valid until the next such call on this thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclParamGetStr(h: ncclParamHandle_t, out: *mut *const c_char) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamGetStr(h, out) })
}

/// Same as ncclParamGetStr, for profilers that put their own ncclParamGetStr before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclParamGetStr(h: ncclParamHandle_t, out: *mut *const c_char) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamGetStr(h, out) })
}

/// Copies the value of a parameter as bytes: at most `maxLen` of them to `out`, and how many to `len`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclParamGet(
    h: ncclParamHandle_t,
    out: *mut c_void,
    maxLen: c_int,
    len: *mut c_int,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamGet(h, out, maxLen, len) })
}

/// Same as ncclParamGet, for profilers that put their own ncclParamGet before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclParamGet(
    h: ncclParamHandle_t,
    out: *mut c_void,
    maxLen: c_int,
    len: *mut c_int,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamGet(h, out, maxLen, len) })
}

/// Writes the value of the parameter named `key` as text, and its length in bytes. NCCL owns the text; it is valid
/// until the next such call on this thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclParamGetParameter(
    key: *const c_char,
    value: *mut *const c_char,
    valueLen: *mut c_int,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamGetParameter(key, value, valueLen) })
}

/// Same as ncclParamGetParameter, for profilers that put their own ncclParamGetParameter before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclParamGetParameter(
    key: *const c_char,
    value: *mut *const c_char,
    valueLen: *mut c_int,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamGetParameter(key, value, valueLen) })
}

/// Writes the names of all parameters and how many they are. NCCL owns the table; it is valid until the next such call
/// on this thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclParamGetAllParameterKeys(
    table: *mut *mut *const c_char,
    tableLen: *mut c_int,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamGetAllParameterKeys(table, tableLen) })
}

/// Same as ncclParamGetAllParameterKeys, for profilers that put their own ncclParamGetAllParameterKeys before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclParamGetAllParameterKeys(
    table: *mut *mut *const c_char,
    tableLen: *mut c_int,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclParamGetAllParameterKeys(table, tableLen) })
}

/// Has NCCL log all its parameters.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclParamDumpAll() {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary((), || unsafe { real::ncclParamDumpAll() })
}

/// Same as ncclParamDumpAll, for profilers that put their own ncclParamDumpAll before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclParamDumpAll() {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary((), || unsafe { real::ncclParamDumpAll() })
}
