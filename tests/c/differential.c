/* Everything of NCCL that works without a GPU, printed: the same program runs against a real NCCL and against
 * libdime.so in front of it, and what it prints must be the same.
 *
 *   differential LIBRARY        opens LIBRARY by its path and calls it
 *   differential                calls the library that the program is linked with (compiled with -DLINKED)
 *
 * A function that the release lacks prints "absent"; libdime.so has all of them and prints what it returns. Text that
 * names processes or addresses is not printed. */
#define _GNU_SOURCE
#include "nccl_min.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void *library;

static void *find(const char *name) {
    return dlsym(library, name);
}

/* Functions come from the library that was opened, or from the one that the program is linked with. */
#ifdef LINKED
#define NCCL(name) name
#else
#define NCCL(name) ((__typeof__(name) *)find(#name))
#endif

static void print_last_error(const char *when) {
    const char *text = NCCL(ncclGetLastError)(NULL);
    printf("last error %s: %s\n", when, text ? text : "(null)");
}

/* A call by its symbol with up to twelve words of zero: what each function makes of NULL arguments. It may not come
 * back, so it happens in a child; how the child ended is compared too. */
static void probe_with_nulls(const char *name) {
    typedef long (*words)(long, long, long, long, long, long, long, long, long, long, long, long);
    words function = (words)find(name);
    if (!function) {
        printf("%s: absent\n", name);
        return;
    }
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        int result = (int)function(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
        printf("%s: %d\n", name, result);
        fflush(NULL);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) printf("%s: signal %d\n", name, WTERMSIG(status));
    else if (WEXITSTATUS(status)) printf("%s: exit %d\n", name, WEXITSTATUS(status));
}

/* Functions returning ncclResult_t whose NULL behaviour is worth comparing. */
static const char *const with_nulls[] = {
    "ncclAllGather", "ncclAllReduce", "ncclAlltoAll", "ncclBcast", "ncclBroadcast", "ncclGather", "ncclReduce",
    "ncclReduceScatter", "ncclScatter", "ncclSend", "ncclRecv", "ncclPutSignal", "ncclSignal", "ncclWaitSignal",
    "ncclAllGatherConfig", "ncclAllReduceConfig", "ncclAlltoAllConfig", "ncclBroadcastConfig", "ncclGatherConfig",
    "ncclReduceConfig", "ncclReduceScatterConfig", "ncclScatterConfig", "ncclCommAbort", "ncclCommCount",
    "ncclCommCuDevice", "ncclCommDeregister", "ncclCommDestroy", "ncclCommFinalize", "ncclCommGetAsyncError",
    "ncclCommGetUniqueId", "ncclCommGrow", "ncclCommInitAll", "ncclCommInitRankScalable", "ncclCommMemStats",
    "ncclCommQueryProperties", "ncclCommRegister", "ncclCommResume", "ncclCommRevoke", "ncclCommShrink",
    "ncclCommSplit", "ncclCommSuspend", "ncclCommUserRank", "ncclCommWindowDeregister", "ncclCommWindowRegister",
    "ncclDevCommCreate", "ncclDevCommDestroy", "ncclGetUniqueId", "ncclGetVersion", "ncclGroupEnd",
    "ncclGroupSimulateEnd", "ncclGroupStart", "ncclMemAlloc", "ncclMemFree", "ncclParamBind", "ncclParamGet",
    "ncclParamGetAllParameterKeys", "ncclParamGetI32", "ncclParamGetParameter", "ncclParamGetStr",
    "ncclRedOpCreatePreMulSum", "ncclRedOpDestroy", "ncclSetEncryption", "ncclWinGetUserPtr",
    "ncclGetLsaDevicePointer", "ncclGetPeerDevicePointer", "ncclLLA2ACalcSlots",
};

int main(int argc, char **argv) {
#ifdef LINKED
    (void)argv;
    if (argc != 1) return 2;
    library = RTLD_DEFAULT;
#else
    library = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!library) {
        fprintf(stderr, "dlopen: %s\n", dlerror());
        return 2;
    }
#endif
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);

    int version = -1;
    int result = NCCL(ncclGetVersion)(&version);
    printf("ncclGetVersion: %d, %d\n", result, version);
    printf("ncclGetVersion(NULL): %d\n", NCCL(ncclGetVersion)(NULL));
    print_last_error("after GetVersion(NULL)");

    for (int code = -1; code <= 12; code++) printf("error %d: %s\n", code, NCCL(ncclGetErrorString)(code));
    static const int wild[] = {77, -5, 1000000, 0x7fffffff, -0x7fffffff - 1};
    for (size_t i = 0; i < sizeof wild / sizeof *wild; i++)
        printf("error %d: %s\n", wild[i], NCCL(ncclGetErrorString)(wild[i]));

    printf("ncclGroupStart: %d\n", NCCL(ncclGroupStart)());
    printf("ncclGroupStart, nested: %d\n", NCCL(ncclGroupStart)());
    printf("ncclGroupEnd, nested: %d\n", NCCL(ncclGroupEnd)());
    printf("ncclGroupEnd: %d\n", NCCL(ncclGroupEnd)());
    printf("ncclGroupEnd, unmatched: %d\n", NCCL(ncclGroupEnd)());
    print_last_error("after an unmatched GroupEnd");

    ncclUniqueId id;
    memset(&id, 0, sizeof id);
    printf("ncclGetUniqueId: %d\n", NCCL(ncclGetUniqueId)(&id));
    int nonzero = 0;
    for (size_t i = 0; i < sizeof id.internal; i++) nonzero += id.internal[i] != 0;
    printf("unique id has content: %s\n", nonzero ? "yes" : "no");
    printf("ncclGetUniqueId(NULL): %d\n", NCCL(ncclGetUniqueId)(NULL));
    print_last_error("after GetUniqueId(NULL)");

    ncclComm_t comm = NULL;
    printf("ncclCommInitRank: %d\n", NCCL(ncclCommInitRank)(&comm, 1, id, 0));
    printf("handle: %s\n", comm ? "set" : "null");
    print_last_error("after InitRank");
    comm = NULL;
    printf("ncclCommInitRank, wrong rank: %d\n", NCCL(ncclCommInitRank)(&comm, 1, id, 3));
    print_last_error("after InitRank with a wrong rank");
    printf("ncclCommInitRank(NULL): %d\n", NCCL(ncclCommInitRank)(NULL, 1, id, 0));
    int devices[2] = {0, 1};
    ncclComm_t comms[2] = {NULL, NULL};
    printf("ncclCommInitAll: %d\n", NCCL(ncclCommInitAll)(comms, 2, devices));
    print_last_error("after InitAll");
    int (*init_rank_config)(ncclComm_t *, int, ncclUniqueId, int, void *) =
        (int (*)(ncclComm_t *, int, ncclUniqueId, int, void *))find("ncclCommInitRankConfig");
    printf("ncclCommInitRankConfig, NULL config: %d\n", init_rank_config(&comm, 1, id, 0, NULL));
    print_last_error("after InitRankConfig");
    int (*mem_alloc)(void **, size_t) = (int (*)(void **, size_t))find("ncclMemAlloc");
    if (mem_alloc) {
        void *memory = NULL;
        printf("ncclMemAlloc: %d\n", mem_alloc(&memory, 4096));
        print_last_error("after MemAlloc");
    } else {
        printf("ncclMemAlloc: absent\nlast error after MemAlloc: absent\n");
    }

    float send[4] = {0}, recv[4] = {0};
    printf("ncclAllReduce, NULL comm: %d\n", NCCL(ncclAllReduce)(send, recv, 4, ncclFloat, ncclSum, NULL, NULL));
    print_last_error("after AllReduce");
    printf("ncclAllReduce, nothing to do, NULL comm: %d\n",
           NCCL(ncclAllReduce)(send, recv, 0, ncclFloat, ncclSum, NULL, NULL));
    printf("ncclGroupStart: %d\n", NCCL(ncclGroupStart)());
    printf("ncclAllReduce in a group, NULL comm: %d\n",
           NCCL(ncclAllReduce)(send, recv, 4, ncclFloat, ncclSum, NULL, NULL));
    printf("ncclGroupEnd after it: %d\n", NCCL(ncclGroupEnd)());
    print_last_error("after the group");
    printf("ncclBroadcast, NULL comm: %d\n", NCCL(ncclBroadcast)(send, recv, 4, ncclFloat, 0, NULL, NULL));
    int number = -1;
    printf("ncclCommCount, NULL comm: %d\n", NCCL(ncclCommCount)(NULL, &number));
    printf("ncclCommUserRank, NULL comm: %d\n", NCCL(ncclCommUserRank)(NULL, &number));
    printf("ncclCommCuDevice, NULL comm: %d\n", NCCL(ncclCommCuDevice)(NULL, &number));
    ncclResult_t async = -1;
    printf("ncclCommGetAsyncError, NULL comm: %d\n", NCCL(ncclCommGetAsyncError)(NULL, &async));
    print_last_error("after CommGetAsyncError");
    printf("ncclCommDestroy(NULL): %d\n", NCCL(ncclCommDestroy)(NULL));
    printf("ncclCommAbort(NULL): %d\n", NCCL(ncclCommAbort)(NULL));
    print_last_error("at the end");

    for (size_t i = 0; i < sizeof with_nulls / sizeof *with_nulls; i++) {
        char twin[80];
        snprintf(twin, sizeof twin, "p%s", with_nulls[i]);
        probe_with_nulls(with_nulls[i]);
        probe_with_nulls(twin);
    }
    fflush(NULL);
    /* An ordinary return: exit handlers of the library under test run. */
    return 7;
}
