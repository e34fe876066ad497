/* Several communicators of a process are aborted while some of them wait for a rank that is lost: in one group, as NCCL asks for and
 * PyTorch does, and one after the other. Nothing that the abort of one does may wait for the kernels of another.
 *
 * HOW-COUNT-WHAT: so many communicators are aborted in-a-group or one-by-one, of which, of ours unless "forwarded",
 *   all-spin                 each on a stream of its own
 *   all-spin-on-one-stream   one behind the other, on one stream
 *   first-is-idle            all but the first, which was used before
 *   last-is-idle             all but the last
 *   forwarded-spin           each, in all-reduces that NCCL does
 *   kinds-alternate          each, every second one in all-reduces that NCCL does
 *
 * Usage and outcome are in situation.h. */
#define _GNU_SOURCE
#include <time.h>

#include "situation.h"

/* An abort takes milliseconds, and more on simulated GPUs that share few processors with other programs. Who hangs is ended well before the
 * limit of a test. */
enum { ENDING_LIMIT_MS = 15000, HANG_LIMIT_S = 40, MOST = 8 };

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

static int is_named(const char *part) {
    return strstr(current->name, part) != NULL;
}

static size_t device_memory_in_use(void) {
    size_t free_bytes, total_bytes;
    MUST(!more_cuda.free_memory(&free_bytes, &total_bytes));
    return total_bytes - free_bytes;
}

/* What one rank has of each communicator. */
struct in_use {
    int count;
    ncclComm_t comms[MOST];
    /* As `me`, with another stream and buffer. */
    struct rank lanes[MOST];
};

static struct in_use open_all(const struct rank *me, int count) {
    struct in_use all = {.count = count};
    for (int i = 0; i < count; i++) {
        all.lanes[i] = is_named("on-one-stream") ? *me : open_rank(me->number, me->ranks);
        all.comms[i] = communicator_of_all(me);
    }
    for (int i = 0; i < count; i++) sum(&all.lanes[i], all.comms[i], everybody(me), i, SMALL);
    return all;
}

/* The other rank does not come to these all-reduces. */
static void let_spin(struct in_use *all) {
    for (int i = 0; i < all->count; i++) {
        if ((i == 0 && is_named("first-is-idle")) || (i == all->count - 1 && is_named("last-is-idle"))) continue;
        const int is_forwarded = is_named("forwarded") || (is_named("alternate") && i % 2 == 1);
        NCCL(all_reduce_of(&all->lanes[i], all->comms[i], all->lanes[i].ranks, is_forwarded ? LARGE : SMALL));
    }
    /* By legacy IPC, until the lost rank has gone: what it has open is kept. */
    usleep(getenv("DIME_LEGACY_IPC") ? 500000 : 20000);
}

static void must_be_free(const struct in_use *all, double begin) {
    const double took = now_ms() - begin;
    printf("took-ms=%.0f\n", took);
    MUST(took < ENDING_LIMIT_MS);
    for (int i = 0; i < all->count; i++) MUST(!cuda.wait_stream(all->lanes[i].stream));
    MUST(now_ms() - begin < ENDING_LIMIT_MS);
}

/* The last rank is lost. The others abort all communicators, and go on with each other if they are several. */
static void abort_all(struct rank *me) {
    const int count = atoi(strpbrk(current->name, "0123456789")), lost = me->ranks - 1, rest = everybody(me) & ~(1 << lost);
    alarm(HANG_LIMIT_S);
    /* What stays with the process, such as kernels, is there before anything is measured. */
    ncclComm_t first = communicator_of_all(me);
    try_out(me, first, everybody(me), 0);
    NCCL(ncclCommDestroy(first));
    size_t before = device_memory_in_use();
    struct in_use all = open_all(me, count);
    agree_on_ids(me, 1);
    if (me->number == lost) _exit(0);
    before += (size_t)(is_named("on-one-stream") ? 0 : count) * (96 << 10);
    let_spin(&all);
    const double begin = now_ms();
    if (is_named("in-a-group")) NCCL(ncclGroupStart());
    for (int i = 0; i < count; i++) NCCL(ncclCommAbort(all.comms[i]));
    if (is_named("in-a-group")) NCCL(ncclGroupEnd());
    must_be_free(&all, begin);
    /* Without a communicator the process has none of the memory any more. NCCL and the driver may keep less than one of ours took. */
    MUST(device_memory_in_use() < before + (32u << 20) * (size_t)count);
    if (me->ranks > 2) {
        ncclComm_t next;
        NCCL(ncclCommInitRank(&next, me->ranks - 1, shared->ids[0], me->number));
        try_out(me, next, rest, 3);
        NCCL(ncclCommDestroy(next));
    }
}

/* One communicator is destroyed in the group in which another one is aborted, that waits before it on the same stream. */
static void destroy_and_abort(struct rank *me) {
    alarm(HANG_LIMIT_S);
    for (int round = 0; round < 2; round++) {
        ncclComm_t spins = communicator_of_all(me), ends = communicator_of_all(me);
        sum(me, spins, everybody(me), 0, SMALL);
        sum(me, ends, everybody(me), 1, SMALL);
        if (me->number == 0) NCCL(all_reduce_of(me, spins, me->ranks, SMALL));
        /* Complete, but for what it waits behind on rank 0. */
        NCCL(all_reduce_of(me, ends, me->ranks, SMALL));
        meet();
        usleep(20000);
        const double begin = now_ms();
        NCCL(ncclGroupStart());
        if (round == 0) NCCL(ncclCommAbort(spins));
        if (is_named("finalized")) NCCL(ncclCommFinalize(ends));
        NCCL(ncclCommDestroy(ends));
        if (round == 1) NCCL(ncclCommAbort(spins));
        NCCL(ncclGroupEnd());
        MUST(now_ms() - begin < ENDING_LIMIT_MS);
        MUST(!cuda.wait_stream(me->stream));
        meet();
    }
}

/* A communicator is aborted in the group in which an all-reduce was called on it: that is not done. */
static void abort_what_was_called_on(struct rank *me) {
    alarm(HANG_LIMIT_S);
    ncclComm_t comm = communicator_of_all(me), other = communicator_of_all(me);
    sum(me, comm, everybody(me), 0, SMALL);
    sum(me, other, everybody(me), 1, SMALL);
    fill(me, 2, SMALL);
    NCCL(ncclGroupStart());
    if (!is_nccl_alone()) NCCL(all_reduce_of(me, comm, me->ranks, SMALL));
    NCCL(all_reduce_of(me, other, me->ranks, SMALL));
    NCCL(ncclCommAbort(comm));
    NCCL(ncclGroupEnd());
    check(me, everybody(me), 2, SMALL);
    NCCL(ncclCommDestroy(other));
}

#define ABORTS(name_, ranks_) {.name = name_, .run = abort_all, .way = PROCESSES, .ranks = ranks_, .uncounted = 1}
#define ABORTS_OF(count)                            \
    ABORTS("in-a-group-" count "-all-spin", 2),     \
    ABORTS("in-a-group-" count "-first-is-idle", 2), \
    ABORTS("in-a-group-" count "-last-is-idle", 2), \
    ABORTS("in-a-group-" count "-forwarded-spin", 2), \
    ABORTS("one-by-one-" count "-all-spin", 2),     \
    ABORTS("one-by-one-" count "-first-is-idle", 2), \
    ABORTS("one-by-one-" count "-last-is-idle", 2), \
    ABORTS("one-by-one-" count "-forwarded-spin", 2)

static const struct situation situations[] = {
    ABORTS_OF("2"),
    ABORTS_OF("3"),
    ABORTS_OF("8"),
    ABORTS("in-a-group-8-kinds-alternate", 2),
    ABORTS("one-by-one-8-kinds-alternate", 2),
    ABORTS("in-a-group-3-all-spin-on-one-stream", 2),
    ABORTS("one-by-one-3-all-spin-on-one-stream", 2),
    ABORTS("in-a-group-3-all-spin-and-the-rest-goes-on", 3),
    ABORTS("one-by-one-3-all-spin-and-the-rest-goes-on", 3),
    {.name = "destroyed-and-aborted-in-a-group", .run = destroy_and_abort, .way = PROCESSES, .ranks = 2, .uncounted = 1},
    {.name = "finalized-and-aborted-in-a-group", .run = destroy_and_abort, .way = PROCESSES, .ranks = 2, .uncounted = 1},
    {.name = "aborted-behind-a-call-in-a-group", .run = abort_what_was_called_on, .way = PROCESSES, .ranks = 2, .uncounted = 1},
};

int main(int argc, char **argv) {
    return run_situation(argc, argv, situations, sizeof situations / sizeof *situations);
}
