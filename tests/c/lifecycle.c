/* How communicators begin and end: every way to make one, every way to end one, many of them, again and again.
 * Usage and outcome are in situation.h. */
#define _GNU_SOURCE
#include <dirent.h>
#include <time.h>

#include "situation.h"

/* ---- Ways to begin and to end ---- */

static void end_well(ncclComm_t comm) {
    NCCL(ncclCommFinalize(comm));
    NCCL(ncclCommDestroy(comm));
}

/* Every function that makes one, and every one that ends one. */
static void begins_and_ends(struct rank *me) {
    const int all = everybody(me);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclComm_t comm = NULL;

    agree_on_ids(me, me->ranks);
    NCCL(ncclCommInitRank(&comm, me->ranks, shared->ids[0], me->number));
    must_be("undecided: ", comm, SMALL);
    try_out(me, comm, all, 0);
    end_well(comm);

    agree_on_ids(me, 1);
    NCCL(ncclCommInitRankConfig(&comm, me->ranks, shared->ids[0], me->number, &config));
    try_out(me, comm, all, 2);
    NCCL(ncclCommDestroy(comm));

    agree_on_ids(me, me->ranks);
    NCCL(ncclCommInitRankScalable(&comm, me->ranks, me->number, me->ranks, shared->ids, &config));
    try_out(me, comm, all, 4);
    meet();
    NCCL(ncclCommAbort(comm));

    /* Never used. */
    comm = communicator_of_all(me);
    NCCL(ncclCommDestroy(comm));
    comm = communicator_of_all(me);
    NCCL(ncclCommAbort(comm));
    /* Used for what is forwarded only. */
    comm = communicator_of_all(me);
    sum(me, comm, all, 6, LARGE);
    end_well(comm);

    NCCL(ncclCommDestroy(NULL));
    NCCL(ncclCommAbort(NULL));
}

/* One thread makes the communicators of all GPUs, also in another order. */
static void init_all(struct rank *first) {
    struct rank ranks[MAX_RANKS] = {*first};
    for (int i = 1; i < first->ranks; i++) ranks[i] = open_rank(i, first->ranks);
    for (int round = 0; round < 2; round++) {
        ncclComm_t comms[MAX_RANKS];
        int places[MAX_RANKS], gpus[MAX_RANKS];
        for (int i = 0; i < first->ranks; i++) {
            places[i] = round == 0 ? i : first->ranks - 1 - i;
            gpus[i] = gpu_of(places[i]);
        }
        const int is_plain = round == 0 && gpus_here() >= first->ranks;
        NCCL(ncclCommInitAll(comms, first->ranks, is_plain ? NULL : gpus));
        for (int step = 0; step < 3; step++) {
            for (int i = 0; i < first->ranks; i++) {
                use(&ranks[i]);
                fill(&ranks[i], step, LARGE);
            }
            NCCL(ncclGroupStart());
            for (int i = 0; i < first->ranks; i++)
                NCCL(all_reduce_of(&ranks[places[i]], comms[i], first->ranks, step == 1 ? LARGE : SMALL));
            NCCL(ncclGroupEnd());
            for (int i = 0; i < first->ranks; i++) {
                use(&ranks[i]);
                check(&ranks[i], everybody(first), step, step == 1 ? LARGE : SMALL);
            }
        }
        must_be("fast: ", comms[0], SMALL);
        for (int i = 0; i < first->ranks; i++) NCCL(ncclCommDestroy(comms[i]));
    }
}

/* ---- Children ---- */

static int number_in(ncclComm_t comm) {
    int number;
    NCCL(ncclCommUserRank(comm, &number));
    return number;
}

/* What NCCL allocates and frees waits for all GPUs of the process: where ranks are threads, none may wait on its GPU then for one that is
 * still at it, with NCCL alone neither. */
static void settle(ncclComm_t gone) {
    if (gone) NCCL(ncclCommDestroy(gone));
    if (current->way == THREADS) meet();
}

/* Halves, the same ranks in reversed order, some of the ranks, and children of children: used in turn with the parent. */
static void splits(struct rank *me) {
    const int all = everybody(me), last = me->ranks - 1;
    const int half = me->number < 2 ? 3 : all & ~3;
    ncclComm_t parent = communicator_of_all(me), halves, reversed, most, again;
    /* One is made before the parent's first all-reduce, the others after it. */
    NCCL(ncclCommSplit(parent, me->number < 2, me->number, &halves, NULL));
    settle(NULL);
    try_out(me, parent, all, 0);
    NCCL(ncclCommSplit(parent, 5, -me->number, &reversed, NULL));
    MUST(number_in(reversed) == last - me->number);
    NCCL(ncclCommSplit(parent, me->number == 1 ? NCCL_SPLIT_NOCOLOR : 0, 0, &most, NULL));
    MUST((most == NULL) == (me->number == 1));
    settle(NULL);
    for (int step = 0; step < 6; step++) {
        sum(me, halves, half, step, SMALL);
        sum(me, parent, all, step, step % 2 ? SMALL : LARGE);
        if (most) sum(me, most, all & ~2, step, SMALL);
        sum(me, reversed, all, step, SMALL);
    }
    NCCL(ncclCommSplit(reversed, me->number % 2, 0, &again, NULL));
    settle(reversed);
    const int alike = me->number % 2 ? all & 0xaa : all & 0x55;
    try_out(me, again, alike, 8);
    /* Parents end before their children. */
    settle(parent);
    try_out(me, halves, half, 10);
    try_out(me, again, alike, 12);
    if (most) try_out(me, most, all & ~2, 14);
    if (most) end_well(most);
    end_well(halves);
    end_well(again);
}

/* Waits until the all-reduce of this rank, which is not complete without the others, is on the GPU. */
static void let_it_spin(const struct rank *me) {
    usleep(20000);
    MUST(more_cuda.query_stream(me->stream) != 0);
}

/* Ranks leave a communicator that is idle, and one that is stuck because they are gone. */
static void shrinks(struct rank *me) {
    const int all = everybody(me), last = me->ranks - 1, rest = all & ~(1 << last);
    int gone[] = {last};
    ncclComm_t parent = communicator_of_all(me), child;
    try_out(me, parent, all, 0);
    if (me->number == last) {
        meet();
        NCCL(ncclCommAbort(parent));
        return;
    }
    NCCL(ncclCommShrink(parent, gone, 1, &child, NULL, NCCL_SHRINK_DEFAULT));
    try_out(me, child, rest, 2);
    /* The one that left does not take part. */
    all_reduce_of(me, parent, me->ranks, SMALL);
    let_it_spin(me);
    ncclComm_t second;
    NCCL(ncclCommShrink(parent, gone, 1, &second, NULL, NCCL_SHRINK_ABORT));
    MUST(!cuda.wait_stream(me->stream));
    GIVES(ncclSuccess, await(parent));
    try_out(me, second, rest, 4);
    try_out(me, child, rest, 6);
    NCCL(ncclCommAbort(parent));
    try_out(me, second, rest, 8);
    end_well(second);
    end_well(child);
    meet();
}

/* A communicator that is stuck is revoked: what runs ends, no more may begin, and what remains of it can be shrunk. */
static void revokes(struct rank *me) {
    const int all = everybody(me), last = me->ranks - 1, rest = all & ~(1 << last);
    int gone[] = {last};
    void *data = (void *)(size_t)me->buffer;
    ncclComm_t comm = communicator_of_all(me), child;
    try_out(me, comm, all, 0);
    /* What NCCL refuses changes nothing. */
    GIVES(ncclInvalidArgument, ncclCommRevoke(comm, 7));
    try_out(me, comm, all, 2);
    meet();
    if (me->number != last) {
        all_reduce_of(me, comm, me->ranks, SMALL);
        let_it_spin(me);
    }
    NCCL(ncclCommRevoke(comm, NCCL_REVOKE_DEFAULT));
    GIVES(ncclSuccess, await(comm));
    MUST(!cuda.wait_stream(me->stream));
    /* As NCCL's own calls, large ones and those in groups too. */
    GIVES(ncclInvalidUsage, ncclAllReduce(data, data, SMALL, ncclFloat, ncclSum, comm, me->stream));
    GIVES(ncclInvalidUsage, ncclAllReduce(data, data, LARGE, ncclFloat, ncclSum, comm, me->stream));
    NCCL(ncclGroupStart());
    GIVES(ncclInvalidUsage, ncclAllReduce(data, data, SMALL, ncclFloat, ncclSum, comm, me->stream));
    GIVES(ncclInvalidUsage, ncclGroupEnd());
    GIVES(ncclSuccess, await(comm));
    if (me->number != last) {
        NCCL(ncclCommShrink(comm, gone, 1, &child, NULL, NCCL_SHRINK_DEFAULT));
        try_out(me, child, rest, 4);
        end_well(child);
    }
    NCCL(ncclCommDestroy(comm));

    /* Before its first all-reduce. */
    comm = communicator_of_all(me);
    NCCL(ncclCommRevoke(comm, NCCL_REVOKE_DEFAULT));
    GIVES(ncclInvalidUsage, ncclAllReduce(data, data, SMALL, ncclFloat, ncclSum, comm, me->stream));
    GIVES(ncclSuccess, await(comm));
    NCCL(ncclCommDestroy(comm));
    comm = communicator_of_all(me);
    try_out(me, comm, all, 6);
    NCCL(ncclCommDestroy(comm));
}

/* Two ranks take in one after the other. */
static void grows(struct rank *me) {
    ncclComm_t comm = NULL;
    agree_on_ids(me, 1);
    if (me->number < 2) {
        NCCL(ncclCommInitRank(&comm, 2, shared->ids[0], me->number));
        try_out(me, comm, 3, 0);
    }
    for (int ranks = 3; ranks <= me->ranks; ranks++) {
        const int members = (1 << ranks) - 1;
        meet();
        if (me->number == 1) NCCL(ncclCommGetUniqueId(comm, &shared->ids[0]));
        meet();
        if (me->number >= ranks) continue;
        ncclComm_t larger;
        if (me->number < ranks - 1) {
            const ncclUniqueId *id = me->number == 1 ? &shared->ids[0] : NULL;
            NCCL(ncclCommGrow(comm, ranks, id, -1, &larger, NULL));
            sum(me, comm, members >> 1, ranks, SMALL);
            NCCL(ncclCommDestroy(comm));
        } else {
            NCCL(ncclCommGrow(NULL, ranks, &shared->ids[0], me->number, &larger, NULL));
        }
        comm = larger;
        try_out(me, comm, members, ranks);
    }
    end_well(comm);
}

/* All ranks suspend and resume, before the first all-reduce and after it. */
static void suspends(struct rank *me) {
    ncclComm_t comm = communicator_of_all(me);
    for (int round = 0; round < 3; round++) {
        NCCL(ncclCommSuspend(comm, NCCL_SUSPEND_MEM));
        meet();
        NCCL(ncclCommResume(comm));
        try_out(me, comm, everybody(me), 2 * round);
        meet();
    }
    NCCL(ncclCommDestroy(comm));
}

/* ---- Communicators whose calls do not wait ---- */

static void must_begin(ncclResult_t result) {
    MUST(result == ncclSuccess || result == ncclInProgress);
}

/* Parts of which the parent tells when they are there: two kinds, and a part of a part. */
static void non_blocking_parts(struct rank *me) {
    const int all = everybody(me), first_two = me->number < 2 ? 3 : all & ~3;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclComm_t comm, part = NULL, again = NULL, shrunk = NULL;
    agree_on_ids(me, 1);
    must_begin(ncclCommInitRankConfig(&comm, me->ranks, shared->ids[0], me->number, &config));
    NCCL(await(comm));
    must_begin(ncclCommSplit(comm, me->number < 2, me->number, &part, &config));
    NCCL(await(comm));
    MUST(part != NULL);
    try_out(me, part, first_two, 0);
    try_out(me, comm, all, 2);
    must_begin(ncclCommSplit(part, 7, -me->number, &again, &config));
    NCCL(await(part));
    MUST(again != NULL);
    NCCL(await(again));
    try_out(me, again, first_two, 4);
    if (me->number != me->ranks - 1) {
        int gone[] = {me->ranks - 1};
        must_begin(ncclCommShrink(comm, gone, 1, &shrunk, &config, NCCL_SHRINK_DEFAULT));
        NCCL(await(comm));
        MUST(shrunk != NULL);
        try_out(me, shrunk, all & ~(1 << (me->ranks - 1)), 6);
        must_begin(ncclCommFinalize(shrunk));
        NCCL(await(shrunk));
        NCCL(ncclCommDestroy(shrunk));
    }
    ncclComm_t ending[] = {again, part, comm};
    for (int i = 0; i < 3; i++) {
        must_begin(ncclCommFinalize(ending[i]));
        NCCL(await(ending[i]));
        NCCL(ncclCommDestroy(ending[i]));
    }
}

static void non_blocking(struct rank *me) {
    const int all = everybody(me);
    void *data = (void *)(size_t)me->buffer;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclComm_t comm, child = NULL;
    agree_on_ids(me, 2);
    if (me->number != 0) {
        meet();
        usleep(10000);
    }
    GIVES(ncclInProgress, ncclCommInitRankConfig(&comm, me->ranks, shared->ids[0], me->number, &config));
    if (me->number == 0) {
        /* The others have not come. */
        ncclResult_t state;
        NCCL(ncclCommGetAsyncError(comm, &state));
        GIVES(ncclInProgress, state);
        /* A call too early is refused. That may be the end of the communicator. */
        ncclComm_t lonely;
        GIVES(ncclInProgress, ncclCommInitRankConfig(&lonely, me->ranks, shared->ids[1], me->number, &config));
        GIVES(ncclInvalidArgument, ncclAllReduce(data, data, SMALL, ncclFloat, ncclSum, lonely, me->stream));
        NCCL(ncclCommAbort(lonely));
        meet();
    }
    NCCL(await(comm));
    /* The first all-reduce comes at once. Fast ones are enqueued when the call returns; NCCL's may be still on their way. */
    try_out(me, comm, all, 0);
    fill(me, 2, LARGE);
    const ncclResult_t forwarded = all_reduce_of(me, comm, me->ranks, LARGE);
    must_begin(forwarded);
    NCCL(await(comm));
    check(me, all, 2, LARGE);

    /* A group of both kinds, NCCL's first and last. */
    fill(me, 3, LARGE);
    NCCL(ncclGroupStart());
    must_begin(ncclBroadcast(data, data, LARGE, ncclFloat, 0, comm, me->stream));
    must_begin(ncclGroupEnd());
    NCCL(await(comm));
    check(me, 1, 3, LARGE);
    fill(me, 4, LARGE);
    char *second_half = (char *)data + (LARGE - SMALL) * sizeof(float);
    NCCL(ncclGroupStart());
    must_begin(all_reduce_of(me, comm, me->ranks, SMALL));
    must_begin(ncclBroadcast(second_half, second_half, SMALL, ncclFloat, 0, comm, me->stream));
    must_begin(ncclGroupEnd());
    NCCL(await(comm));
    check(me, all, 4, SMALL);

    /* A child, of which its parent tells. */
    must_begin(ncclCommSplit(comm, 0, -me->number, &child, &config));
    NCCL(await(comm));
    MUST(child != NULL);
    NCCL(await(child));
    try_out(me, child, all, 5);
    try_out(me, comm, all, 7);
    must_begin(ncclCommFinalize(child));
    NCCL(await(child));
    NCCL(ncclCommDestroy(child));
    try_out(me, comm, all, 9);
    /* One that is stuck: the last rank does not come. */
    if (me->number != me->ranks - 1) {
        must_begin(all_reduce_of(me, comm, me->ranks, SMALL));
        let_it_spin(me);
        int gone[] = {me->ranks - 1};
        ncclComm_t rest = NULL;
        must_begin(ncclCommShrink(comm, gone, 1, &rest, &config, NCCL_SHRINK_ABORT));
        NCCL(await(comm));
        MUST(rest != NULL && !cuda.wait_stream(me->stream));
        NCCL(await(rest));
        try_out(me, rest, all & ~(1 << (me->ranks - 1)), 11);
        must_begin(ncclCommFinalize(rest));
        NCCL(await(rest));
        NCCL(ncclCommDestroy(rest));
    }
    meet();
    NCCL(ncclCommAbort(comm));
}

/* ---- Handles that come again ---- */

/* A handle that was one communicator's becomes that of another, with other ranks. */
static void handles_come_again(struct rank *me) {
    enum { MOST_ROUNDS = 60, ENOUGH = 6 };
    static const struct {
        int members, reversed;
    } kinds[] = {{3, 0}, {7, 0}, {5, 0}, {7, 1}, {3, 1}, {6, 0}, {1, 0}};
    enum { KINDS = sizeof kinds / sizeof *kinds };
    struct {
        ncclComm_t handle;
        int kind;
    } seen[MOST_ROUNDS];
    int n_seen = 0, again = 0;
    for (int round = 0; round < MOST_ROUNDS; round++) {
        const int kind = round % KINDS, members = kinds[kind].members;
        agree_on_ids(me, 1);
        if (has(members, me->number)) {
            const int n = __builtin_popcount((unsigned)members);
            const int place = __builtin_popcount((unsigned)members & ((1u << me->number) - 1));
            ncclComm_t comm;
            NCCL(ncclCommInitRank(&comm, n, shared->ids[0], kinds[kind].reversed ? n - 1 - place : place));
            for (int i = 0; i < n_seen; i++) {
                if (seen[i].handle != comm || seen[i].kind == kind) continue;
                again++;
                break;
            }
            seen[n_seen].handle = comm;
            seen[n_seen++].kind = kind;
            must_be(n > 1 ? "undecided: " : "forward: ", comm, SMALL);
            if (round % 3 != 2) try_out(me, comm, members, round);
            if (round % 4 == 3) {
                NCCL(ncclCommAbort(comm));
            } else {
                NCCL(ncclCommDestroy(comm));
            }
        }
        if (me->number == 0) shared->verdict = again >= ENOUGH;
        meet();
        if (shared->verdict) break;
        meet();
    }
    printf("again=%d\n", again);
    MUST(me->number != 0 || again > 0);
}

/* ---- Many ---- */

static unsigned next_random(unsigned *state) {
    *state = *state * 1664525 + 1013904223;
    return *state >> 16;
}

/* All at once, in a random order that is the same on all ranks. One in eight is set up, which takes 64 MiB; the others
 * only forward. */
static void many_at_once(struct rank *me) {
    enum { MANY = 64, USES = 250, REMAKE_EVERY = 50 };
    ncclComm_t parent = communicator_of_all(me), comms[MANY];
    for (int i = 0; i < MANY; i++) NCCL(ncclCommSplit(parent, 0, i % 2 ? -me->number : me->number, &comms[i], NULL));
    unsigned random = 7;
    for (int use = 0; use < USES; use++) {
        const unsigned which = next_random(&random) % MANY;
        sum(me, comms[which], everybody(me), use, which % 8 == 0 ? SMALL : LARGE);
        /* Some are made anew meanwhile. */
        if (use % REMAKE_EVERY != REMAKE_EVERY - 1) continue;
        NCCL(ncclCommDestroy(comms[which]));
        NCCL(ncclCommSplit(parent, 0, me->number, &comms[which], NULL));
    }
    NCCL(ncclCommDestroy(parent));
    for (int i = 0; i < MANY; i++) NCCL(ncclCommDestroy(comms[i]));
}

static double now_s(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* What a process holds. */
struct holdings {
    size_t device_bytes, resident_kib;
    int descriptors, sockets, mappings, threads;
};

static int count_entries(const char *folder) {
    DIR *listing = opendir(folder);
    MUST(listing != NULL);
    int entries = 0;
    while (readdir(listing)) entries++;
    closedir(listing);
    return entries;
}

static struct holdings holdings(void) {
    struct holdings now = {.descriptors = count_entries("/proc/self/fd"), .threads = count_entries("/proc/self/task")};
    size_t free_bytes, total_bytes;
    MUST(!more_cuda.free_memory(&free_bytes, &total_bytes));
    now.device_bytes = total_bytes - free_bytes;
    char line[4096];
    FILE *file = fopen("/proc/self/maps", "r");
    MUST(file != NULL);
    while (fgets(line, sizeof line, file)) now.mappings++;
    fclose(file);
    file = fopen("/proc/self/status", "r");
    MUST(file != NULL);
    while (fgets(line, sizeof line, file)) sscanf(line, "VmRSS: %zu", &now.resident_kib);
    fclose(file);
    DIR *listing = opendir("/proc/self/fd");
    MUST(listing != NULL);
    for (struct dirent *entry; (entry = readdir(listing));) {
        char path[300], target[64] = "";
        snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
        if (readlink(path, target, sizeof target - 1) > 0) now.sockets += strncmp(target, "socket:", 7) == 0;
    }
    closedir(listing);
    return now;
}

/* The context that a communicator was in ends with it, where nobody else keeps it. The next one is another context of the same handle. */
static void contexts_come_again(struct rank *me) {
    struct rank now = *me;
    int ended = 0;
    for (int round = 0; round < 3; round++) {
        if (round) now = open_rank(me->number, me->ranks);
        ncclComm_t comm = communicator_of_all(&now);
        for (int step = 0; step < 2; step++) sum(&now, comm, everybody(me), round + step, SMALL);
        must_be("fast: ", comm, SMALL);
        NCCL(ncclCommDestroy(comm));
        meet();
        MUST(!more_cuda.release_context(gpu_of(me->number)));
        /* CUDA's runtime, which NCCL uses on GPUs, keeps it. */
        ended += more_cuda.query_stream(now.stream) != 0;
    }
    printf("contexts-ended=%d\n", ended);
}

/* Communicators are made, used and destroyed as often as fits; a process holds no more at the end than at the beginning. */
static void again_and_again(struct rank *me) {
    enum { WARM_UP = 16, FEWEST = 48, MOST = 5000, LIMIT_S = 12, SETTLE_MS = 5000 };
    ncclComm_t parent = communicator_of_all(me);
    sum(me, parent, everybody(me), 0, SMALL);
    struct holdings before = {0};
    const double begin_s = now_s();
    int cycles = 0;
    for (int over = 0; !over; cycles++) {
        ncclComm_t comm;
        if (cycles == WARM_UP) before = holdings();
        if (cycles % 2) {
            agree_on_ids(me, 1);
            NCCL(ncclCommInitRank(&comm, me->ranks, shared->ids[0], me->number));
        } else {
            NCCL(ncclCommSplit(parent, 0, me->number, &comm, NULL));
        }
        /* Some are never used. */
        if (cycles % 8 != 7) sum(me, comm, everybody(me), cycles, SMALL);
        if (cycles % 16 == 8) {
            meet();
            NCCL(ncclCommAbort(comm));
        } else {
            NCCL(ncclCommDestroy(comm));
        }
        const int done = cycles + 1;
        /* Not behind an abort, which waits for nothing: what its setup used is freed by the next destroy. */
        const int may_end = done >= FEWEST && cycles % 16 != 8;
        if (me->number == 0) shared->verdict = may_end && (done >= MOST || now_s() - begin_s > LIMIT_S);
        meet();
        over = shared->verdict;
        meet();
    }
    /* What the driver frees on threads of its own may take a moment. */
    struct holdings after;
    for (int waited_ms = 0;; waited_ms += 20) {
        after = holdings();
        if (after.mappings <= before.mappings || waited_ms >= SETTLE_MS) break;
        usleep(20000);
    }
    printf("cycles=%d, device memory %zu to %zu bytes, resident %zu to %zu KiB, descriptors %d to %d, sockets %d to %d, "
           "mappings %d to %d, threads %d to %d\n",
           cycles, before.device_bytes, after.device_bytes, before.resident_kib, after.resident_kib, before.descriptors,
           after.descriptors, before.sockets, after.sockets, before.mappings, after.mappings, before.threads, after.threads);
    MUST(after.device_bytes <= before.device_bytes);
    MUST(after.descriptors <= before.descriptors);
    MUST(after.sockets <= before.sockets);
    MUST(after.mappings <= before.mappings + 4); /* an allocator may keep a few */
    MUST(after.threads <= before.threads);
    /* Less than 4 KiB for each communicator, and room for what an allocator keeps. */
    MUST(after.resident_kib <= before.resident_kib + 4096 + 3 * (size_t)cycles);
    NCCL(ncclCommDestroy(parent));
}

/* ---- Several in use at once ---- */

/* Each pair of ranks has a communicator, and each rank uses its two at once, on a stream each. */
static void overlapping_subsets(struct rank *me) {
    enum { PAIRS = 3, STEPS = 40 };
    static const int members[PAIRS] = {3, 6, 5};
    agree_on_ids(me, PAIRS);
    struct rank lanes[PAIRS];
    ncclComm_t comms[PAIRS] = {NULL};
    NCCL(ncclGroupStart());
    for (int i = 0; i < PAIRS; i++)
        if (has(members[i], me->number)) {
            const int place = (members[i] & ((1 << me->number) - 1)) != 0;
            lanes[i] = open_rank(me->number, me->ranks);
            NCCL(ncclCommInitRank(&comms[i], 2, shared->ids[i], place));
        }
    NCCL(ncclGroupEnd());
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < PAIRS; i++)
            if (comms[i]) fill(&lanes[i], step, SMALL);
        /* None waits for another between. */
        for (int i = 0; i < PAIRS; i++)
            if (comms[i]) all_reduce(&lanes[i], comms[i], members[i], SMALL);
        for (int i = 0; i < PAIRS; i++)
            if (comms[i]) check(&lanes[i], members[i], step, SMALL);
    }
    for (int i = 0; i < PAIRS; i++)
        if (comms[i]) NCCL(ncclCommDestroy(comms[i]));
}

/* A communicator is destroyed right behind its last all-reduces. One of the ranks comes late. */
static void destroyed_in_flight(struct rank *me) {
    enum { ROUNDS = 6, CALLS = 4 };
    for (int round = 0; round < ROUNDS; round++) {
        ncclComm_t comm = communicator_of_all(me);
        if (round % 2) sum(me, comm, everybody(me), 0, SMALL);
        fill(me, round, LARGE);
        if (me->number == round % me->ranks) usleep(30000);
        /* From the second on they multiply the sum by the number of ranks. */
        for (int call = 0; call < CALLS; call++) all_reduce(me, comm, everybody(me), call == 2 ? LARGE : SMALL);
        if (round % 3 == 0) {
            NCCL(ncclCommFinalize(comm));
        }
        NCCL(ncclCommDestroy(comm));
        float times = 1;
        for (int call = 1; call < CALLS; call++) times *= (float)me->ranks;
        check_times(me, everybody(me), round, SMALL, times);
    }
}

/* One communicator is destroyed while another spins: its peer has not come yet. */
static void destroyed_beside_one_that_spins(struct rank *me) {
    for (int round = 0; round < 4; round++) {
        ncclComm_t spins = communicator_of_all(me), ends = communicator_of_all(me);
        sum(me, spins, everybody(me), 0, SMALL);
        if (round != 3) sum(me, ends, everybody(me), 1, SMALL);
        fill(me, 2 + round, SMALL);
        if (me->number == 0) {
            all_reduce(me, spins, everybody(me), SMALL);
            let_it_spin(me);
        }
        meet();
        NCCL(ncclCommDestroy(ends));
        if (me->number == 1) {
            usleep(60000);
            all_reduce(me, spins, everybody(me), SMALL);
        }
        check(me, everybody(me), 2 + round, SMALL);
        NCCL(ncclCommDestroy(spins));
    }
}

/* Teams: each has GPUs and threads of its own, which make, use and end communicators of the team. */
enum { TEAMS = 2, TEAM_RANKS = 2, TEAM_ROUNDS = 5 };
static pthread_barrier_t team_meeting[TEAMS];
static ncclUniqueId team_ids[TEAMS];

struct team_seat {
    int team, number;
};

static void *be_in_team(void *argument) {
    const struct team_seat *seat = argument;
    const struct rank me = open_rank(TEAM_RANKS * seat->team + seat->number, TEAM_RANKS);
    const int members = everybody(&me) << TEAM_RANKS * seat->team;
    for (int round = 0; round < TEAM_ROUNDS; round++) {
        if (seat->number == 0) NCCL(ncclGetUniqueId(&team_ids[seat->team]));
        pthread_barrier_wait(&team_meeting[seat->team]);
        ncclComm_t comm, child;
        NCCL(ncclCommInitRank(&comm, TEAM_RANKS, team_ids[seat->team], seat->number));
        try_out(&me, comm, members, seat->team + round);
        NCCL(ncclCommSplit(comm, 0, -seat->number, &child, NULL));
        pthread_barrier_wait(&team_meeting[seat->team]);
        sum(&me, child, members, seat->team + round, SMALL);
        if ((round + seat->team) % 3 == 0) {
            pthread_barrier_wait(&team_meeting[seat->team]);
            NCCL(ncclCommAbort(comm));
        } else {
            NCCL(ncclCommDestroy(comm));
        }
        /* As in settle. */
        pthread_barrier_wait(&team_meeting[seat->team]);
        sum(&me, child, members, seat->team, SMALL);
        NCCL(ncclCommDestroy(child));
        pthread_barrier_wait(&team_meeting[seat->team]);
    }
    return NULL;
}

static void teams_at_once(struct rank *first) {
    (void)first;
    pthread_t threads[TEAMS][TEAM_RANKS];
    struct team_seat seats[TEAMS][TEAM_RANKS];
    for (int team = 0; team < TEAMS; team++) {
        pthread_barrier_init(&team_meeting[team], NULL, TEAM_RANKS);
        for (int i = 0; i < TEAM_RANKS; i++) {
            seats[team][i] = (struct team_seat){team, i};
            MUST(!pthread_create(&threads[team][i], NULL, be_in_team, &seats[team][i]));
        }
    }
    for (int team = 0; team < TEAMS; team++)
        for (int i = 0; i < TEAM_RANKS; i++) MUST(!pthread_join(threads[team][i], NULL));
}

/* maxCTAs of a communicator's configuration bounds the blocks: the smallest number of all ranks. A part without a configuration has its
 * parent's. */
static void few_blocks(struct rank *me) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER, other = NCCL_CONFIG_INITIALIZER;
    config.maxCTAs = 2 + me->number;
    ncclComm_t comm, inherits, own;
    agree_on_ids(me, 1);
    NCCL(ncclCommInitRankConfig(&comm, me->ranks, shared->ids[0], me->number, &config));
    sum(me, comm, everybody(me), 1, SMALL);
    must_be("fast: one_shot_sentinel with up to 2 blocks of 512 threads", comm, 16000);
    NCCL(ncclCommSplit(comm, 0, me->number, &inherits, NULL));
    sum(me, inherits, everybody(me), 2, SMALL);
    must_be("fast: one_shot_sentinel with up to 2 blocks", inherits, 16000);
    NCCL(ncclCommSplit(comm, 0, me->number, &own, &other));
    sum(me, own, everybody(me), 3, SMALL);
    must_be("fast: one_shot_sentinel with up to 15 blocks of 128 threads", own, 16000);
    NCCL(ncclCommDestroy(own));
    NCCL(ncclCommDestroy(inherits));
    NCCL(ncclCommDestroy(comm));
}

static const struct situation situations[] = {
    {.name = "few-blocks", .run = few_blocks, .way = PROCESSES, .ranks = 3, .uncounted = 1, .since = 22705},
    {.name = "begins-and-ends", .run = begins_and_ends, .way = PROCESSES, .ranks = 3},
    {.name = "init-all", .run = init_all, .way = ONE_THREAD, .ranks = 3},
    {.name = "splits", .run = splits, .way = PROCESSES, .ranks = 4},
    {.name = "splits-of-threads", .run = splits, .way = THREADS, .ranks = 4},
    {.name = "shrinks", .run = shrinks, .way = PROCESSES, .ranks = 3, .since = 22705},
    {.name = "revokes", .run = revokes, .way = PROCESSES, .ranks = 3, .uncounted = 1, .since = 22809},
    {.name = "revokes-of-threads", .run = revokes, .way = THREADS, .ranks = 3, .uncounted = 1, .since = 22809},
    {.name = "grows", .run = grows, .way = PROCESSES, .ranks = 4, .since = 22902},
    {.name = "suspends", .run = suspends, .way = PROCESSES, .ranks = 2, .since = 22907},
    {.name = "non-blocking", .run = non_blocking, .way = PROCESSES, .ranks = 3, .uncounted = 1, .since = 22705},
    {.name = "non-blocking-parts", .run = non_blocking_parts, .way = PROCESSES, .ranks = 3, .since = 22705},
    {.name = "non-blocking-threads",
     .run = non_blocking,
     .way = THREADS,
     .ranks = 3,
     .own_gpus = 1,
     .uncounted = 1,
     .since = 22705},
    {.name = "handles-come-again", .run = handles_come_again, .way = PROCESSES, .ranks = 3},
    {.name = "handles-come-again-to-threads", .run = handles_come_again, .way = THREADS, .ranks = 3},
    {.name = "many-at-once", .run = many_at_once, .way = PROCESSES, .ranks = 2},
    {.name = "again-and-again", .run = again_and_again, .way = PROCESSES, .ranks = 2},
    {.name = "contexts-come-again", .run = contexts_come_again, .way = PROCESSES, .ranks = 2},
    {.name = "overlapping-subsets", .run = overlapping_subsets, .way = PROCESSES, .ranks = 3},
    {.name = "destroyed-in-flight", .run = destroyed_in_flight, .way = PROCESSES, .ranks = 3},
    {.name = "destroyed-beside-one-that-spins", .run = destroyed_beside_one_that_spins, .way = PROCESSES, .ranks = 2},
    {.name = "teams-at-once", .run = teams_at_once, .way = ONE_THREAD, .ranks = TEAMS * TEAM_RANKS},
};

int main(int argc, char **argv) {
    return run_situation(argc, argv, situations, sizeof situations / sizeof *situations);
}
