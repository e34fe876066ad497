/* Communicators of one process, with and without all-reduces, and ways to go on, in the order of the arguments.
 *
 *   unused ACTION...
 *
 *   make N              communicators of N ranks, on the devices 0 to N-1, by ncclCommInitAll
 *   split N             each is split into parts of N ranks, which take its place, by ncclCommSplit in a group
 *   all-reduce          one of 64 bytes on all ranks
 *   all-reduce-config   the same by ncclAllReduceConfig, which may be missing
 *   all-gather          another collective on all ranks
 *   fork                the actions behind it up to `join` are a child's, which ends by exit
 *   join                the end of the child's actions; the parent waits for it
 *   _exit               ends the process without exit
 *   kill                ends it by SIGTERM
 *
 * Ends with 0 when all calls were right. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define DIME_NCCL_API 23203
#include "../../examples/cuda_driver.h"
#include "nccl.h"

enum { MAX_RANKS = 16, COUNT = 16 };

static int ranks;
static ncclComm_t comms[MAX_RANKS];
static void *streams[MAX_RANKS];
static device_address buffers[MAX_RANKS];

static void must(int ok, const char *what) {
    if (ok) return;
    fprintf(stderr, "failed: %s\n", what);
    exit(2);
}

static void make(int count) {
    ranks = count;
    must(count <= MAX_RANKS && find_cuda() && !cuda.init(0), "cuInit");
    for (int i = 0; i < ranks; i++)
        must(!open_device(i, &streams[i]) && !cuda.allocate(&buffers[i], MAX_RANKS * COUNT * sizeof(float)), "a device");
    must(!ncclCommInitAll(comms, ranks, NULL), "ncclCommInitAll");
}

static void split(int part) {
    ncclComm_t parts[MAX_RANKS];
    must(!ncclGroupStart(), "ncclGroupStart");
    for (int i = 0; i < ranks; i++) must(!ncclCommSplit(comms[i], i / part, i, &parts[i], NULL), "ncclCommSplit");
    must(!ncclGroupEnd(), "ncclGroupEnd");
    memcpy(comms, parts, sizeof comms);
}

static void collect(const char *action) {
    must(!ncclGroupStart(), "ncclGroupStart");
    for (int i = 0; i < ranks; i++) {
        void *buffer = (void *)(size_t)buffers[i];
        if (!strcmp(action, "all-gather")) {
            must(!ncclAllGather(buffer, buffer, 1, ncclFloat, comms[i], streams[i]), action);
        } else if (!strcmp(action, "all-reduce")) {
            must(!ncclAllReduce(buffer, buffer, COUNT, ncclFloat, ncclSum, comms[i], streams[i]), action);
        } else {
            ncclAllReduceConfig(buffer, buffer, COUNT, ncclFloat, ncclSum, comms[i], streams[i], NULL);
        }
    }
    ncclGroupEnd();
    for (int i = 0; i < ranks; i++) must(!cuda.wait_stream(streams[i]), "cuStreamSynchronize");
}

/* Returns where the parent goes on. A child does not return. */
static int do_fork(int argc, char **argv, int at, int (*act)(int, char **, int)) {
    pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        while (at < argc && strcmp(argv[at], "join")) at = act(argc, argv, at);
        exit(0);
    }
    int status;
    must(waitpid(child, &status, 0) == child && status == 0, "the child");
    while (at < argc && strcmp(argv[at], "join")) at++;
    return at + 1;
}

/* Does the action at `at`; returns where the next one is. */
static int act(int argc, char **argv, int at) {
    const char *action = argv[at++];
    if (!strcmp(action, "make") && at < argc) make(atoi(argv[at++]));
    else if (!strcmp(action, "split") && at < argc) split(atoi(argv[at++]));
    else if (!strncmp(action, "all-", 4)) collect(action);
    else if (!strcmp(action, "fork")) at = do_fork(argc, argv, at, act);
    else if (!strcmp(action, "_exit")) _exit(0);
    else if (!strcmp(action, "kill")) raise(SIGTERM);
    else must(0, "an action that is known");
    return at;
}

int main(int argc, char **argv) {
    for (int at = 1; at < argc;) at = act(argc, argv, at);
    return 0;
}
