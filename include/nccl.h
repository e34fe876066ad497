/* SPDX-License-Identifier: MIT OR Apache-2.0
 * Written by tools/headers: do not edit. */
/* NCCL's interface as libdime.so exports it: that of NCCL 2.27, with DIME_NCCL_API=23203 that of 2.32. A function that
 * the loaded NCCL lacks returns ncclInvalidUsage, and ncclGetLastError names the release that has it. */

#ifndef NCCL_H_
#define NCCL_H_

/* The release whose interface this header declares. Programs test NCCL_VERSION_CODE and, from 2.28 on, include NCCL's
 * device code, which libdime.so does not have. So the default is the last release before that; 23203 declares the newer
 * functions too. The macro changes what is declared here, not what libdime.so does. */
#ifndef DIME_NCCL_API
#define DIME_NCCL_API 22707
#endif
#if DIME_NCCL_API != 22707 && DIME_NCCL_API != 23203
#error "DIME_NCCL_API must be 22707 (NCCL 2.27.7, the default) or 23203 (NCCL 2.32.3)"
#endif

/* CUDA's types. Like NCCL's header, this one includes CUDA's own headers where they are installed, because programs test
 * which types they define. Without them, or with DIME_NO_CUDA_HEADERS defined, the two handles that the functions take are
 * declared here, exactly as CUDA does. */
#if !defined(DIME_NO_CUDA_HEADERS) && defined(__has_include)
#if __has_include(<cuda_runtime.h>) && __has_include(<cuda_fp16.h>) && __has_include(<cuda_bf16.h>)
#define DIME_HAS_CUDA_HEADERS
#endif
#endif
#ifdef DIME_HAS_CUDA_HEADERS
#include <cuda_runtime.h>
#include <cuda_fp16.h>
#include <cuda_bf16.h>
/* For C++ only; CUDA has it since 11.8. */
#if defined(__cplusplus) && __has_include(<cuda_fp8.h>)
#include <cuda_fp8.h>
#endif
#elif !defined(__DRIVER_TYPES_H__)
typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
#endif

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#define NCCL_MAJOR 2
#if DIME_NCCL_API == 22707
#define NCCL_MINOR 27
#define NCCL_PATCH 7
#else
#define NCCL_MINOR 32
#define NCCL_PATCH 3
#endif
#define NCCL_SUFFIX ""
#define NCCL_VERSION_CODE DIME_NCCL_API
/* The code of any release; until 2.8 the minor version had one digit less. */
#define NCCL_VERSION(X, Y, Z) \
    (((X) <= 2 && (Y) <= 8) ? (X) * 1000 + (Y) * 100 + (Z) : (X) * 10000 + (Y) * 100 + (Z))

#define NCCL_COMM_NULL NULL

/* Values of fields that are not set. */
#define NCCL_CONFIG_UNDEF_INT INT_MIN
#define NCCL_CONFIG_UNDEF_PTR NULL
#define NCCL_UNDEF_FLOAT -1.0f

/* Marks initialized structs. */
#define DIME_NCCL_MAGIC 0xcafebeef
#if NCCL_VERSION_CODE >= 22800
#define NCCL_API_MAGIC DIME_NCCL_MAGIC
#endif

/* The tag of ncclConfig_t, which the names of C++ functions contain that take one. */
#if NCCL_VERSION_CODE >= 22800
#define DIME_NCCL_CONFIG ncclConfig_v23100
#else
#define DIME_NCCL_CONFIG ncclConfig_v22700
#endif

/**
 * Bytes of an ncclUniqueId.
 */
#define NCCL_UNIQUE_ID_BYTES 128

/**
 * Split: this rank joins no new communicator.
 */
#define NCCL_SPLIT_NOCOLOR -1

/**
 * Window flags: no special treatment.
 */
#define NCCL_WIN_DEFAULT 0

/**
 * Window flags: every rank registers the same size at the same offset, for symmetric kernels.
 */
#define NCCL_WIN_COLL_SYMMETRIC 1

#if NCCL_VERSION_CODE >= 22800
/**
 * Window flags: accesses are not reordered.
 */
#define NCCL_WIN_STRICT_ORDERING 2
#endif

#if NCCL_VERSION_CODE >= 22800
/**
 * Window flags: register with GPU-initiated networking only.
 */
#define NCCL_WIN_GIN_ONLY 4
#endif

#if NCCL_VERSION_CODE >= 22800
/**
 * Window flags: register with counted CFT only.
 */
#define NCCL_WIN_CFT_COUNTED 8
#endif

#if NCCL_VERSION_CODE >= 22800
/**
 * Alignment in bytes of a window's buffer.
 */
#define NCCL_WIN_REQUIRED_ALIGNMENT 4096
#endif

/**
 * CTA policy: NCCL decides.
 */
#define NCCL_CTA_POLICY_DEFAULT 0

/**
 * CTA policy: few thread blocks rather than the last bit of bandwidth.
 */
#define NCCL_CTA_POLICY_EFFICIENCY 1

#if NCCL_VERSION_CODE >= 22800
/**
 * CTA policy: no thread blocks where copy engines can do the work.
 */
#define NCCL_CTA_POLICY_ZERO 2
#endif

/**
 * Shrink: the parent must be idle.
 */
#define NCCL_SHRINK_DEFAULT 0

/**
 * Shrink: stop what the parent is doing first.
 */
#define NCCL_SHRINK_ABORT 1

#if NCCL_VERSION_CODE >= 22800
/**
 * Revoke: the only value defined so far.
 */
#define NCCL_REVOKE_DEFAULT 0
#endif

#if NCCL_VERSION_CODE >= 22800
/**
 * Suspend: free the memory that can be freed.
 */
#define NCCL_SUSPEND_MEM 1
#endif

/**
 * What a call returns. The set is open: a newer NCCL may return other values.
 */
typedef enum ncclResult_t {
    /**
     * Done, or enqueued on the stream.
     */
    ncclSuccess = 0,
    /**
     * A CUDA call failed.
     */
    ncclUnhandledCudaError = 1,
    /**
     * A call to the operating system failed, or no NCCL library was found.
     */
    ncclSystemError = 2,
    /**
     * A defect in the library, or memory that was overwritten.
     */
    ncclInternalError = 3,
    /**
     * An argument has no valid value.
     */
    ncclInvalidArgument = 4,
    /**
     * The call is not allowed here, or the loaded NCCL does not have it.
     */
    ncclInvalidUsage = 5,
    /**
     * Another rank failed, or the network did.
     */
    ncclRemoteError = 6,
    /**
     * Not an error: a non-blocking communicator is still at work.
     */
    ncclInProgress = 7,
#if NCCL_VERSION_CODE >= 22800
    /**
     * The operation took longer than was allowed.
     */
    ncclTimeout = 8,
#endif
#if NCCL_VERSION_CODE >= 22800
    /**
     * One more than the largest value above.
     */
    ncclNumResults = 9,
#endif
#if NCCL_VERSION_CODE < 22800
    /**
     * One more than the largest value above.
     */
    ncclNumResults = 8,
#endif
} ncclResult_t;

#if NCCL_VERSION_CODE >= 22800
/**
 * Communicator configuration: use of CFT by the host.
 */
typedef enum ncclHostCftMode_t {
    /**
     * Not set.
     */
    ncclHostCftDefault = -2147483648,
    /**
     * Use it; fail where it is missing.
     */
    ncclHostCftEnable = 1,
    /**
     * Do not use it.
     */
    ncclHostCftDisable = 2,
    /**
     * Use it where it is there.
     */
    ncclHostCftFallback = 3,
} ncclHostCftMode_t;
#endif

#if NCCL_VERSION_CODE >= 22800
/**
 * Communicator configuration: parts of NVLink SHARP that the host may use. The single-bit values combine.
 */
typedef enum ncclNvlsHostMode_t {
    /**
     * Not set.
     */
    ncclNvlsHostModeDefault = -2147483648,
    /**
     * All parts.
     */
    ncclNvlsHostModeEnable = 0,
    /**
     * Without the transport and what it does for registered buffers.
     */
    ncclNvlsHostModeDisableTransport = 1,
    /**
     * Without multimem instructions in symmetric kernels and copy engines.
     */
    ncclNvlsHostModeDisableSymmetricMultimem = 2,
    /**
     * No part, present or future.
     */
    ncclNvlsHostModeDisable = 2147483647,
} ncclNvlsHostMode_t;
#endif

#if NCCL_VERSION_CODE >= 22800
/**
 * Which number ncclCommMemStats reports.
 */
typedef enum ncclCommMemStat_t {
    /**
     * Bytes on the GPU that can be suspended.
     */
    ncclStatGpuMemSuspend = 0,
    /**
     * 1 while they are suspended, else 0.
     */
    ncclStatGpuMemSuspended = 1,
    /**
     * Bytes on the GPU that cannot be suspended.
     */
    ncclStatGpuMemPersist = 2,
    /**
     * All bytes on the GPU.
     */
    ncclStatGpuMemTotal = 3,
} ncclCommMemStat_t;
#endif

/**
 * Fixes the width of `ncclRedOp_t`.
 */
typedef enum ncclRedOp_dummy_t {
    /**
     * Number of built-in operations.
     */
    ncclNumOps_dummy = 5,
} ncclRedOp_dummy_t;

/**
 * How values are combined. Values from ncclNumOps on are handles that ncclRedOpCreatePreMulSum makes.
 */
typedef enum ncclRedOp_t {
    /**
     * Sum.
     */
    ncclSum = 0,
    /**
     * Product.
     */
    ncclProd = 1,
    /**
     * Largest.
     */
    ncclMax = 2,
    /**
     * Smallest.
     */
    ncclMin = 3,
    /**
     * Sum divided by the number of ranks.
     */
    ncclAvg = 4,
    /**
     * Number of built-in operations.
     */
    ncclNumOps = 5,
    /**
     * Largest value that a handle can have.
     */
    ncclMaxRedOp = 2147483647,
} ncclRedOp_t;

/**
 * Type of one element.
 */
typedef enum ncclDataType_t {
    /**
     * Signed, 8 bits.
     */
    ncclInt8 = 0,
    ncclChar = 0,
    /**
     * Unsigned, 8 bits.
     */
    ncclUint8 = 1,
    /**
     * Signed, 32 bits.
     */
    ncclInt32 = 2,
    ncclInt = 2,
    /**
     * Unsigned, 32 bits.
     */
    ncclUint32 = 3,
    /**
     * Signed, 64 bits.
     */
    ncclInt64 = 4,
    /**
     * Unsigned, 64 bits.
     */
    ncclUint64 = 5,
    /**
     * IEEE 754 binary16.
     */
    ncclFloat16 = 6,
    ncclHalf = 6,
    /**
     * IEEE 754 binary32.
     */
    ncclFloat32 = 7,
    ncclFloat = 7,
    /**
     * IEEE 754 binary64.
     */
    ncclFloat64 = 8,
    ncclDouble = 8,
    /**
     * The upper half of a binary32.
     */
    ncclBfloat16 = 9,
    /**
     * 8 bits, 4 of them exponent, 3 mantissa.
     */
    ncclFloat8e4m3 = 10,
    /**
     * 8 bits, 5 of them exponent, 2 mantissa.
     */
    ncclFloat8e5m2 = 11,
    /**
     * One more than the largest value above.
     */
    ncclNumTypes = 12,
} ncclDataType_t;

/**
 * Where a scalar lies and when it is read.
 */
typedef enum ncclScalarResidence_t {
    /**
     * In memory that the device can read; read while the collective runs.
     */
    ncclScalarDevice = 0,
    /**
     * In host memory; read before the call returns.
     */
    ncclScalarHostImmediate = 1,
} ncclScalarResidence_t;

#if NCCL_VERSION_CODE >= 22800
/**
 * How NCCL's TCP sockets are encrypted.
 */
typedef enum ncclEncryptionMode_t {
    /**
     * Not at all.
     */
    NCCL_ENCRYPTION_MODE_NONE = 0,
    /**
     * With a key that all ranks share.
     */
    NCCL_ENCRYPTION_MODE_PSK = 1,
} ncclEncryptionMode_t;
#endif

/**
 * What a communicator handle points to.
 */
typedef struct ncclComm ncclComm;

#if NCCL_VERSION_CODE >= 22800
/**
 * What a parameter handle points to.
 */
typedef struct ncclParamHandle ncclParamHandle;
#endif

#if NCCL_VERSION_CODE < 22800
/**
 * What a window handle points to.
 */
typedef struct ncclWindow ncclWindow;
#endif

#if NCCL_VERSION_CODE >= 22800
/**
 * What a window handle points to.
 */
typedef struct ncclWindow_vidmem ncclWindow_vidmem;
#endif

/**
 * A communicator, made and owned by NCCL.
 */
typedef struct ncclComm *ncclComm_t;

#if NCCL_VERSION_CODE < 22800
/**
 * A registered memory window.
 */
typedef struct ncclWindow *ncclWindow_t;
#endif

#if NCCL_VERSION_CODE >= 22800
/**
 * A registered memory window.
 */
typedef struct ncclWindow_vidmem *ncclWindow_t;
#endif

#if NCCL_VERSION_CODE >= 22800
/**
 * A parameter of the NCCL runtime.
 */
typedef struct ncclParamHandle *ncclParamHandle_t;
#endif

/**
 * Names a communicator while its ranks find each other. One rank makes it, all ranks get a copy.
 */
typedef struct ncclUniqueId {
    /**
     * For NCCL alone to read.
     */
    char internal[NCCL_UNIQUE_ID_BYTES];
} ncclUniqueId;

/**
 * Configuration of a communicator. Start from `NCCL_CONFIG_INITIALIZER`, then set fields.
 *
 * Fields are only ever added at the end; `size` tells which of them the caller knew.
 */
typedef struct DIME_NCCL_CONFIG {
    /**
     * Bytes of the caller's struct. Set by the initializer.
     */
    size_t size;
    /**
     * Marks an initialized struct. Set by the initializer.
     */
    unsigned int magic;
    /**
     * Version of the header that the caller was compiled with. Set by the initializer.
     */
    unsigned int version;
    /**
     * 1: calls wait. 0: calls return ncclInProgress, and ncclCommGetAsyncError tells when they are done.
     */
    int blocking;
    /**
     * Thread blocks in a cluster, 0 to 8.
     */
    int cgaClusterSize;
    /**
     * Fewest thread blocks of a kernel.
     */
    int minCTAs;
    /**
     * Most thread blocks of a kernel.
     */
    int maxCTAs;
    /**
     * Name of the network to use, or NULL.
     */
    const char *netName;
    /**
     * 1: communicators split from this one share its resources.
     */
    int splitShare;
    /**
     * Class of service on the network.
     */
    int trafficClass;
    /**
     * Name for logs and profilers, or NULL.
     */
    const char *commName;
    /**
     * 1: may use in-network reduction.
     */
    int collnetEnable;
    /**
     * `NCCL_CTA_POLICY_*`, combined.
     */
    int CTAPolicy;
    /**
     * 1: communicators shrunk from this one share its resources.
     */
    int shrinkShare;
    /**
     * Thread blocks for NVLink SHARP.
     */
    int nvlsCTAs;
#if NCCL_VERSION_CODE >= 22800
    /**
     * Channels to each peer over the network.
     */
    int nChannelsPerNetPeer;
#endif
#if NCCL_VERSION_CODE >= 22800
    /**
     * 1: schedule for NVLink rather than the network.
     */
    int nvlinkCentricSched;
#endif
#if NCCL_VERSION_CODE >= 22800
    /**
     * How CUDA graphs and eager calls mix on this communicator.
     */
    int graphUsageMode;
#endif
#if NCCL_VERSION_CODE >= 22800
    /**
     * Contexts for one-sided operations.
     */
    int numRmaCtx;
#endif
#if NCCL_VERSION_CODE >= 22800
    /**
     * Most peers for point-to-point operations.
     */
    int maxP2pPeers;
#endif
#if NCCL_VERSION_CODE >= 22800
    /**
     * 1: captured operations keep the order of their streams.
     */
    int graphStreamOrdering;
#endif
#if NCCL_VERSION_CODE >= 22800
    /**
     * 1: operations of different communicators are launched in program order.
     */
    int launchOrderImplicit;
#endif
#if NCCL_VERSION_CODE >= 22800
    /**
     * Signals for one-sided operations.
     */
    int numRmaSig;
#endif
#if NCCL_VERSION_CODE >= 22800
    /**
     * 1: set up one-sided operations at once.
     */
    int rmaEagerInit;
#endif
#if NCCL_VERSION_CODE >= 22800
    /**
     * One of `ncclHostCftMode_t`.
     */
    int hostCftMode;
#endif
#if NCCL_VERSION_CODE >= 22800
    /**
     * `ncclNvlsHostMode_t`, combined.
     */
    int nvlsHostMode;
#endif
} DIME_NCCL_CONFIG;

/**
 * Configuration of a communicator.
 */
typedef struct DIME_NCCL_CONFIG ncclConfig_t;

#if NCCL_VERSION_CODE >= 22800
/**
 * Names an option of a vendor.
 */
typedef struct ncclConfigExtKey {
    /**
     * Which vendor; not zero.
     */
    int vendorId;
    /**
     * Which of the vendor's options.
     */
    int optionId;
} ncclConfigExtKey;
#endif

#if NCCL_VERSION_CODE >= 22800
/**
 * Value of a vendor's option.
 */
typedef union ncclConfigExtValue {
    /**
     * A number.
     */
    int i;
    /**
     * A text.
     */
    const char *s;
    /**
     * Anything else.
     */
    void *raw;
} ncclConfigExtValue;
#endif

#if NCCL_VERSION_CODE >= 22800
/**
 * One vendor's option, a link of an unordered list that ends with NULL.
 */
typedef struct ncclConfigExt {
    /**
     * The next option, or NULL.
     */
    struct ncclConfigExt *next;
    /**
     * Which option.
     */
    struct ncclConfigExtKey key;
    /**
     * Its value.
     */
    union ncclConfigExtValue val;
} ncclConfigExt;
#endif

#if NCCL_VERSION_CODE >= 22800
/**
 * One vendor's option.
 */
typedef struct ncclConfigExt ncclConfigExt_t;
#endif

#if NCCL_VERSION_CODE >= 22800
/**
 * Configuration of one collective call, equal on all ranks. Start from `NCCL_COLLCONFIG_INITIALIZER`, then set fields.
 */
typedef struct ncclCollConfig_v23200 {
    /**
     * Bytes of the caller's struct. Set by the initializer.
     */
    size_t size;
    /**
     * Marks an initialized struct. Set by the initializer.
     */
    unsigned int magic;
    /**
     * Version of the header that the caller was compiled with. Set by the initializer.
     */
    unsigned int version;
    /**
     * Options of vendors, or NULL.
     */
    ncclConfigExt_t *ext;
    /**
     * Fewest thread blocks.
     */
    int minCTAs;
    /**
     * Most thread blocks; at most the communicator's.
     */
    int maxCTAs;
    /**
     * Most thread blocks for NVLink SHARP.
     */
    int nvlsCTAs;
    /**
     * Thread blocks in a cluster, one value for all collectives of a group.
     */
    int cgaClusterSize;
    /**
     * The algorithms that may be used, or NULL for all.
     */
    const char *algSelection;
    /**
     * 1: a selection that cannot be met is an error.
     */
    int forceAlgSelection;
    /**
     * `NCCL_CTA_POLICY_*`, combined.
     */
    int CTAPolicy;
    /**
     * Handed to profiler plugins as it is; the top bit is reserved.
     */
    uint64_t userProfilerTag;
    /**
     * Recorded when the kernel has been launched, or NULL. One for a communicator and group.
     */
    cudaEvent_t launchCompletionEvent;
} ncclCollConfig_v23200;
#endif

#if NCCL_VERSION_CODE >= 22800
/**
 * Configuration of one collective call.
 */
typedef struct ncclCollConfig_v23200 ncclCollConfig_t;
#endif

/**
 * What a simulated group would cost. Start from `NCCL_SIM_INFO_INITIALIZER`.
 */
typedef struct ncclSimInfo_v22200 {
    /**
     * Bytes of the caller's struct. Set by the initializer.
     */
    size_t size;
    /**
     * Marks an initialized struct. Set by the initializer.
     */
    unsigned int magic;
    /**
     * Version of the header that the caller was compiled with. Set by the initializer.
     */
    unsigned int version;
    /**
     * Estimated time of the group in microseconds; written by the call.
     */
    float estimatedTime;
} ncclSimInfo_v22200;

/**
 * What a simulated group would cost.
 */
typedef struct ncclSimInfo_v22200 ncclSimInfo_t;

#if NCCL_VERSION_CODE >= 22800
/**
 * Signals to wait for from one peer.
 */
typedef struct ncclWaitSignalDesc_t {
    /**
     * How many signals.
     */
    int opCnt;
    /**
     * The rank they come from.
     */
    int peer;
    /**
     * Index of the signal.
     */
    int sigIdx;
    /**
     * Context of the signal.
     */
    int ctx;
} ncclWaitSignalDesc_t;
#endif

#if NCCL_VERSION_CODE >= 22800
/**
 * Encryption of NCCL's TCP sockets. Start from `NCCL_ENCRYPTION_CONFIG_INITIALIZER`.
 */
typedef struct ncclEncryptionConfig_v23200 {
    /**
     * Bytes of the caller's struct. Set by the initializer.
     */
    size_t size;
    /**
     * Marks an initialized struct. Set by the initializer.
     */
    unsigned int magic;
    /**
     * Version of the header that the caller was compiled with. Set by the initializer.
     */
    unsigned int version;
    /**
     * One of `ncclEncryptionMode_t`.
     */
    int mode;
    /**
     * The shared key, or NULL.
     */
    const char *psk;
} ncclEncryptionConfig_v23200;
#endif

#if NCCL_VERSION_CODE >= 22800
/**
 * Encryption of NCCL's TCP sockets.
 */
typedef struct ncclEncryptionConfig_v23200 ncclEncryptionConfig_t;
#endif


#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Writes the version of the NCCL library behind this one: major * 10000 + minor * 100 + patch.
 *
 * Programs decide by this number which calls they may make, so it is never this library's own. `dimeVersionNumber` is
 * that. Fails with ncclInvalidArgument when `version` is NULL.
 */
ncclResult_t ncclGetVersion(int *version);

/**
 * Same as ncclGetVersion, for profilers that put their own ncclGetVersion before this one.
 */
ncclResult_t pncclGetVersion(int *version);

/**
 * A short text for a result, for people to read. Never NULL; the text is static.
 */
const char *ncclGetErrorString(ncclResult_t result);

/**
 * Same as ncclGetErrorString, for profilers that put their own ncclGetErrorString before this one.
 */
const char *pncclGetErrorString(ncclResult_t result);

/**
 * What went wrong last, in more words than a result has. `comm` is not used and may be NULL.
 *
 * When the last failure on this thread was this library's own, the text is its own too and stays valid until the next
 * one.
 */
const char *ncclGetLastError(ncclComm_t comm);

/**
 * Same as ncclGetLastError, for profilers that put their own ncclGetLastError before this one.
 */
const char *pncclGetLastError(ncclComm_t comm);

/**
 * Makes NCCL read the environment variables that govern its logging again. Deprecated by NCCL.
 */
void ncclResetDebugInit(void);

/**
 * Same as ncclResetDebugInit, for profilers that put their own ncclResetDebugInit before this one.
 */
void pncclResetDebugInit(void);

#if NCCL_VERSION_CODE >= 22800

/**
 * What ncclResetDebugInit calls. Exported by NCCL, but in no header of it; it has no `pnccl` twin.
 */
void ncclResetDebugInitInternal(void);

/**
 * Has NCCL's TCP sockets encrypted. To be called before the first communicator is made.
 */
ncclResult_t ncclSetEncryption(const ncclEncryptionConfig_t *config);

/**
 * Same as ncclSetEncryption, for profilers that put their own ncclSetEncryption before this one.
 */
ncclResult_t pncclSetEncryption(const ncclEncryptionConfig_t *config);

#endif

/**
 * Makes an id that brings the ranks of one new communicator together. One rank calls this and sends the id to all
 * others.
 */
ncclResult_t ncclGetUniqueId(ncclUniqueId *uniqueId);

/**
 * Same as ncclGetUniqueId, for profilers that put their own ncclGetUniqueId before this one.
 */
ncclResult_t pncclGetUniqueId(ncclUniqueId *uniqueId);

/**
 * Makes a communicator of `nranks` ranks, of which the caller is number `rank`, on the current CUDA device.
 *
 * Waits for all ranks: threads of one process call it in parallel or between ncclGroupStart and ncclGroupEnd. Inside a
 * group the handle is written at once but may be used only after the group's end.
 */
ncclResult_t ncclCommInitRank(ncclComm_t *comm, int nranks, ncclUniqueId commId, int rank);

/**
 * Same as ncclCommInitRank, for profilers that put their own ncclCommInitRank before this one.
 */
ncclResult_t pncclCommInitRank(ncclComm_t *comm, int nranks, ncclUniqueId commId, int rank);

/**
 * As ncclCommInitRank, with a configuration. `config` may be NULL.
 *
 * With `blocking` 0 it returns ncclInProgress, and the handle may be used once ncclCommGetAsyncError reports
 * ncclSuccess.
 */
ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int nranks, ncclUniqueId commId, int rank, ncclConfig_t *config);

/**
 * Same as ncclCommInitRankConfig, for profilers that put their own ncclCommInitRankConfig before this one.
 */
ncclResult_t pncclCommInitRankConfig(ncclComm_t *comm, int nranks, ncclUniqueId commId, int rank, ncclConfig_t *config);

/**
 * As ncclCommInitRankConfig, with `nId` ids to spread the work of finding each other over several ranks.
 */
ncclResult_t ncclCommInitRankScalable(ncclComm_t *newcomm,
                                      int nranks,
                                      int myrank,
                                      int nId,
                                      ncclUniqueId *commIds,
                                      ncclConfig_t *config);

/**
 * Same as ncclCommInitRankScalable, for profilers that put their own ncclCommInitRankScalable before this one.
 */
ncclResult_t pncclCommInitRankScalable(ncclComm_t *newcomm,
                                       int nranks,
                                       int myrank,
                                       int nId,
                                       ncclUniqueId *commIds,
                                       ncclConfig_t *config);

/**
 * Makes a communicator among `ndev` devices of this process and writes `ndev` handles to `comm`.
 *
 * Rank i is device `devlist[i]`, or device i when `devlist` is NULL.
 */
ncclResult_t ncclCommInitAll(ncclComm_t *comm, int ndev, const int *devlist);

/**
 * Same as ncclCommInitAll, for profilers that put their own ncclCommInitAll before this one.
 */
ncclResult_t pncclCommInitAll(ncclComm_t *comm, int ndev, const int *devlist);

/**
 * Completes all operations of a communicator, after which only ncclCommDestroy may follow. All ranks call it.
 */
ncclResult_t ncclCommFinalize(ncclComm_t comm);

/**
 * Same as ncclCommFinalize, for profilers that put their own ncclCommFinalize before this one.
 */
ncclResult_t pncclCommFinalize(ncclComm_t comm);

/**
 * Frees a communicator. NULL is allowed and does nothing.
 */
ncclResult_t ncclCommDestroy(ncclComm_t comm);

/**
 * Same as ncclCommDestroy, for profilers that put their own ncclCommDestroy before this one.
 */
ncclResult_t pncclCommDestroy(ncclComm_t comm);

/**
 * Stops what a communicator is doing and frees it. Waits for no other rank, so it also works when one has died.
 */
ncclResult_t ncclCommAbort(ncclComm_t comm);

/**
 * Same as ncclCommAbort, for profilers that put their own ncclCommAbort before this one.
 */
ncclResult_t pncclCommAbort(ncclComm_t comm);

#if NCCL_VERSION_CODE >= 22800

/**
 * Stops what a communicator is doing and refuses further operations, but leaves it there to be shrunk or destroyed.
 *
 * `revokeFlags` is NCCL_REVOKE_DEFAULT.
 */
ncclResult_t ncclCommRevoke(ncclComm_t comm, int revokeFlags);

/**
 * Same as ncclCommRevoke, for profilers that put their own ncclCommRevoke before this one.
 */
ncclResult_t pncclCommRevoke(ncclComm_t comm, int revokeFlags);

#endif

/**
 * Makes one new communicator for each `color`; ranks are ordered by `key`. All ranks call it.
 *
 * A rank with color NCCL_SPLIT_NOCOLOR joins none and gets NULL. `config` may be NULL: the parent's is used.
 */
ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t *newcomm, ncclConfig_t *config);

/**
 * Same as ncclCommSplit, for profilers that put their own ncclCommSplit before this one.
 */
ncclResult_t pncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t *newcomm, ncclConfig_t *config);

/**
 * Makes a new communicator without the `excludeRanksCount` ranks listed. The ranks that stay call it.
 *
 * `shrinkFlags` is NCCL_SHRINK_DEFAULT, or NCCL_SHRINK_ABORT to stop first what the parent is doing.
 */
ncclResult_t ncclCommShrink(ncclComm_t comm,
                            int *excludeRanksList,
                            int excludeRanksCount,
                            ncclComm_t *newcomm,
                            ncclConfig_t *config,
                            int shrinkFlags);

/**
 * Same as ncclCommShrink, for profilers that put their own ncclCommShrink before this one.
 */
ncclResult_t pncclCommShrink(ncclComm_t comm,
                             int *excludeRanksList,
                             int excludeRanksCount,
                             ncclComm_t *newcomm,
                             ncclConfig_t *config,
                             int shrinkFlags);

#if NCCL_VERSION_CODE >= 22800

/**
 * Makes an id by which new ranks join a communicator in ncclCommGrow.
 */
ncclResult_t ncclCommGetUniqueId(ncclComm_t comm, ncclUniqueId *uniqueId);

/**
 * Same as ncclCommGetUniqueId, for profilers that put their own ncclCommGetUniqueId before this one.
 */
ncclResult_t pncclCommGetUniqueId(ncclComm_t comm, ncclUniqueId *uniqueId);

/**
 * Makes a communicator of `nRanks` ranks out of an existing one and new ranks.
 *
 * Existing ranks pass their communicator and `rank` -1; new ones pass NULL, the id and the rank they are to have.
 */
ncclResult_t ncclCommGrow(ncclComm_t comm,
                          int nRanks,
                          const ncclUniqueId *uniqueId,
                          int rank,
                          ncclComm_t *newcomm,
                          ncclConfig_t *config);

/**
 * Same as ncclCommGrow, for profilers that put their own ncclCommGrow before this one.
 */
ncclResult_t pncclCommGrow(ncclComm_t comm,
                           int nRanks,
                           const ncclUniqueId *uniqueId,
                           int rank,
                           ncclComm_t *newcomm,
                           ncclConfig_t *config);

/**
 * Gives back resources of an idle communicator: with NCCL_SUSPEND_MEM its memory on the GPU, NCCL's and this library's.
 * All ranks call it. All-reduces are refused until ncclCommResume.
 */
ncclResult_t ncclCommSuspend(ncclComm_t comm, int flags);

/**
 * Same as ncclCommSuspend, for profilers that put their own ncclCommSuspend before this one.
 */
ncclResult_t pncclCommSuspend(ncclComm_t comm, int flags);

/**
 * Takes back what ncclCommSuspend gave up. All ranks call it.
 */
ncclResult_t ncclCommResume(ncclComm_t comm);

/**
 * Same as ncclCommResume, for profilers that put their own ncclCommResume before this one.
 */
ncclResult_t pncclCommResume(ncclComm_t comm);

#endif

/**
 * Writes the error that a communicator has met since it was made, ncclSuccess, or ncclInProgress while a call is at
 * work.
 */
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *asyncError);

/**
 * Same as ncclCommGetAsyncError, for profilers that put their own ncclCommGetAsyncError before this one.
 */
ncclResult_t pncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *asyncError);

/**
 * Writes the number of ranks.
 */
ncclResult_t ncclCommCount(ncclComm_t comm, int *count);

/**
 * Same as ncclCommCount, for profilers that put their own ncclCommCount before this one.
 */
ncclResult_t pncclCommCount(ncclComm_t comm, int *count);

/**
 * Writes the CUDA device of this rank.
 */
ncclResult_t ncclCommCuDevice(ncclComm_t comm, int *device);

/**
 * Same as ncclCommCuDevice, for profilers that put their own ncclCommCuDevice before this one.
 */
ncclResult_t pncclCommCuDevice(ncclComm_t comm, int *device);

/**
 * Writes the number of this rank.
 */
ncclResult_t ncclCommUserRank(ncclComm_t comm, int *rank);

/**
 * Same as ncclCommUserRank, for profilers that put their own ncclCommUserRank before this one.
 */
ncclResult_t pncclCommUserRank(ncclComm_t comm, int *rank);

#if NCCL_VERSION_CODE >= 22800

/**
 * Writes one number about the memory of a communicator, in bytes unless `stat` says otherwise.
 */
ncclResult_t ncclCommMemStats(ncclComm_t comm, ncclCommMemStat_t stat, uint64_t *value);

/**
 * Same as ncclCommMemStats, for profilers that put their own ncclCommMemStats before this one.
 */
ncclResult_t pncclCommMemStats(ncclComm_t comm, ncclCommMemStat_t stat, uint64_t *value);

#endif

/**
 * Allocates at least `size` bytes on the current device, fit for all that NCCL can do with a buffer.
 */
ncclResult_t ncclMemAlloc(void **ptr, size_t size);

/**
 * Same as ncclMemAlloc, for profilers that put their own ncclMemAlloc before this one.
 */
ncclResult_t pncclMemAlloc(void **ptr, size_t size);

/**
 * Frees what ncclMemAlloc allocated.
 */
ncclResult_t ncclMemFree(void *ptr);

/**
 * Same as ncclMemFree, for profilers that put their own ncclMemFree before this one.
 */
ncclResult_t pncclMemFree(void *ptr);

/**
 * Registers `size` bytes at `buff` for transfers without a copy and writes a handle for ncclCommDeregister.
 */
ncclResult_t ncclCommRegister(ncclComm_t comm, void *buff, size_t size, void **handle);

/**
 * Same as ncclCommRegister, for profilers that put their own ncclCommRegister before this one.
 */
ncclResult_t pncclCommRegister(ncclComm_t comm, void *buff, size_t size, void **handle);

/**
 * Ends a registration by ncclCommRegister.
 */
ncclResult_t ncclCommDeregister(ncclComm_t comm, void *handle);

/**
 * Same as ncclCommDeregister, for profilers that put their own ncclCommDeregister before this one.
 */
ncclResult_t pncclCommDeregister(ncclComm_t comm, void *handle);

/**
 * Registers `size` bytes at `buff` as this rank's part of a window. All ranks call it. `winFlags` combines
 * `NCCL_WIN_*`.
 */
ncclResult_t ncclCommWindowRegister(ncclComm_t comm, void *buff, size_t size, ncclWindow_t *win, int winFlags);

/**
 * Same as ncclCommWindowRegister, for profilers that put their own ncclCommWindowRegister before this one.
 */
ncclResult_t pncclCommWindowRegister(ncclComm_t comm, void *buff, size_t size, ncclWindow_t *win, int winFlags);

/**
 * Ends a window. The memory stays the caller's.
 */
ncclResult_t ncclCommWindowDeregister(ncclComm_t comm, ncclWindow_t win);

/**
 * Same as ncclCommWindowDeregister, for profilers that put their own ncclCommWindowDeregister before this one.
 */
ncclResult_t pncclCommWindowDeregister(ncclComm_t comm, ncclWindow_t win);

#if NCCL_VERSION_CODE >= 22800

/**
 * Writes the address under which this rank registered its part of a window.
 */
ncclResult_t ncclWinGetUserPtr(ncclComm_t comm, ncclWindow_t win, void **outUserPtr);

/**
 * Same as ncclWinGetUserPtr, for profilers that put their own ncclWinGetUserPtr before this one.
 */
ncclResult_t pncclWinGetUserPtr(ncclComm_t comm, ncclWindow_t win, void **outUserPtr);

#endif

/**
 * Makes an operation that multiplies this rank's values by `*scalar` and then sums over the ranks.
 *
 * It is good for `comm` and `datatype` only. `residence` says where the scalar lies and when it is read.
 */
ncclResult_t ncclRedOpCreatePreMulSum(ncclRedOp_t *op,
                                      void *scalar,
                                      ncclDataType_t datatype,
                                      ncclScalarResidence_t residence,
                                      ncclComm_t comm);

/**
 * Same as ncclRedOpCreatePreMulSum, for profilers that put their own ncclRedOpCreatePreMulSum before this one.
 */
ncclResult_t pncclRedOpCreatePreMulSum(ncclRedOp_t *op,
                                       void *scalar,
                                       ncclDataType_t datatype,
                                       ncclScalarResidence_t residence,
                                       ncclComm_t comm);

/**
 * Ends an operation. Collectives that were issued with it are not affected.
 */
ncclResult_t ncclRedOpDestroy(ncclRedOp_t op, ncclComm_t comm);

/**
 * Same as ncclRedOpDestroy, for profilers that put their own ncclRedOpDestroy before this one.
 */
ncclResult_t pncclRedOpDestroy(ncclRedOp_t op, ncclComm_t comm);

/**
 * Combines the `count` elements at `sendbuff` of all ranks and leaves the result at `recvbuff` of every rank.
 *
 * In place when `sendbuff` and `recvbuff` are equal.
 */
ncclResult_t ncclAllReduce(const void *sendbuff,
                           void *recvbuff,
                           size_t count,
                           ncclDataType_t datatype,
                           ncclRedOp_t op,
                           ncclComm_t comm,
                           cudaStream_t stream);

/**
 * Same as ncclAllReduce, for profilers that put their own ncclAllReduce before this one.
 */
ncclResult_t pncclAllReduce(const void *sendbuff,
                            void *recvbuff,
                            size_t count,
                            ncclDataType_t datatype,
                            ncclRedOp_t op,
                            ncclComm_t comm,
                            cudaStream_t stream);

/**
 * Combines the `count` elements at `sendbuff` of all ranks and leaves the result at `recvbuff` of rank `root`.
 *
 * In place when `sendbuff` and `recvbuff` are equal. On other ranks `recvbuff` is not used.
 */
ncclResult_t ncclReduce(const void *sendbuff,
                        void *recvbuff,
                        size_t count,
                        ncclDataType_t datatype,
                        ncclRedOp_t op,
                        int root,
                        ncclComm_t comm,
                        cudaStream_t stream);

/**
 * Same as ncclReduce, for profilers that put their own ncclReduce before this one.
 */
ncclResult_t pncclReduce(const void *sendbuff,
                         void *recvbuff,
                         size_t count,
                         ncclDataType_t datatype,
                         ncclRedOp_t op,
                         int root,
                         ncclComm_t comm,
                         cudaStream_t stream);

/**
 * Copies the `count` elements at `sendbuff` of rank `root` to `recvbuff` of every rank.
 *
 * In place when `sendbuff` and `recvbuff` are equal. On other ranks `sendbuff` is not used.
 */
ncclResult_t ncclBroadcast(const void *sendbuff,
                           void *recvbuff,
                           size_t count,
                           ncclDataType_t datatype,
                           int root,
                           ncclComm_t comm,
                           cudaStream_t stream);

/**
 * Same as ncclBroadcast, for profilers that put their own ncclBroadcast before this one.
 */
ncclResult_t pncclBroadcast(const void *sendbuff,
                            void *recvbuff,
                            size_t count,
                            ncclDataType_t datatype,
                            int root,
                            ncclComm_t comm,
                            cudaStream_t stream);

/**
 * ncclBroadcast in place, under its old name.
 */
ncclResult_t ncclBcast(void *buff,
                       size_t count,
                       ncclDataType_t datatype,
                       int root,
                       ncclComm_t comm,
                       cudaStream_t stream);

/**
 * Same as ncclBcast, for profilers that put their own ncclBcast before this one.
 */
ncclResult_t pncclBcast(void *buff,
                        size_t count,
                        ncclDataType_t datatype,
                        int root,
                        ncclComm_t comm,
                        cudaStream_t stream);

/**
 * Copies the `sendcount` elements at `sendbuff` of rank i to element i * `sendcount` of `recvbuff`, on every rank.
 *
 * In place when `sendbuff` is this rank's part of `recvbuff`.
 */
ncclResult_t ncclAllGather(const void *sendbuff,
                           void *recvbuff,
                           size_t sendcount,
                           ncclDataType_t datatype,
                           ncclComm_t comm,
                           cudaStream_t stream);

/**
 * Same as ncclAllGather, for profilers that put their own ncclAllGather before this one.
 */
ncclResult_t pncclAllGather(const void *sendbuff,
                            void *recvbuff,
                            size_t sendcount,
                            ncclDataType_t datatype,
                            ncclComm_t comm,
                            cudaStream_t stream);

/**
 * Combines the elements at `sendbuff` of all ranks; rank i gets those from i * `recvcount` on, `recvcount` of them.
 *
 * In place when `recvbuff` is this rank's part of `sendbuff`.
 */
ncclResult_t ncclReduceScatter(const void *sendbuff,
                               void *recvbuff,
                               size_t recvcount,
                               ncclDataType_t datatype,
                               ncclRedOp_t op,
                               ncclComm_t comm,
                               cudaStream_t stream);

/**
 * Same as ncclReduceScatter, for profilers that put their own ncclReduceScatter before this one.
 */
ncclResult_t pncclReduceScatter(const void *sendbuff,
                                void *recvbuff,
                                size_t recvcount,
                                ncclDataType_t datatype,
                                ncclRedOp_t op,
                                ncclComm_t comm,
                                cudaStream_t stream);

#if NCCL_VERSION_CODE >= 22800

/**
 * Sends `count` elements from element j * `count` of `sendbuff` to rank j, where rank i's arrive at element i *
 * `count` of `recvbuff`.
 */
ncclResult_t ncclAlltoAll(const void *sendbuff,
                          void *recvbuff,
                          size_t count,
                          ncclDataType_t datatype,
                          ncclComm_t comm,
                          cudaStream_t stream);

/**
 * Same as ncclAlltoAll, for profilers that put their own ncclAlltoAll before this one.
 */
ncclResult_t pncclAlltoAll(const void *sendbuff,
                           void *recvbuff,
                           size_t count,
                           ncclDataType_t datatype,
                           ncclComm_t comm,
                           cudaStream_t stream);

/**
 * Copies the `count` elements at `sendbuff` of rank i to element i * `count` of `recvbuff` on rank `root`.
 *
 * On other ranks `recvbuff` is not used.
 */
ncclResult_t ncclGather(const void *sendbuff,
                        void *recvbuff,
                        size_t count,
                        ncclDataType_t datatype,
                        int root,
                        ncclComm_t comm,
                        cudaStream_t stream);

/**
 * Same as ncclGather, for profilers that put their own ncclGather before this one.
 */
ncclResult_t pncclGather(const void *sendbuff,
                         void *recvbuff,
                         size_t count,
                         ncclDataType_t datatype,
                         int root,
                         ncclComm_t comm,
                         cudaStream_t stream);

/**
 * Copies `count` elements from element i * `count` of `sendbuff` on rank `root` to `recvbuff` of rank i.
 *
 * On other ranks `sendbuff` is not used.
 */
ncclResult_t ncclScatter(const void *sendbuff,
                         void *recvbuff,
                         size_t count,
                         ncclDataType_t datatype,
                         int root,
                         ncclComm_t comm,
                         cudaStream_t stream);

/**
 * Same as ncclScatter, for profilers that put their own ncclScatter before this one.
 */
ncclResult_t pncclScatter(const void *sendbuff,
                          void *recvbuff,
                          size_t count,
                          ncclDataType_t datatype,
                          int root,
                          ncclComm_t comm,
                          cudaStream_t stream);

/**
 * As ncclAllReduce, configured by `config`, which is equal on all ranks. NULL: exactly as ncclAllReduce.
 */
ncclResult_t ncclAllReduceConfig(const void *sendbuff,
                                 void *recvbuff,
                                 size_t count,
                                 ncclDataType_t datatype,
                                 ncclRedOp_t op,
                                 ncclComm_t comm,
                                 cudaStream_t stream,
                                 const ncclCollConfig_t *config);

/**
 * Same as ncclAllReduceConfig, for profilers that put their own ncclAllReduceConfig before this one.
 */
ncclResult_t pncclAllReduceConfig(const void *sendbuff,
                                  void *recvbuff,
                                  size_t count,
                                  ncclDataType_t datatype,
                                  ncclRedOp_t op,
                                  ncclComm_t comm,
                                  cudaStream_t stream,
                                  const ncclCollConfig_t *config);

/**
 * As ncclReduce, configured by `config`, which is equal on all ranks. NULL: exactly as ncclReduce.
 */
ncclResult_t ncclReduceConfig(const void *sendbuff,
                              void *recvbuff,
                              size_t count,
                              ncclDataType_t datatype,
                              ncclRedOp_t op,
                              int root,
                              ncclComm_t comm,
                              cudaStream_t stream,
                              const ncclCollConfig_t *config);

/**
 * Same as ncclReduceConfig, for profilers that put their own ncclReduceConfig before this one.
 */
ncclResult_t pncclReduceConfig(const void *sendbuff,
                               void *recvbuff,
                               size_t count,
                               ncclDataType_t datatype,
                               ncclRedOp_t op,
                               int root,
                               ncclComm_t comm,
                               cudaStream_t stream,
                               const ncclCollConfig_t *config);

/**
 * As ncclBroadcast, configured by `config`, which is equal on all ranks. NULL: exactly as ncclBroadcast.
 */
ncclResult_t ncclBroadcastConfig(const void *sendbuff,
                                 void *recvbuff,
                                 size_t count,
                                 ncclDataType_t datatype,
                                 int root,
                                 ncclComm_t comm,
                                 cudaStream_t stream,
                                 const ncclCollConfig_t *config);

/**
 * Same as ncclBroadcastConfig, for profilers that put their own ncclBroadcastConfig before this one.
 */
ncclResult_t pncclBroadcastConfig(const void *sendbuff,
                                  void *recvbuff,
                                  size_t count,
                                  ncclDataType_t datatype,
                                  int root,
                                  ncclComm_t comm,
                                  cudaStream_t stream,
                                  const ncclCollConfig_t *config);

/**
 * As ncclAllGather, configured by `config`, which is equal on all ranks. NULL: exactly as ncclAllGather.
 */
ncclResult_t ncclAllGatherConfig(const void *sendbuff,
                                 void *recvbuff,
                                 size_t sendcount,
                                 ncclDataType_t datatype,
                                 ncclComm_t comm,
                                 cudaStream_t stream,
                                 const ncclCollConfig_t *config);

/**
 * Same as ncclAllGatherConfig, for profilers that put their own ncclAllGatherConfig before this one.
 */
ncclResult_t pncclAllGatherConfig(const void *sendbuff,
                                  void *recvbuff,
                                  size_t sendcount,
                                  ncclDataType_t datatype,
                                  ncclComm_t comm,
                                  cudaStream_t stream,
                                  const ncclCollConfig_t *config);

/**
 * As ncclReduceScatter, configured by `config`, which is equal on all ranks. NULL: exactly as ncclReduceScatter.
 */
ncclResult_t ncclReduceScatterConfig(const void *sendbuff,
                                     void *recvbuff,
                                     size_t recvcount,
                                     ncclDataType_t datatype,
                                     ncclRedOp_t op,
                                     ncclComm_t comm,
                                     cudaStream_t stream,
                                     const ncclCollConfig_t *config);

/**
 * Same as ncclReduceScatterConfig, for profilers that put their own ncclReduceScatterConfig before this one.
 */
ncclResult_t pncclReduceScatterConfig(const void *sendbuff,
                                      void *recvbuff,
                                      size_t recvcount,
                                      ncclDataType_t datatype,
                                      ncclRedOp_t op,
                                      ncclComm_t comm,
                                      cudaStream_t stream,
                                      const ncclCollConfig_t *config);

/**
 * As ncclAlltoAll, configured by `config`, which is equal on all ranks. NULL: exactly as ncclAlltoAll.
 */
ncclResult_t ncclAlltoAllConfig(const void *sendbuff,
                                void *recvbuff,
                                size_t count,
                                ncclDataType_t datatype,
                                ncclComm_t comm,
                                cudaStream_t stream,
                                const ncclCollConfig_t *config);

/**
 * Same as ncclAlltoAllConfig, for profilers that put their own ncclAlltoAllConfig before this one.
 */
ncclResult_t pncclAlltoAllConfig(const void *sendbuff,
                                 void *recvbuff,
                                 size_t count,
                                 ncclDataType_t datatype,
                                 ncclComm_t comm,
                                 cudaStream_t stream,
                                 const ncclCollConfig_t *config);

/**
 * As ncclGather, configured by `config`, which is equal on all ranks. NULL: exactly as ncclGather.
 */
ncclResult_t ncclGatherConfig(const void *sendbuff,
                              void *recvbuff,
                              size_t count,
                              ncclDataType_t datatype,
                              int root,
                              ncclComm_t comm,
                              cudaStream_t stream,
                              const ncclCollConfig_t *config);

/**
 * Same as ncclGatherConfig, for profilers that put their own ncclGatherConfig before this one.
 */
ncclResult_t pncclGatherConfig(const void *sendbuff,
                               void *recvbuff,
                               size_t count,
                               ncclDataType_t datatype,
                               int root,
                               ncclComm_t comm,
                               cudaStream_t stream,
                               const ncclCollConfig_t *config);

/**
 * As ncclScatter, configured by `config`, which is equal on all ranks. NULL: exactly as ncclScatter.
 */
ncclResult_t ncclScatterConfig(const void *sendbuff,
                               void *recvbuff,
                               size_t count,
                               ncclDataType_t datatype,
                               int root,
                               ncclComm_t comm,
                               cudaStream_t stream,
                               const ncclCollConfig_t *config);

/**
 * Same as ncclScatterConfig, for profilers that put their own ncclScatterConfig before this one.
 */
ncclResult_t pncclScatterConfig(const void *sendbuff,
                                void *recvbuff,
                                size_t count,
                                ncclDataType_t datatype,
                                int root,
                                ncclComm_t comm,
                                cudaStream_t stream,
                                const ncclCollConfig_t *config);

#endif

/**
 * Sends `count` elements to rank `peer`, which calls ncclRecv with the same count and type.
 *
 * Sends and receives that must progress together belong into one group.
 */
ncclResult_t ncclSend(const void *sendbuff,
                      size_t count,
                      ncclDataType_t datatype,
                      int peer,
                      ncclComm_t comm,
                      cudaStream_t stream);

/**
 * Same as ncclSend, for profilers that put their own ncclSend before this one.
 */
ncclResult_t pncclSend(const void *sendbuff,
                       size_t count,
                       ncclDataType_t datatype,
                       int peer,
                       ncclComm_t comm,
                       cudaStream_t stream);

/**
 * Receives `count` elements from rank `peer`, which calls ncclSend with the same count and type.
 */
ncclResult_t ncclRecv(void *recvbuff,
                      size_t count,
                      ncclDataType_t datatype,
                      int peer,
                      ncclComm_t comm,
                      cudaStream_t stream);

/**
 * Same as ncclRecv, for profilers that put their own ncclRecv before this one.
 */
ncclResult_t pncclRecv(void *recvbuff,
                       size_t count,
                       ncclDataType_t datatype,
                       int peer,
                       ncclComm_t comm,
                       cudaStream_t stream);

#if NCCL_VERSION_CODE >= 22800

/**
 * Writes `count` elements into the window of rank `peer`, `peerWinOffset` bytes from its start, and then signals that
 * rank.
 *
 * `sigIdx` and `ctx` choose the signal. `flags` is 0.
 */
ncclResult_t ncclPutSignal(const void *localbuff,
                           size_t count,
                           ncclDataType_t datatype,
                           int peer,
                           ncclWindow_t peerWin,
                           size_t peerWinOffset,
                           int sigIdx,
                           int ctx,
                           unsigned int flags,
                           ncclComm_t comm,
                           cudaStream_t stream);

/**
 * Same as ncclPutSignal, for profilers that put their own ncclPutSignal before this one.
 */
ncclResult_t pncclPutSignal(const void *localbuff,
                            size_t count,
                            ncclDataType_t datatype,
                            int peer,
                            ncclWindow_t peerWin,
                            size_t peerWinOffset,
                            int sigIdx,
                            int ctx,
                            unsigned int flags,
                            ncclComm_t comm,
                            cudaStream_t stream);

/**
 * Signals rank `peer` without writing anything. `flags` is 0.
 */
ncclResult_t ncclSignal(int peer, int sigIdx, int ctx, unsigned int flags, ncclComm_t comm, cudaStream_t stream);

/**
 * Same as ncclSignal, for profilers that put their own ncclSignal before this one.
 */
ncclResult_t pncclSignal(int peer, int sigIdx, int ctx, unsigned int flags, ncclComm_t comm, cudaStream_t stream);

/**
 * Waits on the stream for the signals that the `nDesc` descriptors list.
 */
ncclResult_t ncclWaitSignal(int nDesc, ncclWaitSignalDesc_t *signalDescs, ncclComm_t comm, cudaStream_t stream);

/**
 * Same as ncclWaitSignal, for profilers that put their own ncclWaitSignal before this one.
 */
ncclResult_t pncclWaitSignal(int nDesc, ncclWaitSignalDesc_t *signalDescs, ncclComm_t comm, cudaStream_t stream);

#endif

/**
 * Opens a group on this thread.
 */
ncclResult_t ncclGroupStart(void);

/**
 * Same as ncclGroupStart, for profilers that put their own ncclGroupStart before this one.
 */
ncclResult_t pncclGroupStart(void);

/**
 * Closes a group on this thread. The outermost one issues what the group holds and returns the first error.
 */
ncclResult_t ncclGroupEnd(void);

/**
 * Same as ncclGroupEnd, for profilers that put their own ncclGroupEnd before this one.
 */
ncclResult_t pncclGroupEnd(void);

/**
 * Closes a group without issuing what it holds, and writes what that would have cost.
 */
ncclResult_t ncclGroupSimulateEnd(ncclSimInfo_t *simInfo);

/**
 * Same as ncclGroupSimulateEnd, for profilers that put their own ncclGroupSimulateEnd before this one.
 */
ncclResult_t pncclGroupSimulateEnd(ncclSimInfo_t *simInfo);

#if NCCL_VERSION_CODE >= 22800

/**
 * Writes a handle for the parameter named `key`. NCCL owns it.
 */
ncclResult_t ncclParamBind(ncclParamHandle_t *out, const char *key);

/**
 * Same as ncclParamBind, for profilers that put their own ncclParamBind before this one.
 */
ncclResult_t pncclParamBind(ncclParamHandle_t *out, const char *key);

/**
 * Writes the value of a parameter as a signed integer of 8 bits.
 */
ncclResult_t ncclParamGetI8(ncclParamHandle_t h, int8_t *out);

/**
 * Same as ncclParamGetI8, for profilers that put their own ncclParamGetI8 before this one.
 */
ncclResult_t pncclParamGetI8(ncclParamHandle_t h, int8_t *out);

/**
 * Writes the value of a parameter as a signed integer of 16 bits.
 */
ncclResult_t ncclParamGetI16(ncclParamHandle_t h, int16_t *out);

/**
 * Same as ncclParamGetI16, for profilers that put their own ncclParamGetI16 before this one.
 */
ncclResult_t pncclParamGetI16(ncclParamHandle_t h, int16_t *out);

/**
 * Writes the value of a parameter as a signed integer of 32 bits.
 */
ncclResult_t ncclParamGetI32(ncclParamHandle_t h, int32_t *out);

/**
 * Same as ncclParamGetI32, for profilers that put their own ncclParamGetI32 before this one.
 */
ncclResult_t pncclParamGetI32(ncclParamHandle_t h, int32_t *out);

/**
 * Writes the value of a parameter as a signed integer of 64 bits.
 */
ncclResult_t ncclParamGetI64(ncclParamHandle_t h, int64_t *out);

/**
 * Same as ncclParamGetI64, for profilers that put their own ncclParamGetI64 before this one.
 */
ncclResult_t pncclParamGetI64(ncclParamHandle_t h, int64_t *out);

/**
 * Writes the value of a parameter as an unsigned integer of 8 bits.
 */
ncclResult_t ncclParamGetU8(ncclParamHandle_t h, uint8_t *out);

/**
 * Same as ncclParamGetU8, for profilers that put their own ncclParamGetU8 before this one.
 */
ncclResult_t pncclParamGetU8(ncclParamHandle_t h, uint8_t *out);

/**
 * Writes the value of a parameter as an unsigned integer of 16 bits.
 */
ncclResult_t ncclParamGetU16(ncclParamHandle_t h, uint16_t *out);

/**
 * Same as ncclParamGetU16, for profilers that put their own ncclParamGetU16 before this one.
 */
ncclResult_t pncclParamGetU16(ncclParamHandle_t h, uint16_t *out);

/**
 * Writes the value of a parameter as an unsigned integer of 32 bits.
 */
ncclResult_t ncclParamGetU32(ncclParamHandle_t h, uint32_t *out);

/**
 * Same as ncclParamGetU32, for profilers that put their own ncclParamGetU32 before this one.
 */
ncclResult_t pncclParamGetU32(ncclParamHandle_t h, uint32_t *out);

/**
 * Writes the value of a parameter as an unsigned integer of 64 bits.
 */
ncclResult_t ncclParamGetU64(ncclParamHandle_t h, uint64_t *out);

/**
 * Same as ncclParamGetU64, for profilers that put their own ncclParamGetU64 before this one.
 */
ncclResult_t pncclParamGetU64(ncclParamHandle_t h, uint64_t *out);

/**
 * Writes the value of a parameter as text. NCCL owns it; it is valid until the next such call on this thread.
 */
ncclResult_t ncclParamGetStr(ncclParamHandle_t h, const char **out);

/**
 * Same as ncclParamGetStr, for profilers that put their own ncclParamGetStr before this one.
 */
ncclResult_t pncclParamGetStr(ncclParamHandle_t h, const char **out);

/**
 * Copies the value of a parameter as bytes: at most `maxLen` of them to `out`, and how many to `len`.
 */
ncclResult_t ncclParamGet(ncclParamHandle_t h, void *out, int maxLen, int *len);

/**
 * Same as ncclParamGet, for profilers that put their own ncclParamGet before this one.
 */
ncclResult_t pncclParamGet(ncclParamHandle_t h, void *out, int maxLen, int *len);

/**
 * Writes the value of the parameter named `key` as text, and its length in bytes. NCCL owns the text; it is valid
 * until the next such call on this thread.
 */
ncclResult_t ncclParamGetParameter(const char *key, const char **value, int *valueLen);

/**
 * Same as ncclParamGetParameter, for profilers that put their own ncclParamGetParameter before this one.
 */
ncclResult_t pncclParamGetParameter(const char *key, const char **value, int *valueLen);

/**
 * Writes the names of all parameters and how many they are. NCCL owns the table; it is valid until the next such call
 * on this thread.
 */
ncclResult_t ncclParamGetAllParameterKeys(const char ***table, int *tableLen);

/**
 * Same as ncclParamGetAllParameterKeys, for profilers that put their own ncclParamGetAllParameterKeys before this one.
 */
ncclResult_t pncclParamGetAllParameterKeys(const char ***table, int *tableLen);

/**
 * Has NCCL log all its parameters.
 */
void ncclParamDumpAll(void);

/**
 * Same as ncclParamDumpAll, for profilers that put their own ncclParamDumpAll before this one.
 */
void pncclParamDumpAll(void);

#endif

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* NCCL_H_ */

#undef DIME_NCCL_CONFIG

#if NCCL_VERSION_CODE >= 22800
#define DIME_CONFIG_INITIALIZER_SINCE_2_28 \
    NCCL_CONFIG_UNDEF_INT, /* nChannelsPerNetPeer */ \
    NCCL_CONFIG_UNDEF_INT, /* nvlinkCentricSched */ \
    NCCL_CONFIG_UNDEF_INT, /* graphUsageMode */ \
    NCCL_CONFIG_UNDEF_INT, /* numRmaCtx */ \
    NCCL_CONFIG_UNDEF_INT, /* maxP2pPeers */ \
    NCCL_CONFIG_UNDEF_INT, /* graphStreamOrdering */ \
    NCCL_CONFIG_UNDEF_INT, /* launchOrderImplicit */ \
    NCCL_CONFIG_UNDEF_INT, /* numRmaSig */ \
    NCCL_CONFIG_UNDEF_INT, /* rmaEagerInit */ \
    NCCL_CONFIG_UNDEF_INT, /* hostCftMode */ \
    NCCL_CONFIG_UNDEF_INT, /* nvlsHostMode */
#else
#define DIME_CONFIG_INITIALIZER_SINCE_2_28
#endif

/* A struct that is passed to NCCL must start as one of these. */
#define NCCL_CONFIG_INITIALIZER { \
    sizeof(ncclConfig_t), DIME_NCCL_MAGIC, NCCL_VERSION_CODE, \
    NCCL_CONFIG_UNDEF_INT, /* blocking */ \
    NCCL_CONFIG_UNDEF_INT, /* cgaClusterSize */ \
    NCCL_CONFIG_UNDEF_INT, /* minCTAs */ \
    NCCL_CONFIG_UNDEF_INT, /* maxCTAs */ \
    NCCL_CONFIG_UNDEF_PTR, /* netName */ \
    NCCL_CONFIG_UNDEF_INT, /* splitShare */ \
    NCCL_CONFIG_UNDEF_INT, /* trafficClass */ \
    NCCL_CONFIG_UNDEF_PTR, /* commName */ \
    NCCL_CONFIG_UNDEF_INT, /* collnetEnable */ \
    NCCL_CONFIG_UNDEF_INT, /* CTAPolicy */ \
    NCCL_CONFIG_UNDEF_INT, /* shrinkShare */ \
    NCCL_CONFIG_UNDEF_INT, /* nvlsCTAs */ \
    DIME_CONFIG_INITIALIZER_SINCE_2_28 \
}

#define NCCL_SIM_INFO_INITIALIZER { \
    sizeof(ncclSimInfo_t), 0x74685283, NCCL_VERSION_CODE, \
    NCCL_UNDEF_FLOAT /* estimatedTime */ \
}

#if NCCL_VERSION_CODE >= 22800
#define NCCL_COLLCONFIG_INITIALIZER { \
    sizeof(ncclCollConfig_t), DIME_NCCL_MAGIC, NCCL_VERSION_CODE, \
    NCCL_CONFIG_UNDEF_PTR, /* ext */ \
    NCCL_CONFIG_UNDEF_INT, /* minCTAs */ \
    NCCL_CONFIG_UNDEF_INT, /* maxCTAs */ \
    NCCL_CONFIG_UNDEF_INT, /* nvlsCTAs */ \
    NCCL_CONFIG_UNDEF_INT, /* cgaClusterSize */ \
    NCCL_CONFIG_UNDEF_PTR, /* algSelection */ \
    1, /* forceAlgSelection */ \
    NCCL_CONFIG_UNDEF_INT, /* CTAPolicy */ \
    0, /* userProfilerTag */ \
    NCCL_CONFIG_UNDEF_PTR, /* launchCompletionEvent */ \
}

#define NCCL_ENCRYPTION_CONFIG_INITIALIZER { \
    sizeof(ncclEncryptionConfig_t), DIME_NCCL_MAGIC, NCCL_VERSION_CODE, \
    NCCL_ENCRYPTION_MODE_NONE, /* mode */ \
    NCCL_CONFIG_UNDEF_PTR, /* psk */ \
}
#endif
