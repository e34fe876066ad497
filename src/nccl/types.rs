//! The integers that cross the C boundary.
//!
//! In C these are enums or CUDA handles. Here they are plain integers and pointers of the same size, because an
//! unknown value must pass through unchanged. cbindgen does not read this file.

use std::ffi::{c_char, c_int};

use crate::nccl::header;

/// What a call returns; [`header::ncclResult_t`] in C.
pub type ncclResult_t = c_int;
/// Type of one element; [`header::ncclDataType_t`] in C.
pub type ncclDataType_t = c_int;
/// How values are combined; [`header::ncclRedOp_t`] in C.
pub type ncclRedOp_t = c_int;
/// Where a scalar lies; [`header::ncclScalarResidence_t`] in C.
pub type ncclScalarResidence_t = c_int;
/// Which memory statistic; [`header::ncclCommMemStat_t`] in C.
pub type ncclCommMemStat_t = c_int;
/// Shape of a CFT team; [`crate::nccl::device_header::ncclCftTeamMode_t`] in C.
pub type ncclCftTeamMode_t = c_int;

/// A text that NCCL owns.
pub type Text = *const c_char;
/// What `void` functions return.
pub type Nothing = ();

macro_rules! values {
    ($integer:ident: $($name:ident),* $(,)?) => {
        $(
            #[doc = concat!("[`header::", stringify!($integer), "::", stringify!($name), "`] as it crosses the boundary.")]
            pub const $name: $integer = header::$integer::$name as $integer;
        )*
    };
}

values!(
    ncclResult_t: ncclSuccess,
    ncclUnhandledCudaError,
    ncclSystemError,
    ncclInternalError,
    ncclInvalidArgument,
    ncclInvalidUsage,
    ncclRemoteError,
    ncclInProgress,
    ncclTimeout,
);
values!(ncclRedOp_t: ncclSum, ncclProd, ncclMax, ncclMin, ncclAvg, ncclNumOps);
values!(
    ncclDataType_t: ncclInt8,
    ncclUint8,
    ncclInt32,
    ncclUint32,
    ncclInt64,
    ncclUint64,
    ncclFloat16,
    ncclFloat32,
    ncclFloat64,
    ncclBfloat16,
    ncclFloat8e4m3,
    ncclFloat8e5m2,
    ncclNumTypes,
);
