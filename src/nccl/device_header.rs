//! Only types that are passed by value have a layout here. The others differ between releases, and Dime passes only
//! pointers to them.

use std::ffi::{c_int, c_void};

/// A set of ranks: `nRanks` of them, `stride` apart; this one is number `rank`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ncclTeam {
    /// Ranks in the team.
    pub nRanks: c_int,
    /// This rank's place in the team.
    pub rank: c_int,
    /// Distance between neighbours, in ranks of the communicator.
    pub stride: c_int,
}

/// A set of ranks.
pub type ncclTeam_t = ncclTeam;

/// A multicast mapping.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ncclMultimemHandle {
    /// Address at which writes reach all members.
    pub mcBasePtr: *mut c_void,
}

/// A multicast mapping.
pub type ncclMultimemHandle_t = ncclMultimemHandle;

/// Shape of a CFT team.
#[repr(C)]
pub enum ncclCftTeamMode_t {
    /// One level.
    NCCL_CFT_TEAM_FLAT = 0,
    /// Two levels, multicast inside.
    NCCL_CFT_TEAM_HIER_MULTIMEM = 1,
    /// Two levels, load and store inside.
    NCCL_CFT_TEAM_HIER_LSA = 2,
}

/// Number of a CFT link endpoint.
pub type ncclCftLeId = u32;

/// A communicator as device code sees it.
pub struct ncclDevComm {
    _opaque: [u8; 0],
}

/// A communicator as device code sees it.
pub type ncclDevComm_t = ncclDevComm;

/// What a device communicator must provide.
pub struct ncclDevCommRequirements {
    _opaque: [u8; 0],
}

/// What a device communicator must provide.
pub type ncclDevCommRequirements_t = ncclDevCommRequirements;

/// One resource that a device communicator must provide.
pub struct ncclDevResourceRequirements {
    _opaque: [u8; 0],
}

/// One resource that a device communicator must provide.
pub type ncclDevResourceRequirements_t = ncclDevResourceRequirements;

/// What a communicator can do.
pub struct ncclCommProperties {
    _opaque: [u8; 0],
}

/// What a communicator can do.
pub type ncclCommProperties_t = ncclCommProperties;

/// A barrier between ranks that load from and store to each other.
pub struct ncclLsaBarrierHandle {
    _opaque: [u8; 0],
}

/// A barrier between ranks that load from and store to each other.
pub type ncclLsaBarrierHandle_t = ncclLsaBarrierHandle;

/// A barrier over GPU-initiated networking.
pub struct ncclGinBarrierHandle {
    _opaque: [u8; 0],
}

/// A barrier over GPU-initiated networking.
pub type ncclGinBarrierHandle_t = ncclGinBarrierHandle;

/// An all-to-all of small messages.
pub struct ncclLLA2AHandle {
    _opaque: [u8; 0],
}

/// An all-to-all of small messages.
pub type ncclLLA2AHandle_t = ncclLLA2AHandle;

/// The sending side of a mailbox over GPU-initiated networking.
pub struct ncclGinOutboxHandle {
    _opaque: [u8; 0],
}

/// The receiving side of an all-to-all mailbox over GPU-initiated networking.
pub struct ncclGinInboxA2AHandle {
    _opaque: [u8; 0],
}
