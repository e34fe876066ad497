/* What the programs of situations stand on: ranks as threads or processes, buffers whose elements tell rank, place and step, and
 * whether libdime.so did an all-reduce itself.
 *
 *   PROGRAM SITUATION
 *
 * Prints right=1 and ends with 0 when all went as NCCL promises, or says what did not and ends with 1. On a machine with too
 * few GPUs it says so and ends with NOT_ENOUGH_GPUS, with a NCCL that lacks what it needs with NCCL_TOO_OLD. Rank i runs on GPU i
 * (gpus.h), unless a situation says otherwise. With DIME_DISABLE=1 it shows what NCCL alone makes of the situation; with
 * DISABLED_RANK=N, what becomes of it when that holds for rank N only. */
#ifndef SITUATION_H
#define SITUATION_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Functions that nccl.h declares only when it is asked to. */
#define DIME_NCCL_API 23203
#include "dime.h"
#include "gpus.h"
#include "nccl.h"

enum { MAX_RANKS = 8, NOT_ENOUGH_GPUS = 77, NCCL_TOO_OLD = 78 };
/* Elements of an all-reduce that is fast, and of one that is above the threshold that these programs set. */
enum { SMALL = 3000, LARGE = 20000, THRESHOLD_BYTES = 64 << 10 };

#define MUST(condition) must((condition), #condition, __FILE__, __LINE__)
#define NCCL(call) must_give(ncclSuccess, (call), #call, __FILE__, __LINE__)
/* A call that must be refused. */
#define GIVES(code, call) must_give((code), (call), #call, __FILE__, __LINE__)

static inline void must(int ok, const char *what, const char *file, int line) {
    if (ok) return;
    printf("failed=%s:%d: %s (%s)\n", file, line, what, ncclGetLastError(NULL));
    fflush(stdout);
    _exit(1);
}

static inline void must_give(int code, int given, const char *what, const char *file, int line) {
    if (given == code) return;
    printf("failed=%s:%d: %s gave %d, not %d (%s)\n", file, line, what, given, code, ncclGetLastError(NULL));
    fflush(stdout);
    _exit(1);
}

/* What the driver has beside cuda_driver.h. */
static struct {
    int (*query_stream)(void *stream);
    int (*destroy_stream)(void *stream);
    int (*create_stream_of_priority)(void **stream, unsigned flags, int priority);
    int (*create_event)(void **event, unsigned flags);
    int (*destroy_event)(void *event);
    int (*record)(void *event, void *stream);
    int (*await)(void *stream, void *event, unsigned flags);
    int (*call_host)(void *stream, void (*function)(void *), void *argument);
    int (*begin_capture)(void *stream, int mode);
    int (*end_capture)(void *stream, void **graph);
    int (*instantiate)(void **executable, void *graph, unsigned long long flags);
    int (*update)(void *executable, void *graph, void *info);
    int (*launch)(void *executable, void *stream);
    int (*destroy_graph)(void *graph);
    int (*destroy_executable)(void *executable);
    int (*free)(device_address address);
    int (*free_memory)(size_t *free_bytes, size_t *total_bytes);
    int (*release_context)(int device);
} more_cuda;

/* What all ranks share, also those in other processes. */
static struct shared {
    pthread_barrier_t all;
    ncclUniqueId ids[16];
    int verdict;
} *shared;

static inline void meet(void) {
    pthread_barrier_wait(&shared->all);
}

/* One rank of a situation. */
struct rank {
    int number, ranks;
    void *stream;
    device_address buffer;
};

static inline struct rank open_rank(int number, int ranks) {
    struct rank rank = {.number = number, .ranks = ranks};
    MUST(!open_device(gpu_of(number), &rank.stream));
    MUST(!cuda.allocate(&rank.buffer, LARGE * sizeof(float)));
    return rank;
}

/* Makes the rank's GPU the thread's current one: for threads that have several. */
static inline void use(const struct rank *rank) {
    void *context;
    MUST(!cuda.retain_context(&context, gpu_of(rank->number)) && !cuda.set_context(context));
}

/* Makes the first `count` ids; all ranks call it. */
static inline void agree_on_ids(const struct rank *rank, int count) {
    meet();
    for (int i = 0; rank->number == 0 && i < count; i++) NCCL(ncclGetUniqueId(&shared->ids[i]));
    meet();
}

/* A communicator of all ranks; all call it. */
static inline ncclComm_t communicator_of_all(const struct rank *rank) {
    ncclComm_t comm;
    agree_on_ids(rank, 1);
    NCCL(ncclCommInitRank(&comm, rank->ranks, shared->ids[0], rank->number));
    return comm;
}

/* What a rank contributes: small whole numbers, so sums are exact. */
static inline float value_of(int rank, int step, int index) {
    return (float)(5 * rank + 3 * (step % 17) + index % 23);
}

/* A mask of ranks: rank i is bit i. */
static inline int has(int members, int rank) {
    return members >> rank & 1;
}

static inline float sum_of(int members, int step, int index) {
    float sum = 0;
    for (int rank = 0; rank < MAX_RANKS; rank++)
        if (has(members, rank)) sum += value_of(rank, step, index);
    return sum;
}

static inline int everybody(const struct rank *rank) {
    return (1 << rank->ranks) - 1;
}

static inline void fill(const struct rank *rank, int step, int count) {
    static _Thread_local float host[LARGE];
    for (int i = 0; i < count; i++) host[i] = value_of(rank->number, step, i);
    MUST(!cuda.upload(rank->buffer, host, (size_t)count * sizeof *host, rank->stream));
    MUST(!cuda.wait_stream(rank->stream));
}

/* Waits for the stream. The buffer holds the sum of the members' contributions, `times` times over. */
static inline void check_times(const struct rank *rank, int members, int step, int count, float times) {
    static _Thread_local float host[LARGE];
    /* A copy to pageable memory may keep other threads out of the driver while it waits. */
    MUST(!cuda.wait_stream(rank->stream));
    MUST(!cuda.download(host, rank->buffer, (size_t)count * sizeof *host, rank->stream));
    MUST(!cuda.wait_stream(rank->stream));
    for (int i = 0; i < count; i++) {
        const float expected = times * sum_of(members, step, i);
        if (host[i] == expected) continue;
        printf("failed=rank %d, step %d, element %d of %d: %g, not %g\n", rank->number, step, i, count, host[i], expected);
        fflush(stdout);
        _exit(1);
    }
}

static inline void check(const struct rank *rank, int members, int step, int count) {
    check_times(rank, members, step, count, 1);
}

/* All-reduces of this process that must have been fast, and forwarded. */
static atomic_ullong expected_fast, expected_forwarded;

/* What libdime.so counted of the two. */
static inline void counted(unsigned long long *fast, unsigned long long *forwarded) {
    *fast = *forwarded = 0;
    for (int i = 0; dimeCounterName(i); i++)
        *(strncmp(dimeCounterName(i), "forward_", 8) == 0 ? forwarded : fast) += dimeCounterValue(i);
}

static inline void check_counters(void) {
    unsigned long long fast, forwarded;
    counted(&fast, &forwarded);
    if (fast == expected_fast && forwarded == expected_forwarded) return;
    printf("failed=%llu all-reduces were fast and %llu forwarded, not %llu and %llu\n", fast, forwarded,
           (unsigned long long)expected_fast, (unsigned long long)expected_forwarded);
    fflush(stdout);
    _exit(1);
}

/* The one rank that has DIME_DISABLE=1, of a situation in processes. -1: there is none. */
static inline int disabled_rank(void) {
    const char *rank = getenv("DISABLED_RANK");
    return rank ? atoi(rank) : -1;
}

/* Whether NCCL is to do all, as if libdime.so were not there: then what NCCL itself does in a situation can be seen. */
static inline int is_nccl_alone(void) {
    const char *disable = getenv("DIME_DISABLE");
    return disabled_rank() >= 0 || (disable && strcmp(disable, "1") == 0);
}

/* What libdime.so says that an all-reduce of so many elements does begins like this. */
static inline void must_be(const char *what, ncclComm_t comm, int count) {
    char text[160];
    if (is_nccl_alone()) return;
    NCCL(dimeExplain(comm, (size_t)count, ncclFloat, ncclSum, text, sizeof text));
    if (strncmp(text, what, strlen(what)) == 0) return;
    printf("failed=an all-reduce of %d elements is %s, not %s\n", count, text, what);
    fflush(stdout);
    _exit(1);
}

/* Waits until a communicator that is not blocking is ready. Returns its state. */
static inline ncclResult_t await(ncclComm_t comm) {
    ncclResult_t state = ncclInProgress;
    while (state == ncclInProgress) {
        NCCL(ncclCommGetAsyncError(comm, &state));
        if (state == ncclInProgress) usleep(100);
    }
    return state;
}

/* The largest message that is fast. */
static inline size_t threshold_bytes(void) {
    return (size_t)atoll(getenv("DIME_THRESHOLD_BYTES"));
}

/* In place, of floats, on the rank's stream; counted as what it must be on a communicator of so many ranks. */
static inline ncclResult_t all_reduce_of(const struct rank *rank, ncclComm_t comm, int comm_ranks, int count) {
    void *data = (void *)(size_t)rank->buffer;
    const int is_fast = comm_ranks > 1 && (size_t)count * sizeof(float) <= threshold_bytes();
    atomic_fetch_add(is_fast ? &expected_fast : &expected_forwarded, 1);
    return ncclAllReduce(data, data, (size_t)count, ncclFloat, ncclSum, comm, rank->stream);
}

static inline void all_reduce(const struct rank *rank, ncclComm_t comm, int members, int count) {
    const ncclResult_t result = all_reduce_of(rank, comm, __builtin_popcount((unsigned)members), count);
    GIVES(ncclSuccess, result == ncclInProgress ? await(comm) : result);
}

/* A whole all-reduce, with check. */
static inline void sum(const struct rank *rank, ncclComm_t comm, int members, int step, int count) {
    fill(rank, step, count);
    all_reduce(rank, comm, members, count);
    check(rank, members, step, count);
}

/* A communicator is right, in both ways. */
static inline void try_out(const struct rank *rank, ncclComm_t comm, int members, int step) {
    sum(rank, comm, members, step, SMALL);
    sum(rank, comm, members, step + 1, LARGE);
    must_be(__builtin_popcount((unsigned)members) > 1 ? "fast: " : "forward: ", comm, SMALL);
    must_be("forward: ", comm, LARGE);
}

/* Where ranks run. ONE_THREAD: the function is called once, for rank 0, and opens the others itself. */
enum way { THREADS, PROCESSES, ONE_THREAD };

struct situation {
    const char *name;
    void (*run)(struct rank *rank);
    enum way way;
    int ranks;
    /* Which all-reduces were fast cannot be told beforehand, or was checked on the way. */
    int uncounted;
    /* The NCCL that has what it needs, as ncclGetVersion tells it. */
    int since;
    /* Ranks must not share GPUs: as threads they would share a context, and with it the default stream, the one thread that calls their
     * host functions, and all that waits for a whole context. NCCL alone does not come to an end then either. */
    int own_gpus;
    /* The ranks that are killed, as a mask; of processes only. */
    int killed;
    /* What is in the environment, as for putenv. */
    const char *environment[3];
};

static const struct situation *current;

static inline void *run_rank(void *number) {
    struct rank rank = open_rank((int)(size_t)number, current->ranks);
    current->run(&rank);
    return NULL;
}

static inline void find_driver(void) {
    MUST(find_cuda() && !cuda.init(0));
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    const struct {
        const char *name;
        void *place;
    } functions[] = {
        {"cuStreamQuery", &more_cuda.query_stream},
        {"cuStreamDestroy_v2", &more_cuda.destroy_stream},
        {"cuStreamCreateWithPriority", &more_cuda.create_stream_of_priority},
        {"cuEventCreate", &more_cuda.create_event},
        {"cuEventDestroy_v2", &more_cuda.destroy_event},
        {"cuEventRecord", &more_cuda.record},
        {"cuStreamWaitEvent", &more_cuda.await},
        {"cuLaunchHostFunc", &more_cuda.call_host},
        {"cuStreamBeginCapture_v2", &more_cuda.begin_capture},
        {"cuStreamEndCapture", &more_cuda.end_capture},
        {"cuGraphInstantiateWithFlags", &more_cuda.instantiate},
        {"cuGraphExecUpdate_v2", &more_cuda.update},
        {"cuGraphLaunch", &more_cuda.launch},
        {"cuGraphDestroy", &more_cuda.destroy_graph},
        {"cuGraphExecDestroy", &more_cuda.destroy_executable},
        {"cuMemFree_v2", &more_cuda.free},
        {"cuMemGetInfo_v2", &more_cuda.free_memory},
        {"cuDevicePrimaryCtxRelease_v2", &more_cuda.release_context},
    };
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *address = dlsym(driver, functions[i].name);
        MUST(address != NULL);
        memcpy(functions[i].place, &address, sizeof address);
    }
}

static inline void run_threads(int count) {
    pthread_t threads[MAX_RANKS];
    for (int i = 0; i < count; i++) MUST(!pthread_create(&threads[i], NULL, run_rank, (void *)(size_t)i));
    for (int i = 0; i < count; i++) MUST(!pthread_join(threads[i], NULL));
}

/* Runs `body` in a child and returns its exit status: the driver must not be used before a fork. */
static inline pid_t start(void (*body)(int), int argument) {
    const pid_t child = fork();
    MUST(child >= 0);
    if (child) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    body(argument);
    fflush(stdout);
    _exit(0);
}

/* Of a child that has ended: its exit status, or what a shell makes of the signal that ended it. */
static inline int exit_status(pid_t child) {
    int status;
    MUST(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* A child that must have ended well. */
static inline void must_end_well(pid_t child, const char *what, const char *file, int line) {
    must_give(0, exit_status(child), what, file, line);
}

#define ENDS_WELL(child) must_end_well((child), #child, __FILE__, __LINE__)

static inline void count_devices(int needed) {
    const int gpus = gpus_here();
    if (current && current->own_gpus ? gpus >= needed : are_enough_for(needed, gpus)) return;
    printf("skipped=%d GPUs are needed, and there are %d\n", needed, gpus);
    fflush(stdout);
    _exit(NOT_ENOUGH_GPUS);
}

static inline void run_here(int first) {
    if (first == disabled_rank()) setenv("DIME_DISABLE", "1", 1);
    find_driver();
    if (current->way == THREADS) {
        run_threads(current->ranks);
    } else {
        run_rank((void *)(size_t)first);
    }
    if (!current->uncounted && !is_nccl_alone()) check_counters();
}

/* Runs `body` in so many processes. 0: all ended well. */
static inline int run_each(int count, void (*body)(int)) {
    pid_t children[MAX_RANKS];
    for (int i = 0; i < count; i++) children[i] = start(body, i);
    int worst = 0;
    for (int left = count; left > 0; left--) {
        int status;
        const pid_t ended = wait(&status);
        MUST(ended > 0);
        int index = 0;
        while (children[index] != ended) index++;
        children[index] = 0;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && current && has(current->killed, index)) continue;
        /* The others wait for it in vain. */
        for (int i = 0; !worst && i < count; i++)
            if (children[i]) kill(children[i], SIGKILL);
        worst = WIFEXITED(status) && WEXITSTATUS(status) == NOT_ENOUGH_GPUS ? NOT_ENOUGH_GPUS : 1;
    }
    return worst;
}

/* Before the first call of NCCL. */
static inline void set_threshold(void) {
    char threshold[16];
    snprintf(threshold, sizeof threshold, "%d", THRESHOLD_BYTES);
    setenv("DIME_THRESHOLD_BYTES", threshold, 1);
}

/* What the ranks share, so many at its barrier. */
static inline void share(int parties) {
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(shared != MAP_FAILED);
    pthread_barrierattr_t between_processes;
    MUST(!pthread_barrierattr_init(&between_processes));
    MUST(!pthread_barrierattr_setpshared(&between_processes, PTHREAD_PROCESS_SHARED));
    MUST(!pthread_barrier_init(&shared->all, &between_processes, (unsigned)parties));
}

static inline int run_situation(int argc, char **argv, const struct situation *situations, size_t count) {
    for (size_t i = 0; argc == 2 && i < count; i++)
        if (strcmp(argv[1], situations[i].name) == 0) current = &situations[i];
    if (!current) {
        fprintf(stderr, "usage: %s SITUATION, one of\n", argv[0]);
        for (size_t i = 0; i < count; i++) fprintf(stderr, "  %s\n", situations[i].name);
        return 2;
    }
    set_threshold();
    for (int i = 0; i < 3 && current->environment[i]; i++) MUST(!putenv((char *)(size_t)current->environment[i]));
    const int enough = exit_status(start(count_devices, current->ranks));
    if (enough != 0) return enough;
    int version = 0;
    NCCL(ncclGetVersion(&version));
    if (version < current->since) {
        printf("skipped=NCCL %d is needed, and this is %d\n", current->since, version);
        return NCCL_TOO_OLD;
    }
    share(current->way == ONE_THREAD ? 1 : current->ranks);
    if (current->way == PROCESSES) {
        const int worst = run_each(current->ranks, run_here);
        if (worst) return worst;
    } else {
        run_here(0);
    }
    printf("right=1\n");
    return 0;
}

#endif
