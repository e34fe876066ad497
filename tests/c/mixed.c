/* Three ranks, a process for each. Ranks 0 and 1 use the first library, rank 2 the second:
 *
 *   mixed LIBDIME LIBNCCL
 *
 * All three do small all-reduces on one communicator, then split it into {0, 1} and {2}, and go on with the parts and the whole in turn.
 * Output: `whole=LINE` and `part=LINE`, what dimeExplain says to rank 0 of an all-reduce on each, and right=1 when every result was. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gpus.h"
#include "nccl.h"

enum { RANKS = 3, COUNT = 700, ROUNDS = 5 };

static struct {
    ncclUniqueId id;
    pthread_barrier_t all;
} *shared;

static struct {
    ncclResult_t (*get_id)(ncclUniqueId *id);
    ncclResult_t (*init)(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank);
    ncclResult_t (*split)(ncclComm_t comm, int color, int key, ncclComm_t *part, void *config);
    ncclResult_t (*all_reduce)(const void *in, void *out, size_t count, int type, int op, ncclComm_t comm, void *stream);
    ncclResult_t (*destroy)(ncclComm_t comm);
    /* Of libdime.so only. */
    ncclResult_t (*explain)(ncclComm_t comm, size_t count, int type, int op, char *text, size_t bytes);
} nccl;

static void must(int ok, const char *what) {
    if (ok) return;
    fprintf(stderr, "failed=%s\n", what);
    exit(1);
}

static void open_library(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    must(library != NULL, path);
    struct {
        const char *name;
        void *place;
    } functions[] = {
        {"ncclGetUniqueId", &nccl.get_id}, {"ncclCommInitRank", &nccl.init},     {"ncclCommSplit", &nccl.split},
        {"ncclAllReduce", &nccl.all_reduce}, {"ncclCommDestroy", &nccl.destroy}, {"dimeExplain", &nccl.explain},
    };
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *address = dlsym(library, functions[i].name);
        must(address != NULL || strncmp(functions[i].name, "nccl", 4) != 0, functions[i].name);
        memcpy(functions[i].place, &address, sizeof address);
    }
}

/* Of the ranks up to `members`. */
static void sum(int rank, int members, int round, ncclComm_t comm, device_address buffer, void *stream) {
    float host[COUNT];
    for (int i = 0; i < COUNT; i++) host[i] = (float)(rank + 1 + i % 10 + round);
    must(!cuda.upload(buffer, host, sizeof host, stream) && !cuda.wait_stream(stream), "upload");
    void *data = (void *)(size_t)buffer;
    must(nccl.all_reduce(data, data, COUNT, ncclFloat, ncclSum, comm, stream) == ncclSuccess, "ncclAllReduce");
    must(!cuda.wait_stream(stream), "cuStreamSynchronize");
    must(!cuda.download(host, buffer, sizeof host, stream) && !cuda.wait_stream(stream), "download");
    for (int i = 0; i < COUNT; i++) {
        float expected = 0;
        for (int member = rank == 2 && members == 1 ? 2 : 0, left = members; left > 0; member++, left--)
            expected += (float)(member + 1 + i % 10 + round);
        must(host[i] == expected, "a result");
    }
}

static void say(const char *name, int rank, ncclComm_t comm) {
    char text[200];
    if (rank != 0) return;
    must(nccl.explain(comm, COUNT, ncclFloat, ncclSum, text, sizeof text) == ncclSuccess, "dimeExplain");
    printf("%s=%s\n", name, text);
    fflush(stdout);
}

static void run_rank(int rank) {
    void *stream;
    device_address buffer;
    must(find_cuda() && !cuda.init(0) && !open_device(gpu_of(rank), &stream), "opening a device");
    must(!cuda.allocate(&buffer, COUNT * sizeof(float)), "cuMemAlloc");
    if (rank == 0) must(nccl.get_id(&shared->id) == ncclSuccess, "ncclGetUniqueId");
    pthread_barrier_wait(&shared->all);
    ncclComm_t whole, part;
    must(nccl.init(&whole, RANKS, shared->id, rank) == ncclSuccess, "ncclCommInitRank");
    for (int round = 0; round < ROUNDS; round++) sum(rank, RANKS, round, whole, buffer, stream);
    say("whole", rank, whole);
    must(nccl.split(whole, rank / 2, rank, &part, NULL) == ncclSuccess, "ncclCommSplit");
    for (int round = 0; round < ROUNDS; round++) {
        sum(rank, rank == 2 ? 1 : 2, round, part, buffer, stream);
        sum(rank, RANKS, round, whole, buffer, stream);
    }
    say("part", rank, part);
    must(nccl.destroy(part) == ncclSuccess && nccl.destroy(whole) == ncclSuccess, "ncclCommDestroy");
}

/* In a child: the driver must not be used before a fork. */
static int count_devices(void) {
    int status;
    const pid_t child = fork();
    if (child == 0) _exit(gpus_here());
    must(waitpid(child, &status, 0) == child && WIFEXITED(status), "counting GPUs");
    return WEXITSTATUS(status);
}

int main(int argc, char **argv) {
    enum { NOT_ENOUGH_GPUS = 77 };
    must(argc == 3, "usage: mixed LIBDIME LIBNCCL");
    const int devices = count_devices();
    if (!are_enough_for(RANKS, devices)) {
        printf("skipped=%d GPUs are needed, and there are %d\n", RANKS, devices);
        return NOT_ENOUGH_GPUS;
    }
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(shared != MAP_FAILED, "mmap");
    pthread_barrierattr_t between_processes;
    pthread_barrierattr_init(&between_processes);
    pthread_barrierattr_setpshared(&between_processes, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&shared->all, &between_processes, RANKS);
    for (int rank = 0; rank < RANKS; rank++) {
        if (fork() != 0) continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        open_library(argv[rank == 2 ? 2 : 1]);
        run_rank(rank);
        exit(0);
    }
    for (int left = RANKS, status; left > 0; left--)
        must(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0, "a rank");
    printf("right=1\n");
    return 0;
}
