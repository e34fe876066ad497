/* Uses nccl.h as programs do that are built for many releases of NCCL: they ask NCCL_VERSION_CODE what there is, and CUDA's
 * headers, which nccl.h brings along, what types there are. The gates are those of nccl-tests, PyTorch and TensorRT-LLM; the
 * code is our own. Compiled as C++ and as CUDA. */
#include "nccl.h"
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 28, 0)
#include "nccl_device.h"
#endif

#include <cstddef>
#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

/* nccl-tests. */
#if defined(__CUDA_BF16_TYPES_EXIST__) && NCCL_VERSION_CODE >= NCCL_VERSION(2, 10, 0)
#define HAVE_BF16 1
#else
#define HAVE_BF16 0
#endif
#if HAVE_BF16 && defined(__CUDA_FP8_TYPES_EXIST__) && NCCL_VERSION_CODE >= NCCL_VERSION(2, 24, 0)
#define HAVE_FP8 1
#else
#define HAVE_FP8 0
#endif

static ncclDataType_t all_types[ncclNumTypes] = {
    ncclInt8, ncclUint8, ncclInt32, ncclUint32, ncclInt64, ncclUint64, ncclHalf, ncclFloat, ncclDouble,
#if HAVE_BF16
    ncclBfloat16,
#endif
#if HAVE_FP8
    ncclFloat8e4m3, ncclFloat8e5m2,
#endif
};
static const int type_count = 9 + HAVE_BF16 + 2 * HAVE_FP8;

static ncclRedOp_t all_ops[] = {
    ncclSum, ncclProd, ncclMax, ncclMin,
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 10, 0)
    ncclAvg,
#endif
};
static_assert((int)(sizeof all_ops / sizeof all_ops[0]) == ncclNumOps, "every built-in operation");

static size_t word_size(ncclDataType_t type) {
    switch (type) {
    case ncclChar:
    case ncclUint8:
#if HAVE_FP8
    case ncclFloat8e4m3:
    case ncclFloat8e5m2:
#endif
        return 1;
    case ncclHalf:
#if HAVE_BF16
    case ncclBfloat16:
#endif
        return 2;
    case ncclInt:
    case ncclUint32:
    case ncclFloat:
        return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclDouble:
        return 8;
    default:
        return 0;
    }
}

/* PyTorch. */
#if (NCCL_MAJOR > 2) || (NCCL_MAJOR == 2) && (NCCL_MINOR >= 14)
#define HAS_NONBLOCKING
#endif
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 18, 0)
#define HAS_SPLIT
#endif
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 19, 0)
#define HAS_REGISTER
#define HAS_MEM_ALLOC
#endif
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 23, 0)
#define HAS_SCALABLE
#endif
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
#define HAS_SHRINK
#define HAS_WINDOW
#endif
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 28, 0)
#define HAS_DEVICE_CODE
#endif
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 29, 0)
#define HAS_ONE_SIDED
#endif

static const std::map<std::string, ncclDataType_t> types_by_name = {
    {"char", ncclInt8}, {"byte", ncclUint8}, {"int", ncclInt32}, {"long", ncclInt64}, {"half", ncclHalf},
    {"float", ncclFloat}, {"double", ncclDouble},
#if defined(__CUDA_FP8_TYPES_EXIST__) && NCCL_VERSION_CODE >= NCCL_VERSION(2, 24, 0)
    {"e4m3", ncclFloat8e4m3}, {"e5m2", ncclFloat8e5m2},
#else
    {"e4m3", ncclUint8}, {"e5m2", ncclUint8},
#endif
#if defined(__CUDA_BF16_TYPES_EXIST__)
    {"bf16", ncclBfloat16},
#endif
};

struct options {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
};

static ncclResult_t make(ncclComm_t *comm) {
    options made;
    made.config.blocking = 1;
    made.config.splitShare = 1;
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
    made.config.CTAPolicy = NCCL_CTA_POLICY_EFFICIENCY;
    made.config.shrinkShare = 1;
#endif
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 28, 0)
    made.config.CTAPolicy = NCCL_CTA_POLICY_ZERO;
    made.config.nChannelsPerNetPeer = 1;
#endif
    ncclUniqueId id;
    ncclResult_t result = ncclGetUniqueId(&id);
#ifdef HAS_SCALABLE
    if (result == ncclSuccess) result = ncclCommInitRankScalable(comm, 1, 0, 1, &id, &made.config);
#endif
#ifdef HAS_NONBLOCKING
    if (result == ncclSuccess) result = ncclCommInitRankConfig(comm, 1, id, 0, &made.config);
#endif
#ifdef HAS_SPLIT
    if (result == ncclSuccess) result = ncclCommSplit(*comm, NCCL_SPLIT_NOCOLOR, 0, comm, &made.config);
#endif
#ifdef HAS_SHRINK
    int excluded[] = {1};
    if (result == ncclSuccess) result = ncclCommShrink(*comm, excluded, 1, comm, &made.config, NCCL_SHRINK_DEFAULT);
#endif
    return result;
}

/* TensorRT-LLM: a window of memory that NCCL allocates. */
static ncclResult_t register_window(ncclComm_t comm) {
    ncclResult_t result = ncclSuccess;
#ifdef HAS_MEM_ALLOC
    void *memory = nullptr;
    result = ncclMemAlloc(&memory, 4096);
#ifdef HAS_REGISTER
    void *handle = nullptr;
    if (result == ncclSuccess) result = ncclCommRegister(comm, memory, 4096, &handle);
    if (result == ncclSuccess) result = ncclCommDeregister(comm, handle);
#endif
#ifdef HAS_WINDOW
    ncclWindow_t window = nullptr;
    if (result == ncclSuccess) result = ncclCommWindowRegister(comm, memory, 4096, &window, NCCL_WIN_COLL_SYMMETRIC);
    if (result == ncclSuccess) result = ncclCommWindowDeregister(comm, window);
#endif
    if (result == ncclSuccess) result = ncclMemFree(memory);
#endif
    return result;
}

int main() {
    ncclComm_t comm = nullptr;
    int version = 0, calls = 0;
    char data[8] = {0};
    ncclGetVersion(&version);
    std::printf("header=%d\nlibrary=%d\ntypes=%d\nbf16=%d\nfp8=%d\n", NCCL_VERSION_CODE, version, type_count, HAVE_BF16,
                HAVE_FP8);
    std::printf("named=%d\nmake=%d\nwindow=%d\n", (int)types_by_name.size(), make(&comm), register_window(comm));
    for (int type = 0; type < type_count; type++) {
        for (ncclRedOp_t op : all_ops) {
            if (word_size(all_types[type]) == 0) return 1;
            ncclResult_t result = ncclAllReduce(data, data, 1, all_types[type], op, comm, nullptr);
            /* It has no communicator. */
            calls += result == ncclInvalidArgument || result == ncclSuccess;
        }
    }
    std::printf("all-reduces=%d\n", calls);
    return 0;
}
