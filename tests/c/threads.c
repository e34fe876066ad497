/* Ranks of one process, a thread for each, that make communicators, use them in every way at once and give them back: for race
 * checkers.
 *
 *   threads [--ranks N] [--cycles N]
 *
 * A cycle: every thread makes its rank of a communicator, does all-reduces of several sizes, alone and in groups, on two streams,
 * and checks every element; another thread asks for errors and counters all the while. In every second cycle the last rank
 * leaves the others alone in an operation, and a thread of its own aborts them. The exit status is 0 when all was right. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../examples/cuda_driver.h"
#include "dime.h"
#include "nccl.h"

enum { MAX_RANKS = 8, MAX_COUNT = 40000 };
static const size_t counts[] = {1, 700, MAX_COUNT};
enum { N_COUNTS = sizeof counts / sizeof *counts };

static int ranks = 3, cycles = 6;
static ncclUniqueId id;
static pthread_barrier_t meeting;
static pthread_mutex_t handles = PTHREAD_MUTEX_INITIALIZER;
static ncclComm_t comms[MAX_RANKS];
static atomic_int wrong, over;

static void must(int ok, const char *what) {
    if (ok) return;
    printf("failed=%s\n", what);
    exit(1);
}

/* All ranks' sum of `rank + i % 100`. */
static void all_reduce(ncclComm_t comm, void *const *streams, int rank, device_address buffer, int grouped) {
    float *host = malloc(MAX_COUNT * sizeof *host);
    for (size_t c = 0; c < N_COUNTS; c++) {
        void *stream = streams[c % 2];
        for (size_t i = 0; i < counts[c]; i++) host[i] = (float)((size_t)rank + i % 100);
        must(!cuda.upload(buffer, host, counts[c] * sizeof *host, stream), "upload");
        void *data = (void *)(size_t)buffer;
        if (grouped) must(ncclGroupStart() == ncclSuccess, "ncclGroupStart");
        must(ncclAllReduce(data, data, counts[c], ncclFloat, ncclSum, comm, stream) == ncclSuccess, "ncclAllReduce");
        if (grouped) must(ncclGroupEnd() == ncclSuccess, "ncclGroupEnd");
        must(!cuda.download(host, buffer, counts[c] * sizeof *host, stream), "download");
        must(!cuda.wait_stream(stream), "wait");
        for (size_t i = 0; i < counts[c]; i++)
            if (host[i] != (float)((size_t)(ranks * (ranks - 1) / 2) + (size_t)ranks * (i % 100))) atomic_fetch_add(&wrong, 1);
    }
    free(host);
}

static void *rank_thread(void *argument) {
    const int rank = (int)(size_t)argument;
    void *streams[2];
    must(!open_device(rank, &streams[0]) && !open_device(rank, &streams[1]), "open_device");
    device_address buffer;
    must(!cuda.allocate(&buffer, MAX_COUNT * sizeof(float)), "allocate");
    for (int cycle = 0; cycle < cycles; cycle++) {
        if (rank == 0) must(ncclGetUniqueId(&id) == ncclSuccess, "ncclGetUniqueId");
        pthread_barrier_wait(&meeting);
        ncclComm_t comm;
        must(ncclCommInitRank(&comm, ranks, id, rank) == ncclSuccess, "ncclCommInitRank");
        all_reduce(comm, streams, rank, buffer, 0);
        all_reduce(comm, streams, rank, buffer, 1);
        pthread_mutex_lock(&handles);
        comms[rank] = comm;
        pthread_mutex_unlock(&handles);
        pthread_barrier_wait(&meeting);
        if (cycle % 2 == 1) {
            void *data = (void *)(size_t)buffer;
            if (rank != ranks - 1) ncclAllReduce(data, data, 100, ncclFloat, ncclSum, comm, streams[0]);
            pthread_barrier_wait(&meeting); /* here the aborting thread begins */
            pthread_barrier_wait(&meeting); /* here it is done */
            must(!cuda.wait_stream(streams[0]), "wait after an abort");
        } else {
            pthread_barrier_wait(&meeting);
            pthread_mutex_lock(&handles);
            comms[rank] = NULL;
            pthread_mutex_unlock(&handles);
            must(ncclCommDestroy(comm) == ncclSuccess, "ncclCommDestroy");
            pthread_barrier_wait(&meeting);
        }
    }
    return NULL;
}

static void *aborting_thread(void *unused) {
    (void)unused;
    for (int cycle = 0; cycle < cycles; cycle++) {
        pthread_barrier_wait(&meeting); /* the id is there */
        pthread_barrier_wait(&meeting); /* all communicators are in use */
        pthread_barrier_wait(&meeting); /* the last operation was begun */
        for (int rank = 0; cycle % 2 == 1 && rank < ranks; rank++) {
            pthread_mutex_lock(&handles);
            ncclComm_t comm = comms[rank];
            comms[rank] = NULL;
            pthread_mutex_unlock(&handles);
            must(ncclCommAbort(comm) == ncclSuccess, "ncclCommAbort");
        }
        pthread_barrier_wait(&meeting);
    }
    return NULL;
}

static void *asking_thread(void *unused) {
    (void)unused;
    while (!atomic_load(&over)) {
        for (int i = 0; dimeCounterName(i); i++) dimeCounterValue(i);
        pthread_mutex_lock(&handles);
        ncclResult_t state;
        for (int rank = 0; rank < ranks; rank++)
            if (comms[rank]) ncclCommGetAsyncError(comms[rank], &state);
        pthread_mutex_unlock(&handles);
        usleep(300);
    }
    return NULL;
}

int main(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--ranks") == 0) ranks = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--cycles") == 0) cycles = atoi(argv[i + 1]);
    }
    must(ranks >= 2 && ranks <= MAX_RANKS, "--ranks 2 to 8");
    must(find_cuda() && !cuda.init(0), "no CUDA driver");
    pthread_barrier_init(&meeting, NULL, (unsigned)ranks + 1);
    pthread_t threads[MAX_RANKS], aborting, asking;
    pthread_create(&aborting, NULL, aborting_thread, NULL);
    pthread_create(&asking, NULL, asking_thread, NULL);
    for (int rank = 0; rank < ranks; rank++) pthread_create(&threads[rank], NULL, rank_thread, (void *)(size_t)rank);
    for (int rank = 0; rank < ranks; rank++) pthread_join(threads[rank], NULL);
    pthread_join(aborting, NULL);
    atomic_store(&over, 1);
    pthread_join(asking, NULL);
    printf("cycles=%d\nwrong=%d\n", cycles, atomic_load(&wrong));
    return atomic_load(&wrong) != 0;
}
