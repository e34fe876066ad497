/* The calls whose cost is measured: ones that applications make often, with few and many arguments, with a struct by
 * value, and with arguments on the stack. Each is a loop in a function of its own, so that a profiler can tell them
 * apart. */
#ifndef DIME_TESTS_FORWARDED_CALLS_H
#define DIME_TESTS_FORWARDED_CALLS_H

#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

struct team {
    int rank_count, rank, stride;
};

static int (*p_count)(void *, int *);
static int (*p_async)(void *, int *);
static int (*p_broadcast)(void *, void *, size_t, int, int, void *, void *);
static int (*p_all_reduce)(void *, void *, size_t, int, int, void *, void *);
static int (*p_all_reduce_config)(void *, void *, size_t, int, int, void *, void *, void *);
static int (*p_send)(void *, size_t, int, int, void *, void *);
static int (*p_group_start)(void);
static int (*p_group_end)(void);
static int (*p_team_rank)(void *, struct team, int);

static char memory[4096];
static struct team team = {8, 3, 1};

#define LOOP(name, statement)                                        \
    static __attribute__((noinline)) void loop_##name(long times) { \
        for (long i = 0; i < times; i++) {                           \
            statement;                                               \
        }                                                            \
    }

LOOP(ncclCommCount, p_count(memory, (int *)(memory + 64)))
LOOP(ncclCommGetAsyncError, p_async(memory, (int *)(memory + 64)))
LOOP(ncclBroadcast, p_broadcast(memory, memory + 64, 7, 7, 1, memory + 128, memory + 192))
LOOP(ncclAllReduce, p_all_reduce(memory, memory + 64, 7, 7, 0, memory + 128, memory + 192))
LOOP(ncclAllReduceConfig, p_all_reduce_config(memory, memory + 64, 7, 7, 0, memory + 128, memory + 192, NULL))
LOOP(ncclSend, p_send(memory, 7, 7, 1, memory + 128, memory + 192))
LOOP(ncclGroupStart, p_group_start(); p_group_end())
LOOP(ncclTeamRankToWorld, p_team_rank(memory, team, 2))

static const struct forwarded_call {
    const char *name;
    void (*loop)(long times);
    int calls_each_time;
} forwarded_calls[] = {
    {"ncclCommCount", loop_ncclCommCount, 1},
    {"ncclCommGetAsyncError", loop_ncclCommGetAsyncError, 1},
    {"ncclBroadcast", loop_ncclBroadcast, 1},
    {"ncclAllReduce", loop_ncclAllReduce, 1},
    {"ncclAllReduceConfig", loop_ncclAllReduceConfig, 1},
    {"ncclSend", loop_ncclSend, 1},
    {"ncclGroupStart", loop_ncclGroupStart, 2},
    {"ncclTeamRankToWorld", loop_ncclTeamRankToWorld, 1},
};

enum { FORWARDED_CALLS = sizeof forwarded_calls / sizeof forwarded_calls[0] };

static void *find_or_exit(void *library, const char *name) {
    void *symbol = dlsym(library, name);
    if (!symbol) {
        fprintf(stderr, "dlsym: %s\n", dlerror());
        exit(2);
    }
    return symbol;
}

/* Opens the library and makes each call a few times, so that everything that happens only once has happened. */
static void open_and_warm_up(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "dlopen: %s\n", dlerror());
        exit(2);
    }
    p_count = (int (*)(void *, int *))find_or_exit(library, "ncclCommCount");
    p_async = (int (*)(void *, int *))find_or_exit(library, "ncclCommGetAsyncError");
    p_broadcast = (int (*)(void *, void *, size_t, int, int, void *, void *))find_or_exit(library, "ncclBroadcast");
    p_all_reduce = (int (*)(void *, void *, size_t, int, int, void *, void *))find_or_exit(library, "ncclAllReduce");
    p_all_reduce_config = (int (*)(void *, void *, size_t, int, int, void *, void *, void *))find_or_exit(
        library, "ncclAllReduceConfig");
    p_send = (int (*)(void *, size_t, int, int, void *, void *))find_or_exit(library, "ncclSend");
    p_group_start = (int (*)(void))find_or_exit(library, "ncclGroupStart");
    p_group_end = (int (*)(void))find_or_exit(library, "ncclGroupEnd");
    p_team_rank = (int (*)(void *, struct team, int))find_or_exit(library, "ncclTeamRankToWorld");
    for (int i = 0; i < FORWARDED_CALLS; i++) forwarded_calls[i].loop(8);
}

#endif
