//! The GPU as this library sees it: the driver's functions, scratch memory that peers can write, the kernels.
//!
//! This is the only module that names cudarc, and it takes types from it, not calls: a driver newer than cudarc may return a
//! code that its result enum does not have. The driver is opened on first use with `dlopen("libcuda.so.1")`; nothing here runs
//! before a communicator needs it. Nothing here is freed by `Drop`: at process exit the driver may be gone first.

pub mod context;
pub mod driver;
pub mod graphs;
pub mod images;
pub mod mailbox;
pub mod memory;
pub mod topology;

use cudarc::driver::sys::{CUlaunchAttribute, CUlaunchAttributeID, CUlaunchAttributeValue};

pub use cudarc::driver::sys::{
    CUcontext, CUdevice, CUdeviceptr, CUevent, CUfunction, CUgraph, CUgraphNode, CUlaunchConfig as LaunchConfig,
    CUstream,
};

/// The attributes of a launch that may begin before the launch ahead of it in the stream has ended: of a kernel that waits for that
/// end itself. A kernel behind ours that is launched without this attribute starts when ours has ended, as ever; one that
/// is launched with it has to wait by itself, behind ours as behind any other.
#[inline]
pub fn launch_attributes() -> [CUlaunchAttribute; 1] {
    [CUlaunchAttribute {
        id: CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
        pad: [0; 4],
        value: CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
    }]
}
