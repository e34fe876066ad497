//! The GPU: the driver's functions, contexts, scratch memory that peers can write, kernel images, the mailbox.
//!
//! Only this module names cudarc. It takes types from cudarc, not calls, since a driver newer than cudarc may return
//! a code that cudarc's result enum does not have. The driver is opened by `dlopen("libcuda.so.1")` when a
//! communicator first needs it. Nothing here is freed by `Drop`: at process exit the driver may be gone first.

pub mod context;
pub mod driver;
pub mod functions;
pub mod graphs;
pub mod image;
pub mod mailbox;
pub mod memory;
pub mod topology;
pub mod virtual_memory;

use cudarc::driver::sys::{CUlaunchAttribute, CUlaunchAttributeID, CUlaunchAttributeValue};

pub use cudarc::driver::sys::{
    CUcontext, CUdevice, CUdeviceptr, CUevent, CUfunction, CUgraph, CUgraphNode, CUlaunchConfig as LaunchConfig,
    CUstream,
};

/// The attributes of a launch that may start before the previous launch in the stream has ended (programmatic
/// dependent launch). Its kernel must wait for that end itself. A later kernel without this attribute starts when
/// Dime's has ended; one with it must itself wait, behind Dime's kernels as behind any other.
#[inline]
pub fn launch_attributes() -> [CUlaunchAttribute; 1] {
    [CUlaunchAttribute {
        id: CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
        pad: [0; 4],
        value: CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
    }]
}
