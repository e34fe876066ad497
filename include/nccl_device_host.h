/* SPDX-License-Identifier: MIT OR Apache-2.0
 * Written by tools/headers: do not edit. */
/* The host functions of NCCL's device API as libdime.so exports them. Programs with device code include NCCL's own
 * nccl_device.h, never both. */

#ifndef DIME_NCCL_DEVICE_HOST_H
#define DIME_NCCL_DEVICE_HOST_H

#include "nccl.h"

/**
 * Shape of a CFT team.
 */
typedef enum ncclCftTeamMode_t {
    /**
     * One level.
     */
    NCCL_CFT_TEAM_FLAT = 0,
    /**
     * Two levels, multicast inside.
     */
    NCCL_CFT_TEAM_HIER_MULTIMEM = 1,
    /**
     * Two levels, load and store inside.
     */
    NCCL_CFT_TEAM_HIER_LSA = 2,
} ncclCftTeamMode_t;

/**
 * What a communicator can do.
 */
typedef struct ncclCommProperties ncclCommProperties;

/**
 * A communicator as device code sees it.
 */
typedef struct ncclDevComm ncclDevComm;

/**
 * What a device communicator must provide.
 */
typedef struct ncclDevCommRequirements ncclDevCommRequirements;

/**
 * One resource that a device communicator must provide.
 */
typedef struct ncclDevResourceRequirements ncclDevResourceRequirements;

/**
 * A barrier over GPU-initiated networking.
 */
typedef struct ncclGinBarrierHandle ncclGinBarrierHandle;

/**
 * The receiving side of an all-to-all mailbox over GPU-initiated networking.
 */
typedef struct ncclGinInboxA2AHandle ncclGinInboxA2AHandle;

/**
 * The sending side of a mailbox over GPU-initiated networking.
 */
typedef struct ncclGinOutboxHandle ncclGinOutboxHandle;

/**
 * An all-to-all of small messages.
 */
typedef struct ncclLLA2AHandle ncclLLA2AHandle;

/**
 * A barrier between ranks that load from and store to each other.
 */
typedef struct ncclLsaBarrierHandle ncclLsaBarrierHandle;

/**
 * A set of ranks: `nRanks` of them, `stride` apart; this one is number `rank`.
 */
typedef struct ncclTeam {
    /**
     * Ranks in the team.
     */
    int nRanks;
    /**
     * This rank's place in the team.
     */
    int rank;
    /**
     * Distance between neighbours, in ranks of the communicator.
     */
    int stride;
} ncclTeam;

/**
 * A set of ranks.
 */
typedef struct ncclTeam ncclTeam_t;

/**
 * A multicast mapping.
 */
typedef struct ncclMultimemHandle {
    /**
     * Address at which writes reach all members.
     */
    void *mcBasePtr;
} ncclMultimemHandle;

/**
 * A multicast mapping.
 */
typedef struct ncclMultimemHandle ncclMultimemHandle_t;

/**
 * Number of a CFT link endpoint.
 */
typedef uint32_t ncclCftLeId;

/**
 * A communicator as device code sees it.
 */
typedef struct ncclDevComm ncclDevComm_t;

/**
 * What a device communicator must provide.
 */
typedef struct ncclDevCommRequirements ncclDevCommRequirements_t;

/**
 * One resource that a device communicator must provide.
 */
typedef struct ncclDevResourceRequirements ncclDevResourceRequirements_t;

/**
 * What a communicator can do.
 */
typedef struct ncclCommProperties ncclCommProperties_t;

/**
 * A barrier between ranks that load from and store to each other.
 */
typedef struct ncclLsaBarrierHandle ncclLsaBarrierHandle_t;

/**
 * A barrier over GPU-initiated networking.
 */
typedef struct ncclGinBarrierHandle ncclGinBarrierHandle_t;

/**
 * An all-to-all of small messages.
 */
typedef struct ncclLLA2AHandle ncclLLA2AHandle_t;


#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Writes what a communicator can do. `props` starts from `NCCL_COMM_PROPERTIES_INITIALIZER`.
 */
ncclResult_t ncclCommQueryProperties(ncclComm_t comm, ncclCommProperties_t *props);

/**
 * Same as ncclCommQueryProperties, for profilers that put their own ncclCommQueryProperties before this one.
 */
ncclResult_t pncclCommQueryProperties(ncclComm_t comm, ncclCommProperties_t *props);

/**
 * Makes a device communicator that meets the requirements. All ranks call it.
 */
ncclResult_t ncclDevCommCreate(ncclComm_t comm, const ncclDevCommRequirements_t *reqs, ncclDevComm_t *outDevComm);

/**
 * Same as ncclDevCommCreate, for profilers that put their own ncclDevCommCreate before this one.
 */
ncclResult_t pncclDevCommCreate(ncclComm_t comm, const ncclDevCommRequirements_t *reqs, ncclDevComm_t *outDevComm);

/**
 * Frees a device communicator.
 */
ncclResult_t ncclDevCommDestroy(ncclComm_t comm, const ncclDevComm_t *devComm);

/**
 * Same as ncclDevCommDestroy, for profilers that put their own ncclDevCommDestroy before this one.
 */
ncclResult_t pncclDevCommDestroy(ncclComm_t comm, const ncclDevComm_t *devComm);

/**
 * Describes the resource behind `nBarriers` barriers of a team whose ranks load from and store to each other.
 */
ncclResult_t ncclLsaBarrierCreateRequirement(ncclTeam_t team,
                                             int nBarriers,
                                             ncclLsaBarrierHandle_t *outHandle,
                                             ncclDevResourceRequirements_t *outReq);

/**
 * Same as ncclLsaBarrierCreateRequirement, for profilers that put their own ncclLsaBarrierCreateRequirement before this one.
 */
ncclResult_t pncclLsaBarrierCreateRequirement(ncclTeam_t team,
                                              int nBarriers,
                                              ncclLsaBarrierHandle_t *outHandle,
                                              ncclDevResourceRequirements_t *outReq);

/**
 * Describes the resource behind `nBarriers` barriers of a team over GPU-initiated networking.
 */
ncclResult_t ncclGinBarrierCreateRequirement(ncclComm_t comm,
                                             ncclTeam_t team,
                                             int nBarriers,
                                             ncclGinBarrierHandle_t *outHandle,
                                             ncclDevResourceRequirements_t *outReq);

/**
 * Same as ncclGinBarrierCreateRequirement, for profilers that put their own ncclGinBarrierCreateRequirement before this one.
 */
ncclResult_t pncclGinBarrierCreateRequirement(ncclComm_t comm,
                                              ncclTeam_t team,
                                              int nBarriers,
                                              ncclGinBarrierHandle_t *outHandle,
                                              ncclDevResourceRequirements_t *outReq);

/**
 * Describes the resource behind the sending side of mailboxes of 2 to the `size_log2` bytes, one for each of `nBlocks`
 * thread blocks.
 */
ncclResult_t ncclGinOutboxCreateRequirement(int nBlocks,
                                            int size_log2,
                                            ncclGinOutboxHandle *outHandle,
                                            ncclDevResourceRequirements *outReq);

/**
 * Same as ncclGinOutboxCreateRequirement, for profilers that put their own ncclGinOutboxCreateRequirement before this one.
 */
ncclResult_t pncclGinOutboxCreateRequirement(int nBlocks,
                                             int size_log2,
                                             ncclGinOutboxHandle *outHandle,
                                             ncclDevResourceRequirements *outReq);

/**
 * Describes the resource behind the receiving side of all-to-all mailboxes of 2 to the `size_log2` bytes among
 * `peers`.
 */
ncclResult_t ncclGinInboxA2ACreateRequirement(ncclTeam peers,
                                              int nBlocks,
                                              int size_log2,
                                              ncclGinInboxA2AHandle *outHandle,
                                              ncclDevResourceRequirements *outReq);

/**
 * Same as ncclGinInboxA2ACreateRequirement, for profilers that put their own ncclGinInboxA2ACreateRequirement before this one.
 */
ncclResult_t pncclGinInboxA2ACreateRequirement(ncclTeam peers,
                                               int nBlocks,
                                               int size_log2,
                                               ncclGinInboxA2AHandle *outHandle,
                                               ncclDevResourceRequirements *outReq);

/**
 * Slots that an all-to-all of at most `maxElts` elements of at most `maxEltSize` bytes needs. -1 when NCCL lacks the
 * function.
 */
int ncclLLA2ACalcSlots(int maxElts, int maxEltSize);

/**
 * Same as ncclLLA2ACalcSlots, for profilers that put their own ncclLLA2ACalcSlots before this one.
 */
int pncclLLA2ACalcSlots(int maxElts, int maxEltSize);

/**
 * Describes the resource behind an all-to-all of small messages: `nSlots` for each of `nBlocks` thread blocks.
 */
ncclResult_t ncclLLA2ACreateRequirement(int nBlocks,
                                        int nSlots,
                                        ncclLLA2AHandle_t *outHandle,
                                        ncclDevResourceRequirements_t *outReq);

/**
 * Same as ncclLLA2ACreateRequirement, for profilers that put their own ncclLLA2ACreateRequirement before this one.
 */
ncclResult_t pncclLLA2ACreateRequirement(int nBlocks,
                                         int nSlots,
                                         ncclLLA2AHandle_t *outHandle,
                                         ncclDevResourceRequirements_t *outReq);

/**
 * Writes the address at which a store reaches the window of every rank of the load-store team.
 */
ncclResult_t ncclGetLsaMultimemDevicePointer(ncclWindow_t window, size_t offset, void **outPtr);

/**
 * Same as ncclGetLsaMultimemDevicePointer, for profilers that put their own ncclGetLsaMultimemDevicePointer before this one.
 */
ncclResult_t pncclGetLsaMultimemDevicePointer(ncclWindow_t window,
                                              size_t offset,
                                              void **outPtr);

/**
 * Writes the address at which a store reaches the window of every rank behind a multicast mapping.
 */
ncclResult_t ncclGetMultimemDevicePointer(ncclWindow_t window,
                                          size_t offset,
                                          ncclMultimemHandle_t multimem,
                                          void **outPtr);

/**
 * Same as ncclGetMultimemDevicePointer, for profilers that put their own ncclGetMultimemDevicePointer before this one.
 */
ncclResult_t pncclGetMultimemDevicePointer(ncclWindow_t window,
                                           size_t offset,
                                           ncclMultimemHandle_t multimem,
                                           void **outPtr);

/**
 * Writes the address of the window of rank `lsaRank` of the load-store team.
 */
ncclResult_t ncclGetLsaDevicePointer(ncclWindow_t window, size_t offset, int lsaRank, void **outPtr);

/**
 * Same as ncclGetLsaDevicePointer, for profilers that put their own ncclGetLsaDevicePointer before this one.
 */
ncclResult_t pncclGetLsaDevicePointer(ncclWindow_t window, size_t offset, int lsaRank, void **outPtr);

/**
 * Writes the address of the window of rank `peer` of the communicator, or NULL when it cannot be reached by load and
 * store.
 */
ncclResult_t ncclGetPeerDevicePointer(ncclWindow_t window, size_t offset, int peer, void **outPtr);

/**
 * Same as ncclGetPeerDevicePointer, for profilers that put their own ncclGetPeerDevicePointer before this one.
 */
ncclResult_t pncclGetPeerDevicePointer(ncclWindow_t window, size_t offset, int peer, void **outPtr);

/**
 * Writes the link endpoint that reaches the window of all ranks, and the offset there.
 */
ncclResult_t ncclGetMultimemDeviceLeInfo(ncclWindow_t window, size_t offset, ncclCftLeId *leId, size_t *leOffset);

/**
 * Same as ncclGetMultimemDeviceLeInfo, for profilers that put their own ncclGetMultimemDeviceLeInfo before this one.
 */
ncclResult_t pncclGetMultimemDeviceLeInfo(ncclWindow_t window, size_t offset, ncclCftLeId *leId, size_t *leOffset);

/**
 * Writes the link endpoint that reaches the window of rank `peerCft` of a team, and the offset there.
 */
ncclResult_t ncclGetCftDeviceLeInfo(ncclWindow_t window,
                                    size_t offset,
                                    int peerCft,
                                    ncclTeam_t cftTeam,
                                    ncclCftLeId *leId,
                                    size_t *leOffset);

/**
 * Same as ncclGetCftDeviceLeInfo, for profilers that put their own ncclGetCftDeviceLeInfo before this one.
 */
ncclResult_t pncclGetCftDeviceLeInfo(ncclWindow_t window,
                                     size_t offset,
                                     int peerCft,
                                     ncclTeam_t cftTeam,
                                     ncclCftLeId *leId,
                                     size_t *leOffset);

/**
 * Writes the link endpoint that reaches the window of rank `peerWorld` of the communicator, and the offset there.
 */
ncclResult_t ncclGetPeerDeviceLeInfo(ncclWindow_t window,
                                     size_t offset,
                                     int peerWorld,
                                     ncclCftLeId *leId,
                                     size_t *leOffset);

/**
 * Same as ncclGetPeerDeviceLeInfo, for profilers that put their own ncclGetPeerDeviceLeInfo before this one.
 */
ncclResult_t pncclGetPeerDeviceLeInfo(ncclWindow_t window,
                                      size_t offset,
                                      int peerWorld,
                                      ncclCftLeId *leId,
                                      size_t *leOffset);

/**
 * All ranks.
 */
ncclTeam_t ncclTeamWorld(ncclComm_t comm);

/**
 * Same as ncclTeamWorld, for profilers that put their own ncclTeamWorld before this one.
 */
ncclTeam_t pncclTeamWorld(ncclComm_t comm);

/**
 * The ranks that this one can reach by load and store.
 */
ncclTeam_t ncclTeamLsa(ncclComm_t comm);

/**
 * Same as ncclTeamLsa, for profilers that put their own ncclTeamLsa before this one.
 */
ncclTeam_t pncclTeamLsa(ncclComm_t comm);

/**
 * The ranks that have this one's place in their load-store team.
 */
ncclTeam_t ncclTeamRail(ncclComm_t comm);

/**
 * Same as ncclTeamRail, for profilers that put their own ncclTeamRail before this one.
 */
ncclTeam_t pncclTeamRail(ncclComm_t comm);

/**
 * The ranks that this one can reach by CFT.
 */
ncclTeam_t ncclTeamCft(ncclComm_t comm, ncclCftTeamMode_t mode);

/**
 * Same as ncclTeamCft, for profilers that put their own ncclTeamCft before this one.
 */
ncclTeam_t pncclTeamCft(ncclComm_t comm, ncclCftTeamMode_t mode);

/**
 * The ranks that this one can reach by CFT multicast.
 */
ncclTeam_t ncclTeamCftMultimem(ncclComm_t comm);

/**
 * Same as ncclTeamCftMultimem, for profilers that put their own ncclTeamCftMultimem before this one.
 */
ncclTeam_t pncclTeamCftMultimem(ncclComm_t comm);

/**
 * The rank in the communicator of rank `rank` of a team.
 */
int ncclTeamRankToWorld(ncclComm_t comm, ncclTeam_t team, int rank);

/**
 * Same as ncclTeamRankToWorld, for profilers that put their own ncclTeamRankToWorld before this one.
 */
int pncclTeamRankToWorld(ncclComm_t comm, ncclTeam_t team, int rank);

/**
 * The rank in the load-store team of rank `rank` of a team.
 */
int ncclTeamRankToLsa(ncclComm_t comm, ncclTeam_t team, int rank);

/**
 * Same as ncclTeamRankToLsa, for profilers that put their own ncclTeamRankToLsa before this one.
 */
int pncclTeamRankToLsa(ncclComm_t comm, ncclTeam_t team, int rank);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DIME_NCCL_DEVICE_HOST_H */


