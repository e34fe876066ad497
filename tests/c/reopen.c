/* Opens a NCCL, uses it, closes it as often as it was opened and more, with a communicator alive and a thread in it, and opens it again.
 *
 *   reopen LIBRARY
 *
 * Prints right=1 and ends with 0 when all went well, or says what did not and ends with 1. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../examples/cuda_driver.h"
#include "nccl.h"

enum { RANKS = 2, COUNT = 1000, ROUNDS = 3 };

#define MUST(condition) must((condition), #condition, __LINE__)

static void must(int ok, const char *what, int line) {
    if (ok) return;
    printf("failed=reopen.c:%d: %s\n", line, what);
    fflush(stdout);
    _exit(1);
}

/* What is used of the library, looked up anew each time. */
static struct {
    ncclResult_t (*init_all)(ncclComm_t *comms, int count, const int *devices);
    ncclResult_t (*all_reduce)(const void *, void *, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t, void *stream);
    ncclResult_t (*async_error)(ncclComm_t, ncclResult_t *);
    ncclResult_t (*group_start)(void);
    ncclResult_t (*group_end)(void);
    ncclResult_t (*destroy)(ncclComm_t);
    ncclResult_t (*explain)(ncclComm_t, size_t, ncclDataType_t, ncclRedOp_t, char *, size_t);
} nccl;

static void *open_library(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    MUST(library != NULL);
    const struct {
        const char *name;
        void *place;
    } functions[] = {
        {"ncclCommInitAll", &nccl.init_all},       {"ncclAllReduce", &nccl.all_reduce},
        {"ncclCommGetAsyncError", &nccl.async_error}, {"ncclGroupStart", &nccl.group_start},
        {"ncclGroupEnd", &nccl.group_end},         {"ncclCommDestroy", &nccl.destroy},
        {"dimeExplain", &nccl.explain},
    };
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *address = dlsym(library, functions[i].name);
        MUST(address != NULL);
        memcpy(functions[i].place, &address, sizeof address);
    }
    return library;
}

static struct rank {
    void *stream;
    device_address buffer;
    ncclComm_t comm;
} ranks[RANKS];

static void use(int rank) {
    void *context;
    MUST(!cuda.retain_context(&context, rank) && !cuda.set_context(context));
}

static void fill(int rank) {
    static float host[COUNT];
    for (int i = 0; i < COUNT; i++) host[i] = (float)(rank + i);
    use(rank);
    MUST(!cuda.upload(ranks[rank].buffer, host, sizeof host, ranks[rank].stream));
    MUST(!cuda.wait_stream(ranks[rank].stream));
}

static void all_reduce(int rank) {
    void *data = (void *)(size_t)ranks[rank].buffer;
    use(rank);
    MUST(nccl.all_reduce(data, data, COUNT, ncclFloat, ncclSum, ranks[rank].comm, ranks[rank].stream) == ncclSuccess);
}

static void check(void) {
    static float host[COUNT];
    for (int rank = 0; rank < RANKS; rank++) {
        use(rank);
        MUST(!cuda.download(host, ranks[rank].buffer, sizeof host, ranks[rank].stream));
        MUST(!cuda.wait_stream(ranks[rank].stream));
        for (int i = 0; i < COUNT; i++) MUST(host[i] == (float)(2 * i + 1));
    }
}

static atomic_int is_over;

/* A thread inside of the library, again and again. */
static void *ask(void *comm) {
    ncclResult_t state;
    while (!atomic_load(&is_over)) MUST(nccl.async_error(comm, &state) == ncclSuccess && state == ncclSuccess);
    return NULL;
}

int main(int argc, char **argv) {
    MUST(argc == 2 && find_cuda() && !cuda.init(0));
    for (int rank = 0; rank < RANKS; rank++)
        MUST(!open_device(rank, &ranks[rank].stream) && !cuda.allocate(&ranks[rank].buffer, COUNT * sizeof(float)));
    for (int round = 0; round < ROUNDS; round++) {
        void *library = open_library(argv[1]);
        ncclComm_t comms[RANKS];
        char text[160];
        MUST(nccl.init_all(comms, RANKS, NULL) == ncclSuccess);
        for (int rank = 0; rank < RANKS; rank++) {
            ranks[rank].comm = comms[rank];
            fill(rank);
        }
        MUST(nccl.group_start() == ncclSuccess);
        for (int rank = 0; rank < RANKS; rank++) all_reduce(rank);
        MUST(nccl.group_end() == ncclSuccess);
        check();
        MUST(nccl.explain(comms[0], COUNT, ncclFloat, ncclSum, text, sizeof text) == ncclSuccess);
        MUST(strncmp(text, "fast: ", 6) == 0);

        /* A kernel spins, a thread is inside, and the library is closed, more often than it was opened in this round. */
        for (int rank = 0; rank < RANKS; rank++) fill(rank);
        all_reduce(0);
        pthread_t thread;
        atomic_store(&is_over, 0);
        MUST(!pthread_create(&thread, NULL, ask, comms[0]));
        usleep(10000);
        MUST(!dlclose(library));
        (void)dlclose(library);
        usleep(10000);
        MUST(dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD) != NULL);
        void *again = open_library(argv[1]);
        MUST(again == library);
        all_reduce(1);
        check();
        atomic_store(&is_over, 1);
        MUST(!pthread_join(thread, NULL));
        for (int rank = 0; rank < RANKS; rank++) MUST(nccl.destroy(comms[rank]) == ncclSuccess);
        MUST(!dlclose(again));
    }
    printf("right=1\n");
    return 0;
}
