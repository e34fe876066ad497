/* A program as applications write it, in the common part of C and C++: tests include this file after some nccl.h, ours
 * or NVIDIA's, and link the result with a libnccl.so.2. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NCCLCHECK(call)                                                                             \
    do {                                                                                            \
        ncclResult_t result_ = (call);                                                              \
        if (result_ != ncclSuccess) {                                                               \
            printf("failed: %s:%d '%s'\n", __FILE__, __LINE__, ncclGetErrorString(result_));        \
            exit(1);                                                                                \
        }                                                                                           \
    } while (0)

static size_t size_of_type(ncclDataType_t type) {
    switch (type) {
        case ncclInt8: case ncclUint8: return 1;
        case ncclHalf: case ncclBfloat16: return 2;
        case ncclInt32: case ncclUint32: case ncclFloat32: return 4;
        case ncclInt64: case ncclUint64: case ncclDouble: return 8;
        default: return 0;
    }
}

static ncclResult_t all_reduce_if_any(const void *send, void *recv, size_t count, ncclComm_t comm, cudaStream_t stream) {
    if (comm == NULL) return ncclInvalidArgument;
    return ncclAllReduce(send, recv, count, ncclFloat, ncclSum, comm, stream);
}

int main(void) {
    int version = 0;
    ncclUniqueId id;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclComm_t comm = NULL;
    ncclResult_t async = ncclSuccess;
    ncclDataType_t types[] = {ncclChar, ncclInt, ncclFloat16, ncclFloat, ncclFloat64};
    size_t bytes = 0, i;

    config.blocking = 1;
    memset(&id, 0, sizeof(id));
    for (i = 0; i < sizeof(types) / sizeof(types[0]); i++) bytes += size_of_type(types[i]);
    NCCLCHECK(ncclGetVersion(&version));
    NCCLCHECK(ncclGetUniqueId(&id));
    NCCLCHECK(ncclGroupStart());
    NCCLCHECK(ncclGroupEnd());
    NCCLCHECK(ncclCommInitRankConfig(&comm, 1, id, 0, &config));
    NCCLCHECK(pncclCommGetAsyncError(comm, &async));
    NCCLCHECK(ncclCommDestroy(comm));
    printf("version=%d\n", version);
    printf("header-is-at-least-2.14=%d\n", NCCL_VERSION_CODE >= NCCL_VERSION(2, 14, 3));
    printf("bytes=%d\n", (int)bytes);
    printf("all-reduce=%d\n", (int)all_reduce_if_any(&version, &version, 1, NULL, NULL));
    printf("error=%s\n", ncclGetErrorString(ncclInvalidUsage));
    printf("last-error=%s\n", ncclGetLastError(comm));
    printf("end=reached\n");
    return 0;
}
