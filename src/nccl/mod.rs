//! NCCL's types and numbers, as the ABI has them.

mod all_reduce;
mod cuda;
mod data_type;
pub mod device_header;
pub mod functions;
pub mod header;
mod types;

pub use self::all_reduce::AllReduce;
pub use self::cuda::{cudaEvent_t, cudaStream_t};
pub use self::data_type::{DataType, RedOp};
pub use self::device_header::*;
pub use self::header::{
    ncclCollConfig_t, ncclComm_t, ncclConfig_t, ncclEncryptionConfig_t, ncclParamHandle_t, ncclSimInfo_t, ncclUniqueId,
    ncclWaitSignalDesc_t, ncclWindow_t,
};
pub use self::types::*;
// The integer, not the enum that stands for it in the header.
pub use self::types::ncclCftTeamMode_t;
