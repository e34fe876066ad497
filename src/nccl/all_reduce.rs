//! One call of ncclAllReduce.

use crate::nccl::cuda::cudaStream_t;
use crate::nccl::header::{ncclCollConfig_t, ncclComm_t};
use crate::nccl::types::{ncclDataType_t, ncclRedOp_t};

/// The arguments of an ncclAllReduce or ncclAllReduceConfig.
#[derive(Clone, Copy, Debug)]
pub struct AllReduce {
    /// This rank's contribution.
    pub input: *const std::ffi::c_void,
    /// Where the result goes.
    pub output: *mut std::ffi::c_void,
    /// Elements.
    pub count: usize,
    /// NCCL's number of the element type.
    pub datatype: ncclDataType_t,
    /// NCCL's number of the operation.
    pub op: ncclRedOp_t,
    /// The communicator.
    pub comm: ncclComm_t,
    /// The stream.
    pub stream: cudaStream_t,
    /// The configuration of ncclAllReduceConfig; NULL: there is none.
    pub config: *const ncclCollConfig_t,
}
