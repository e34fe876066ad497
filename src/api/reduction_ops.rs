//! Reduction operations made by the application.

use std::ffi::c_void;

use crate::api::boundary::boundary;
use crate::nccl::{ncclComm_t, ncclDataType_t, ncclInternalError, ncclRedOp_t, ncclResult_t, ncclScalarResidence_t};
use crate::real;

/// Makes an operation that multiplies this rank's values by `*scalar` and then sums over the ranks.
///
/// It is good for `comm` and `datatype` only. `residence` says where the scalar lies and when it is read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclRedOpCreatePreMulSum(
    op: *mut ncclRedOp_t,
    scalar: *mut c_void,
    datatype: ncclDataType_t,
    residence: ncclScalarResidence_t,
    comm: ncclComm_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclRedOpCreatePreMulSum(op, scalar, datatype, residence, comm) })
}

/// Same as ncclRedOpCreatePreMulSum, for profilers that put their own ncclRedOpCreatePreMulSum before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclRedOpCreatePreMulSum(
    op: *mut ncclRedOp_t,
    scalar: *mut c_void,
    datatype: ncclDataType_t,
    residence: ncclScalarResidence_t,
    comm: ncclComm_t,
) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclRedOpCreatePreMulSum(op, scalar, datatype, residence, comm) })
}

/// Ends an operation. Collectives that were issued with it are not affected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclRedOpDestroy(op: ncclRedOp_t, comm: ncclComm_t) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclRedOpDestroy(op, comm) })
}

/// Same as ncclRedOpDestroy, for profilers that put their own ncclRedOpDestroy before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclRedOpDestroy(op: ncclRedOp_t, comm: ncclComm_t) -> ncclResult_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(ncclInternalError, || unsafe { real::ncclRedOpDestroy(op, comm) })
}
