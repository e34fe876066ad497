/* Situations in which a library in front of NCCL can go wrong, each with two ranks, a thread for each, and checked results.
 *
 *   semantics SITUATION
 *
 * The situations are the functions below. Prints right=1 and ends with 0 when all went as NCCL promises. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../examples/cuda_driver.h"
#include "nccl.h"

enum { RANKS = 2, COUNT = 3000, BYTES = COUNT * sizeof(float), THREAD_LOCAL_CAPTURE = 1 };

/* What the driver has beside cuda_driver.h. */
static struct {
    int (*begin_capture)(void *stream, int mode);
    int (*end_capture)(void *stream, void **graph);
    int (*instantiate)(void **executable, void *graph, unsigned long long flags);
    int (*launch)(void *executable, void *stream);
    int (*destroy_graph)(void *graph);
    int (*destroy_executable)(void *executable);
    int (*destroy_stream)(void *stream);
    int (*free_memory)(size_t *free_bytes, size_t *total_bytes);
} more;

static ncclUniqueId ids[2];
static pthread_barrier_t meeting;

static void must(int ok, const char *what) {
    if (ok) return;
    printf("failed=%s (%s)\n", what, ncclGetLastError(NULL));
    exit(1);
}

static void find_more(void) {
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    struct {
        const char *name;
        void *place;
    } functions[] = {
        {"cuStreamBeginCapture_v2", &more.begin_capture}, {"cuStreamEndCapture", &more.end_capture},
        {"cuGraphInstantiateWithFlags", &more.instantiate}, {"cuGraphLaunch", &more.launch},
        {"cuGraphDestroy", &more.destroy_graph}, {"cuGraphExecDestroy", &more.destroy_executable},
        {"cuStreamDestroy_v2", &more.destroy_stream}, {"cuMemGetInfo_v2", &more.free_memory},
    };
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *address = dlsym(driver, functions[i].name);
        must(address != NULL, functions[i].name);
        memcpy(functions[i].place, &address, sizeof address);
    }
}

/* One rank: a stream, a buffer, and what is in it. */
struct rank {
    int number;
    void *stream;
    device_address buffer;
};

static void *new_stream(void) {
    void *stream;
    must(!cuda.create_stream(&stream, 1), "cuStreamCreate");
    return stream;
}

static ncclComm_t communicator(const struct rank *rank, int which) {
    ncclComm_t comm;
    must(ncclCommInitRank(&comm, RANKS, ids[which], rank->number) == ncclSuccess, "ncclCommInitRank");
    return comm;
}

/* Element i of rank r is r + i % 50. */
static void fill(const struct rank *rank) {
    static _Thread_local float host[COUNT];
    for (int i = 0; i < COUNT; i++) host[i] = (float)(rank->number + i % 50);
    must(!cuda.upload(rank->buffer, host, BYTES, rank->stream) && !cuda.wait_stream(rank->stream), "upload");
}

static void all_reduce(const struct rank *rank, ncclComm_t comm, void *stream) {
    void *data = (void *)(size_t)rank->buffer;
    must(ncclAllReduce(data, data, COUNT, ncclFloat, ncclSum, comm, stream) == ncclSuccess, "ncclAllReduce");
}

/* After `times` all-reduces in place. */
static void check(const struct rank *rank, void *stream, int times) {
    static _Thread_local float host[COUNT];
    must(!cuda.wait_stream(stream), "cuStreamSynchronize");
    must(!cuda.download(host, rank->buffer, BYTES, rank->stream) && !cuda.wait_stream(rank->stream), "download");
    for (int i = 0; i < COUNT; i++) {
        float expected = 1.0f + 2.0f * (float)(i % 50);
        for (int again = 1; again < times; again++) expected *= RANKS;
        must(host[i] == expected, "a result");
    }
}

/* Rank 0 groups its first all-reduces on two communicators, rank 1 makes them one after the other. */
static void grouped_on_one_rank(struct rank *rank) {
    ncclComm_t comms[2] = {communicator(rank, 0), communicator(rank, 1)};
    fill(rank);
    if (rank->number == 0) must(ncclGroupStart() == ncclSuccess, "ncclGroupStart");
    for (int i = 0; i < 2; i++) all_reduce(rank, comms[i], rank->stream);
    if (rank->number == 0) must(ncclGroupEnd() == ncclSuccess, "ncclGroupEnd");
    check(rank, rank->stream, 2);
    for (int i = 0; i < 2; i++) must(ncclCommDestroy(comms[i]) == ncclSuccess, "ncclCommDestroy");
}

static size_t free_bytes(void) {
    size_t free_now, total;
    must(!more.free_memory(&free_now, &total), "cuMemGetInfo");
    return free_now;
}

/* A graph is replayed when its communicator is gone; the memory it needed goes with it. */
static void graph_outlives_communicator(struct rank *rank) {
    size_t before = 0;
    for (int round = 0; round < 3; round++) {
        pthread_barrier_wait(&meeting);
        if (rank->number == 0) must(ncclGetUniqueId(&ids[0]) == ncclSuccess, "ncclGetUniqueId");
        pthread_barrier_wait(&meeting);
        ncclComm_t comm = communicator(rank, 0);
        fill(rank);
        all_reduce(rank, comm, rank->stream);
        check(rank, rank->stream, 1);
        void *graph, *executable, *stream = new_stream();
        must(!more.begin_capture(stream, THREAD_LOCAL_CAPTURE), "cuStreamBeginCapture");
        all_reduce(rank, comm, stream);
        must(!more.end_capture(stream, &graph) && !more.instantiate(&executable, graph, 0), "making a graph");
        must(ncclCommDestroy(comm) == ncclSuccess, "ncclCommDestroy");
        must(!more.destroy_graph(graph), "cuGraphDestroy");
        fill(rank);
        for (int replay = 0; replay < 3; replay++) must(!more.launch(executable, stream), "cuGraphLaunch");
        check(rank, stream, 3);
        must(!more.destroy_executable(executable) && !more.destroy_stream(stream), "destroying");
        /* The driver tells of a graph's end a little later. */
        usleep(100000);
        /* What the round before left is given back when this one's communicator is destroyed, so rounds 1 and 2 end alike. */
        pthread_barrier_wait(&meeting);
        size_t now = free_bytes();
        must(round < 2 || now == before, "memory is given back");
        before = now;
    }
}

/* The first all-reduce on a second stream comes while the first stream is in a capture that has nothing to do with it. */
static void earlier_stream_is_captured(struct rank *rank) {
    ncclComm_t comm = communicator(rank, 0);
    void *graph, *executable, *other = new_stream();
    fill(rank);
    all_reduce(rank, comm, rank->stream);
    must(!more.begin_capture(rank->stream, THREAD_LOCAL_CAPTURE), "cuStreamBeginCapture");
    all_reduce(rank, comm, rank->stream);
    all_reduce(rank, comm, other);
    must(!more.end_capture(rank->stream, &graph), "the capture is whole");
    must(!more.instantiate(&executable, graph, 0), "cuGraphInstantiate");
    check(rank, other, 2);
    must(!more.launch(executable, rank->stream), "cuGraphLaunch");
    check(rank, rank->stream, 3);
    must(!more.destroy_executable(executable) && !more.destroy_graph(graph), "destroying");
    must(ncclCommDestroy(comm) == ncclSuccess, "ncclCommDestroy");
}

/* The stream of the last all-reduce is destroyed before the next one, on another stream, is called. */
static void last_stream_is_destroyed(struct rank *rank) {
    ncclComm_t comm = communicator(rank, 0);
    fill(rank);
    void *first = new_stream(), *second = new_stream(), *third = new_stream();
    all_reduce(rank, comm, first);
    must(!more.destroy_stream(first), "cuStreamDestroy");
    all_reduce(rank, comm, second);
    must(!more.destroy_stream(second), "cuStreamDestroy");
    all_reduce(rank, comm, third);
    check(rank, third, 3);
    must(!more.destroy_stream(third), "cuStreamDestroy");
    must(ncclCommDestroy(comm) == ncclSuccess, "ncclCommDestroy");
}

static const struct {
    const char *name;
    void (*run)(struct rank *rank);
} situations[] = {
    {"grouped-on-one-rank", grouped_on_one_rank},
    {"graph-outlives-communicator", graph_outlives_communicator},
    {"earlier-stream-is-captured", earlier_stream_is_captured},
    {"last-stream-is-destroyed", last_stream_is_destroyed},
};
static void (*situation)(struct rank *rank);

static void *run_rank(void *argument) {
    struct rank rank = {.number = (int)(size_t)argument};
    must(!open_device(rank.number, &rank.stream), "opening a device");
    must(!cuda.allocate(&rank.buffer, BYTES), "cuMemAlloc");
    situation(&rank);
    return NULL;
}

int main(int argc, char **argv) {
    for (size_t i = 0; argc == 2 && i < sizeof situations / sizeof *situations; i++)
        if (strcmp(argv[1], situations[i].name) == 0) situation = situations[i].run;
    must(situation != NULL, "usage: semantics SITUATION");
    must(find_cuda() && !cuda.init(0), "no CUDA driver");
    find_more();
    for (int i = 0; i < 2; i++) must(ncclGetUniqueId(&ids[i]) == ncclSuccess, "ncclGetUniqueId");
    pthread_barrier_init(&meeting, NULL, RANKS);
    pthread_t threads[RANKS];
    for (int i = 0; i < RANKS; i++) pthread_create(&threads[i], NULL, run_rank, (void *)(size_t)i);
    for (int i = 0; i < RANKS; i++) pthread_join(threads[i], NULL);
    printf("right=1\n");
    return 0;
}
