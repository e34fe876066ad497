//! The types of nccl.h. cbindgen writes them into include/nccl.h; layouts and values are NCCL 2.32's.
//!
//! The header declares NCCL's interface as of 2.27 or, with a macro, all of it. What is newer than 2.27 is marked
//! with `cfg(nccl_2_28)`, which becomes a condition in the header. The build script sets this cfg, so this crate has
//! all of it.
//!
//! The enums here are declarations for C only. No function takes or returns them: a newer NCCL may pass a value that
//! is not listed, which a Rust enum must never hold. [`crate::nccl`] has the integers that stand for them at the
//! boundary.

use std::ffi::{c_char, c_int, c_uint, c_void};

use crate::nccl::cuda::cudaEvent_t;

/// Bytes of an ncclUniqueId.
pub const NCCL_UNIQUE_ID_BYTES: usize = 128;

/// Split: this rank joins no new communicator.
pub const NCCL_SPLIT_NOCOLOR: c_int = -1;

/// Window flags: no special treatment.
pub const NCCL_WIN_DEFAULT: c_int = 0x00;
/// Window flags: every rank registers the same size at the same offset, for symmetric kernels.
pub const NCCL_WIN_COLL_SYMMETRIC: c_int = 0x01;
/// Window flags: accesses are not reordered.
#[cfg(nccl_2_28)]
pub const NCCL_WIN_STRICT_ORDERING: c_int = 0x02;
/// Window flags: register with GPU-initiated networking only.
#[cfg(nccl_2_28)]
pub const NCCL_WIN_GIN_ONLY: c_int = 0x04;
/// Window flags: register with counted CFT only.
#[cfg(nccl_2_28)]
pub const NCCL_WIN_CFT_COUNTED: c_int = 0x08;
/// Alignment in bytes of a window's buffer.
#[cfg(nccl_2_28)]
pub const NCCL_WIN_REQUIRED_ALIGNMENT: c_int = 4096;

/// CTA policy: NCCL decides.
pub const NCCL_CTA_POLICY_DEFAULT: c_int = 0x00;
/// CTA policy: few thread blocks rather than the last bit of bandwidth.
pub const NCCL_CTA_POLICY_EFFICIENCY: c_int = 0x01;
/// CTA policy: no thread blocks where copy engines can do the work.
#[cfg(nccl_2_28)]
pub const NCCL_CTA_POLICY_ZERO: c_int = 0x02;

/// Shrink: the parent must be idle.
pub const NCCL_SHRINK_DEFAULT: c_int = 0x00;
/// Shrink: stop what the parent is doing first.
pub const NCCL_SHRINK_ABORT: c_int = 0x01;

/// Revoke: the only value defined so far.
#[cfg(nccl_2_28)]
pub const NCCL_REVOKE_DEFAULT: c_int = 0x00;

/// Suspend: free the memory that can be freed.
#[cfg(nccl_2_28)]
pub const NCCL_SUSPEND_MEM: c_int = 0x01;

/// What a communicator handle points to.
pub struct ncclComm {
    _opaque: [u8; 0],
}

/// A communicator, made and owned by NCCL.
pub type ncclComm_t = *mut ncclComm;

/// What a window handle points to.
#[cfg(nccl_2_28)]
pub struct ncclWindow_vidmem {
    _opaque: [u8; 0],
}

/// What a window handle points to.
#[cfg(not(nccl_2_28))]
pub struct ncclWindow {
    _opaque: [u8; 0],
}

/// A registered memory window.
#[cfg(not(nccl_2_28))]
pub type ncclWindow_t = *mut ncclWindow;

/// A registered memory window.
#[cfg(nccl_2_28)]
pub type ncclWindow_t = *mut ncclWindow_vidmem;

/// What a parameter handle points to.
#[cfg(nccl_2_28)]
pub struct ncclParamHandle {
    _opaque: [u8; 0],
}

/// A parameter of the NCCL runtime.
#[cfg(nccl_2_28)]
pub type ncclParamHandle_t = *mut ncclParamHandle;

/// Names a communicator while its ranks find each other. One rank makes it, all ranks get a copy.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ncclUniqueId {
    /// For NCCL alone to read.
    pub internal: [c_char; NCCL_UNIQUE_ID_BYTES],
}

/// What a call returns. The set is open: a newer NCCL may return other values.
#[repr(C)]
pub enum ncclResult_t {
    /// Done, or enqueued on the stream.
    ncclSuccess = 0,
    /// A CUDA call failed.
    ncclUnhandledCudaError = 1,
    /// A call to the operating system failed, or no NCCL library was found.
    ncclSystemError = 2,
    /// A defect in the library, or memory that was overwritten.
    ncclInternalError = 3,
    /// An argument has no valid value.
    ncclInvalidArgument = 4,
    /// The call is not allowed here, or the loaded NCCL does not have it.
    ncclInvalidUsage = 5,
    /// Another rank failed, or the network did.
    ncclRemoteError = 6,
    /// Not an error: a non-blocking communicator is still at work.
    ncclInProgress = 7,
    /// The operation took longer than was allowed.
    #[cfg(nccl_2_28)]
    ncclTimeout = 8,
    /// One more than the largest value above.
    #[cfg(nccl_2_28)]
    ncclNumResults = 9,
    /// One more than the largest value above.
    #[cfg(not(nccl_2_28))]
    ncclNumResults = 8,
}

/// Communicator configuration: use of CFT by the host.
#[cfg(nccl_2_28)]
#[repr(C)]
pub enum ncclHostCftMode_t {
    /// Not set.
    ncclHostCftDefault = -2147483648,
    /// Use it; fail where it is missing.
    ncclHostCftEnable = 1,
    /// Do not use it.
    ncclHostCftDisable = 2,
    /// Use it where it is there.
    ncclHostCftFallback = 3,
}

/// Communicator configuration: parts of NVLink SHARP that the host may use. The single-bit values combine.
#[cfg(nccl_2_28)]
#[repr(C)]
pub enum ncclNvlsHostMode_t {
    /// Not set.
    ncclNvlsHostModeDefault = -2147483648,
    /// All parts.
    ncclNvlsHostModeEnable = 0,
    /// Without the transport and what it does for registered buffers.
    ncclNvlsHostModeDisableTransport = 1,
    /// Without multimem instructions in symmetric kernels and copy engines.
    ncclNvlsHostModeDisableSymmetricMultimem = 2,
    /// No part, present or future.
    ncclNvlsHostModeDisable = 2147483647,
}

/// Configuration of a communicator. Start from `NCCL_CONFIG_INITIALIZER`, then set fields.
///
/// Fields are only ever added at the end; `size` tells which of them the caller knew.
#[repr(C)]
pub struct ncclConfig_v23100 {
    /// Bytes of the caller's struct. Set by the initializer.
    pub size: usize,
    /// Marks an initialized struct. Set by the initializer.
    pub magic: c_uint,
    /// Version of the header that the caller was compiled with. Set by the initializer.
    pub version: c_uint,
    /// 1: calls wait. 0: calls return ncclInProgress, and ncclCommGetAsyncError tells when they are done.
    pub blocking: c_int,
    /// Thread blocks in a cluster, 0 to 8.
    pub cgaClusterSize: c_int,
    /// Fewest thread blocks of a kernel.
    pub minCTAs: c_int,
    /// Most thread blocks of a kernel.
    pub maxCTAs: c_int,
    /// Name of the network to use, or NULL.
    pub netName: *const c_char,
    /// 1: communicators split from this one share its resources.
    pub splitShare: c_int,
    /// Class of service on the network.
    pub trafficClass: c_int,
    /// Name for logs and profilers, or NULL.
    pub commName: *const c_char,
    /// 1: may use in-network reduction.
    pub collnetEnable: c_int,
    /// `NCCL_CTA_POLICY_*`, combined.
    pub CTAPolicy: c_int,
    /// 1: communicators shrunk from this one share its resources.
    pub shrinkShare: c_int,
    /// Thread blocks for NVLink SHARP.
    pub nvlsCTAs: c_int,
    /// Channels to each peer over the network.
    #[cfg(nccl_2_28)]
    pub nChannelsPerNetPeer: c_int,
    /// 1: schedule for NVLink rather than the network.
    #[cfg(nccl_2_28)]
    pub nvlinkCentricSched: c_int,
    /// How CUDA graphs and eager calls mix on this communicator.
    #[cfg(nccl_2_28)]
    pub graphUsageMode: c_int,
    /// Contexts for one-sided operations.
    #[cfg(nccl_2_28)]
    pub numRmaCtx: c_int,
    /// Most peers for point-to-point operations.
    #[cfg(nccl_2_28)]
    pub maxP2pPeers: c_int,
    /// 1: captured operations keep the order of their streams.
    #[cfg(nccl_2_28)]
    pub graphStreamOrdering: c_int,
    /// 1: operations of different communicators are launched in program order.
    #[cfg(nccl_2_28)]
    pub launchOrderImplicit: c_int,
    /// Signals for one-sided operations.
    #[cfg(nccl_2_28)]
    pub numRmaSig: c_int,
    /// 1: set up one-sided operations at once.
    #[cfg(nccl_2_28)]
    pub rmaEagerInit: c_int,
    /// One of `ncclHostCftMode_t`.
    #[cfg(nccl_2_28)]
    pub hostCftMode: c_int,
    /// `ncclNvlsHostMode_t`, combined.
    #[cfg(nccl_2_28)]
    pub nvlsHostMode: c_int,
}

/// Configuration of a communicator.
pub type ncclConfig_t = ncclConfig_v23100;

/// Names an option of a vendor.
#[cfg(nccl_2_28)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ncclConfigExtKey {
    /// Which vendor; not zero.
    pub vendorId: c_int,
    /// Which of the vendor's options.
    pub optionId: c_int,
}

/// Value of a vendor's option.
#[cfg(nccl_2_28)]
#[repr(C)]
pub union ncclConfigExtValue {
    /// A number.
    pub i: c_int,
    /// A text.
    pub s: *const c_char,
    /// Anything else.
    pub raw: *mut c_void,
}

/// One vendor's option, a link of an unordered list that ends with NULL.
#[cfg(nccl_2_28)]
#[repr(C)]
pub struct ncclConfigExt {
    /// The next option, or NULL.
    pub next: *mut ncclConfigExt,
    /// Which option.
    pub key: ncclConfigExtKey,
    /// Its value.
    pub val: ncclConfigExtValue,
}

/// One vendor's option.
#[cfg(nccl_2_28)]
pub type ncclConfigExt_t = ncclConfigExt;

/// Configuration of one collective call, equal on all ranks. Start from `NCCL_COLLCONFIG_INITIALIZER`, then set fields.
#[cfg(nccl_2_28)]
#[repr(C)]
pub struct ncclCollConfig_v23200 {
    /// Bytes of the caller's struct. Set by the initializer.
    pub size: usize,
    /// Marks an initialized struct. Set by the initializer.
    pub magic: c_uint,
    /// Version of the header that the caller was compiled with. Set by the initializer.
    pub version: c_uint,
    /// Options of vendors, or NULL.
    pub ext: *mut ncclConfigExt_t,
    /// Fewest thread blocks.
    pub minCTAs: c_int,
    /// Most thread blocks; at most the communicator's.
    pub maxCTAs: c_int,
    /// Most thread blocks for NVLink SHARP.
    pub nvlsCTAs: c_int,
    /// Thread blocks in a cluster, one value for all collectives of a group.
    pub cgaClusterSize: c_int,
    /// The algorithms that may be used, or NULL for all.
    pub algSelection: *const c_char,
    /// 1: a selection that cannot be met is an error.
    pub forceAlgSelection: c_int,
    /// `NCCL_CTA_POLICY_*`, combined.
    pub CTAPolicy: c_int,
    /// Handed to profiler plugins as it is; the top bit is reserved.
    pub userProfilerTag: u64,
    /// Recorded when the kernel has been launched, or NULL. One for a communicator and group.
    pub launchCompletionEvent: cudaEvent_t,
}

/// Configuration of one collective call.
#[cfg(nccl_2_28)]
pub type ncclCollConfig_t = ncclCollConfig_v23200;

/// What a simulated group would cost. Start from `NCCL_SIM_INFO_INITIALIZER`.
#[repr(C)]
pub struct ncclSimInfo_v22200 {
    /// Bytes of the caller's struct. Set by the initializer.
    pub size: usize,
    /// Marks an initialized struct. Set by the initializer.
    pub magic: c_uint,
    /// Version of the header that the caller was compiled with. Set by the initializer.
    pub version: c_uint,
    /// Estimated time of the group in microseconds; written by the call.
    pub estimatedTime: f32,
}

/// What a simulated group would cost.
pub type ncclSimInfo_t = ncclSimInfo_v22200;

/// Which number ncclCommMemStats reports.
#[cfg(nccl_2_28)]
#[repr(C)]
pub enum ncclCommMemStat_t {
    /// Bytes on the GPU that can be suspended.
    ncclStatGpuMemSuspend = 0,
    /// 1 while they are suspended, else 0.
    ncclStatGpuMemSuspended = 1,
    /// Bytes on the GPU that cannot be suspended.
    ncclStatGpuMemPersist = 2,
    /// All bytes on the GPU.
    ncclStatGpuMemTotal = 3,
}

/// Fixes the width of `ncclRedOp_t`.
#[repr(C)]
pub enum ncclRedOp_dummy_t {
    /// Number of built-in operations.
    ncclNumOps_dummy = 5,
}

/// How values are combined. Values from ncclNumOps on are handles that ncclRedOpCreatePreMulSum makes.
#[repr(C)]
pub enum ncclRedOp_t {
    /// Sum.
    ncclSum = 0,
    /// Product.
    ncclProd = 1,
    /// Largest.
    ncclMax = 2,
    /// Smallest.
    ncclMin = 3,
    /// Sum divided by the number of ranks.
    ncclAvg = 4,
    /// Number of built-in operations.
    ncclNumOps = 5,
    /// Largest value that a handle can have.
    ncclMaxRedOp = 2147483647,
}

/// Type of one element.
#[repr(C)]
pub enum ncclDataType_t {
    /// Signed, 8 bits.
    ncclInt8 = 0,
    /// Unsigned, 8 bits.
    ncclUint8 = 1,
    /// Signed, 32 bits.
    ncclInt32 = 2,
    /// Unsigned, 32 bits.
    ncclUint32 = 3,
    /// Signed, 64 bits.
    ncclInt64 = 4,
    /// Unsigned, 64 bits.
    ncclUint64 = 5,
    /// IEEE 754 binary16.
    ncclFloat16 = 6,
    /// IEEE 754 binary32.
    ncclFloat32 = 7,
    /// IEEE 754 binary64.
    ncclFloat64 = 8,
    /// The upper half of a binary32.
    ncclBfloat16 = 9,
    /// 8 bits, 4 of them exponent, 3 mantissa.
    ncclFloat8e4m3 = 10,
    /// 8 bits, 5 of them exponent, 2 mantissa.
    ncclFloat8e5m2 = 11,
    /// One more than the largest value above.
    ncclNumTypes = 12,
}

/// Where a scalar lies and when it is read.
#[repr(C)]
pub enum ncclScalarResidence_t {
    /// In memory that the device can read; read while the collective runs.
    ncclScalarDevice = 0,
    /// In host memory; read before the call returns.
    ncclScalarHostImmediate = 1,
}

/// Signals to wait for from one peer.
#[cfg(nccl_2_28)]
#[repr(C)]
pub struct ncclWaitSignalDesc_t {
    /// How many signals.
    pub opCnt: c_int,
    /// The rank they come from.
    pub peer: c_int,
    /// Index of the signal.
    pub sigIdx: c_int,
    /// Context of the signal.
    pub ctx: c_int,
}

/// How NCCL's TCP sockets are encrypted.
#[cfg(nccl_2_28)]
#[repr(C)]
pub enum ncclEncryptionMode_t {
    /// Not at all.
    NCCL_ENCRYPTION_MODE_NONE = 0,
    /// With a key that all ranks share.
    NCCL_ENCRYPTION_MODE_PSK = 1,
}

/// Encryption of NCCL's TCP sockets. Start from `NCCL_ENCRYPTION_CONFIG_INITIALIZER`.
#[cfg(nccl_2_28)]
#[repr(C)]
pub struct ncclEncryptionConfig_v23200 {
    /// Bytes of the caller's struct. Set by the initializer.
    pub size: usize,
    /// Marks an initialized struct. Set by the initializer.
    pub magic: c_uint,
    /// Version of the header that the caller was compiled with. Set by the initializer.
    pub version: c_uint,
    /// One of `ncclEncryptionMode_t`.
    pub mode: c_int,
    /// The shared key, or NULL.
    pub psk: *const c_char,
}

/// Encryption of NCCL's TCP sockets.
#[cfg(nccl_2_28)]
pub type ncclEncryptionConfig_t = ncclEncryptionConfig_v23200;
