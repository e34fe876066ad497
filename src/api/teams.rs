//! Teams: sets of ranks of a communicator. Where the loaded NCCL lacks a function, a team is all zeros and a rank is -1.

use std::ffi::c_int;

use crate::api::boundary::{NO_TEAM, boundary};
use crate::nccl::{ncclCftTeamMode_t, ncclComm_t, ncclTeam_t};
use crate::real;

/// All ranks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclTeamWorld(comm: ncclComm_t) -> ncclTeam_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(NO_TEAM, || unsafe { real::ncclTeamWorld(comm) })
}

/// Same as ncclTeamWorld, for profilers that put their own ncclTeamWorld before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclTeamWorld(comm: ncclComm_t) -> ncclTeam_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(NO_TEAM, || unsafe { real::ncclTeamWorld(comm) })
}

/// The ranks that this one can reach by load and store.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclTeamLsa(comm: ncclComm_t) -> ncclTeam_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(NO_TEAM, || unsafe { real::ncclTeamLsa(comm) })
}

/// Same as ncclTeamLsa, for profilers that put their own ncclTeamLsa before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclTeamLsa(comm: ncclComm_t) -> ncclTeam_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(NO_TEAM, || unsafe { real::ncclTeamLsa(comm) })
}

/// The ranks that have this one's place in their load-store team.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclTeamRail(comm: ncclComm_t) -> ncclTeam_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(NO_TEAM, || unsafe { real::ncclTeamRail(comm) })
}

/// Same as ncclTeamRail, for profilers that put their own ncclTeamRail before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclTeamRail(comm: ncclComm_t) -> ncclTeam_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(NO_TEAM, || unsafe { real::ncclTeamRail(comm) })
}

/// The ranks that this one can reach by CFT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclTeamCft(comm: ncclComm_t, mode: ncclCftTeamMode_t) -> ncclTeam_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(NO_TEAM, || unsafe { real::ncclTeamCft(comm, mode) })
}

/// Same as ncclTeamCft, for profilers that put their own ncclTeamCft before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclTeamCft(comm: ncclComm_t, mode: ncclCftTeamMode_t) -> ncclTeam_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(NO_TEAM, || unsafe { real::ncclTeamCft(comm, mode) })
}

/// The ranks that this one can reach by CFT multicast.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclTeamCftMultimem(comm: ncclComm_t) -> ncclTeam_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(NO_TEAM, || unsafe { real::ncclTeamCftMultimem(comm) })
}

/// Same as ncclTeamCftMultimem, for profilers that put their own ncclTeamCftMultimem before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclTeamCftMultimem(comm: ncclComm_t) -> ncclTeam_t {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(NO_TEAM, || unsafe { real::ncclTeamCftMultimem(comm) })
}

/// The rank in the communicator of rank `rank` of a team.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclTeamRankToWorld(comm: ncclComm_t, team: ncclTeam_t, rank: c_int) -> c_int {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(-1, || unsafe { real::ncclTeamRankToWorld(comm, team, rank) })
}

/// Same as ncclTeamRankToWorld, for profilers that put their own ncclTeamRankToWorld before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclTeamRankToWorld(comm: ncclComm_t, team: ncclTeam_t, rank: c_int) -> c_int {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(-1, || unsafe { real::ncclTeamRankToWorld(comm, team, rank) })
}

/// The rank in the load-store team of rank `rank` of a team.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclTeamRankToLsa(comm: ncclComm_t, team: ncclTeam_t, rank: c_int) -> c_int {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(-1, || unsafe { real::ncclTeamRankToLsa(comm, team, rank) })
}

/// Same as ncclTeamRankToLsa, for profilers that put their own ncclTeamRankToLsa before this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pncclTeamRankToLsa(comm: ncclComm_t, team: ncclTeam_t, rank: c_int) -> c_int {
    // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
    boundary(-1, || unsafe { real::ncclTeamRankToLsa(comm, team, rank) })
}
