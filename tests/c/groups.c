/* What NCCL promises of groups: they nest, hold calls on several communicators and GPUs, of kinds that libdime.so does and that it
 * forwards, and leave nothing behind when they fail. Usage and outcome are in situation.h. */
#define _GNU_SOURCE
#include "situation.h"

/* Parts of a buffer. */
enum { PARTS = 5, PART = LARGE / PARTS, PART_BYTES = PART * sizeof(float) };

static void *part(const struct rank *rank, int index) {
    return (char *)(size_t)rank->buffer + (size_t)index * PART_BYTES;
}

/* In place, of one part: fast. */
static ncclResult_t sum_part(const struct rank *rank, ncclComm_t comm, int index) {
    atomic_fetch_add(&expected_fast, 1);
    return ncclAllReduce(part(rank, index), part(rank, index), PART, ncclFloat, ncclSum, comm, rank->stream);
}

static ncclResult_t send_part(const struct rank *rank, ncclComm_t comm, int index, int root) {
    return ncclBroadcast(part(rank, index), part(rank, index), PART, ncclFloat, root, comm, rank->stream);
}

/* Waits. A part holds `times` times the sum of the members' contributions. */
static void check_part(const struct rank *rank, int index, int members, int step, float times) {
    float host[PART];
    MUST(!cuda.wait_stream(rank->stream));
    MUST(!cuda.download(host, (device_address)(size_t)part(rank, index), PART_BYTES, rank->stream));
    MUST(!cuda.wait_stream(rank->stream));
    for (int i = 0; i < PART; i++) MUST(host[i] == times * sum_of(members, step, index * PART + i));
}

/* ---- What a group holds ---- */

static void nested(struct rank *me) {
    const int all = everybody(me);
    ncclComm_t comm = communicator_of_all(me);
    for (int step = 0; step < 6; step++) {
        fill(me, step, LARGE);
        const int outer = step % 3;
        for (int level = 0; level <= outer; level++) NCCL(ncclGroupStart());
        for (int i = 0; i < PARTS; i++) {
            NCCL(ncclGroupStart());
            NCCL(sum_part(me, comm, i));
            NCCL(ncclGroupEnd());
        }
        NCCL(ncclGroupStart());
        NCCL(ncclGroupEnd());
        for (int level = 0; level <= outer; level++) NCCL(ncclGroupEnd());
        check(me, all, step, LARGE);
    }
    GIVES(ncclInvalidUsage, ncclGroupEnd());
    try_out(me, comm, all, 9);
    NCCL(ncclCommDestroy(comm));
}

/* Many calls on one communicator, each of a few elements. */
static void many_calls(struct rank *me) {
    enum { CALLS = 400, EACH = LARGE / CALLS };
    ncclComm_t comm = communicator_of_all(me);
    for (int step = 0; step < 3; step++) {
        fill(me, step, LARGE);
        NCCL(ncclGroupStart());
        for (int i = 0; i < CALLS; i++) {
            float *data = (float *)(size_t)me->buffer + i * EACH;
            NCCL(ncclAllReduce(data, data, EACH, ncclFloat, ncclSum, comm, me->stream));
        }
        NCCL(ncclGroupEnd());
        atomic_fetch_add(&expected_fast, CALLS);
        check(me, everybody(me), step, LARGE);
    }
    NCCL(ncclCommDestroy(comm));
}

/* One thread drives all GPUs, with two communicators on each, in opposite orders of the GPUs. */
static void one_thread_with_all(struct rank *first) {
    const int ranks = first->ranks, all = everybody(first);
    struct rank lanes[2][MAX_RANKS];
    int places[2][MAX_RANKS], gpus[MAX_RANKS];
    ncclComm_t comms[2][MAX_RANKS];
    for (int c = 0; c < 2; c++) {
        for (int i = 0; i < ranks; i++) {
            lanes[c][i] = open_rank(i, ranks);
            places[c][i] = c ? ranks - 1 - i : i;
            gpus[i] = gpu_of(places[c][i]);
        }
        NCCL(ncclCommInitAll(comms[c], ranks, gpus));
    }
    for (int step = 0; step < 8; step++) {
        const int forwarded = step % 4 == 3;
        for (int c = 0; c < 2; c++)
            for (int i = 0; i < ranks; i++) {
                use(&lanes[c][i]);
                fill(&lanes[c][i], step + c, LARGE);
            }
        NCCL(ncclGroupStart());
        for (int i = 0; i < ranks; i++)
            for (int c = 0; c < 2; c++)
                NCCL(all_reduce_of(&lanes[c][places[c][i]], comms[c][i], ranks, forwarded && c ? LARGE : SMALL));
        NCCL(ncclGroupEnd());
        for (int c = 0; c < 2; c++)
            for (int i = 0; i < ranks; i++) {
                use(&lanes[c][i]);
                check(&lanes[c][i], all, step + c, forwarded && c ? LARGE : SMALL);
            }
    }
    for (int c = 0; c < 2; c++)
        for (int i = 0; i < ranks; i++) NCCL(ncclCommDestroy(comms[c][i]));
}

/* What libdime.so does and what it forwards, in one group and in groups one behind the other on a stream. */
static void mixed(struct rank *me) {
    const int all = everybody(me), n = me->ranks;
    const size_t bytes = SMALL * sizeof(float);
    void *data = (void *)(size_t)me->buffer;
    ncclComm_t comm = communicator_of_all(me);
    for (int step = 0; step < 12; step++) {
        const int root = step % n;
        /* Outside of groups: each works on the result of the one before. */
        fill(me, step, SMALL);
        for (int round = 0; round < 2; round++) {
            NCCL(all_reduce_of(me, comm, n, SMALL));
            NCCL(ncclReduce(data, data, SMALL, ncclFloat, ncclSum, root, comm, me->stream));
            NCCL(ncclBroadcast(data, data, SMALL, ncclFloat, root, comm, me->stream));
        }
        check_times(me, all, step, SMALL, (float)(n * n * n));

        /* Groups, with nothing between that waits. */
        fill(me, step, LARGE);
        NCCL(ncclGroupStart());
        NCCL(sum_part(me, comm, 0));
        NCCL(send_part(me, comm, 1, root));
        NCCL(sum_part(me, comm, 2));
        NCCL(ncclGroupEnd());
        NCCL(ncclGroupStart());
        NCCL(ncclReduce(part(me, 0), part(me, 0), PART, ncclFloat, ncclSum, root, comm, me->stream));
        NCCL(sum_part(me, comm, 1));
        NCCL(sum_part(me, comm, 3));
        NCCL(ncclGroupEnd());
        NCCL(ncclGroupStart());
        NCCL(sum_part(me, comm, 2));
        NCCL(send_part(me, comm, 0, root));
        NCCL(send_part(me, comm, 1, root));
        NCCL(ncclGroupEnd());
        check_part(me, 0, all, step, (float)n);
        check_part(me, 1, 1 << root, step, (float)n);
        check_part(me, 2, all, step, (float)n);
        check_part(me, 3, all, step, 1);
        check_part(me, 4, 1 << me->number, step, 1);

        /* A sum that is not fast behind one that is. */
        fill(me, step, LARGE);
        NCCL(all_reduce_of(me, comm, n, SMALL));
        NCCL(all_reduce_of(me, comm, n, LARGE));
        NCCL(all_reduce_of(me, comm, n, SMALL));
        check_times(me, all, step, (int)(bytes / sizeof(float)), (float)(n * n));
    }
    NCCL(ncclCommDestroy(comm));
}

/* To the next rank and from the one before, beside sums. */
static void messages(struct rank *me) {
    const int n = me->ranks, next = (me->number + 1) % n, previous = (me->number + n - 1) % n;
    ncclComm_t comm = communicator_of_all(me);
    for (int step = 0; step < 8; step++) {
        fill(me, step, LARGE);
        NCCL(ncclGroupStart());
        NCCL(ncclSend(part(me, 0), PART, ncclFloat, next, comm, me->stream));
        NCCL(sum_part(me, comm, 1));
        NCCL(ncclRecv(part(me, 2), PART, ncclFloat, previous, comm, me->stream));
        NCCL(sum_part(me, comm, 3));
        NCCL(ncclGroupEnd());
        check_part(me, 0, 1 << me->number, step, 1);
        check_part(me, 1, everybody(me), step, 1);
        float host[PART];
        MUST(!cuda.download(host, (device_address)(size_t)part(me, 2), PART_BYTES, me->stream));
        MUST(!cuda.wait_stream(me->stream));
        for (int i = 0; i < PART; i++) MUST(host[i] == value_of(previous, step, i));
        check_part(me, 3, everybody(me), step, 1);
        /* What was received is summed. */
        NCCL(sum_part(me, comm, 2));
        MUST(!cuda.download(host, (device_address)(size_t)part(me, 2), PART_BYTES, me->stream));
        MUST(!cuda.wait_stream(me->stream));
        for (int i = 0; i < PART; i++) MUST(host[i] == sum_of(everybody(me), step, i));
    }
    NCCL(ncclCommDestroy(comm));
}

/* Process 0 has GPUs 0 and 1 and must group; process 2 has GPU 2 and does not. Process 1 has none. */
static void two_gpus_beside_one(struct rank *me) {
    agree_on_ids(me, 1);
    if (me->number == 1) return;
    const int all = everybody(me), has_two = me->number == 0, here = has_two ? 2 : 1;
    struct rank lanes[2] = {*me};
    ncclComm_t comms[2];
    if (has_two) lanes[1] = open_rank(1, me->ranks);
    if (has_two) NCCL(ncclGroupStart());
    for (int i = 0; i < here; i++) {
        use(&lanes[i]);
        NCCL(ncclCommInitRank(&comms[i], me->ranks, shared->ids[0], lanes[i].number));
    }
    if (has_two) NCCL(ncclGroupEnd());
    for (int step = 0; step < 10; step++) {
        const int count = step % 4 == 2 ? LARGE : SMALL;
        for (int i = 0; i < here; i++) {
            use(&lanes[i]);
            fill(&lanes[i], step, count);
        }
        if (has_two) NCCL(ncclGroupStart());
        for (int i = 0; i < here; i++) NCCL(all_reduce_of(&lanes[i], comms[i], me->ranks, count));
        if (has_two) NCCL(ncclGroupEnd());
        for (int i = 0; i < here; i++) {
            use(&lanes[i]);
            check(&lanes[i], all, step, count);
        }
    }
    for (int i = 0; i < here; i++) NCCL(ncclCommDestroy(comms[i]));
}

/* Communicators are made in a group, of the first kind and by a split, and used after it. */
static void made_in_a_group(struct rank *me) {
    const int all = everybody(me);
    ncclComm_t comms[2], children[2];
    agree_on_ids(me, 2);
    NCCL(ncclGroupStart());
    for (int i = 0; i < 2; i++)
        NCCL(ncclCommInitRank(&comms[i], me->ranks, shared->ids[i], i ? me->ranks - 1 - me->number : me->number));
    NCCL(ncclGroupEnd());
    for (int i = 0; i < 2; i++) must_be("undecided: ", comms[i], SMALL);
    try_out(me, comms[1], all, 0);
    /* A child of one that is fast, and of one that is new; beside operations. */
    fill(me, 2, SMALL);
    NCCL(ncclGroupStart());
    NCCL(ncclCommSplit(comms[0], 0, me->number, &children[0], NULL));
    NCCL(ncclCommSplit(comms[1], 0, -me->number, &children[1], NULL));
    NCCL(ncclGroupEnd());
    for (int i = 0; i < 2; i++) try_out(me, children[i], all, 2 + i);
    for (int i = 0; i < 2; i++) try_out(me, comms[i], all, 4 + i);
    for (int i = 0; i < 2; i++) NCCL(ncclCommDestroy(comms[i]));
    for (int i = 0; i < 2; i++) try_out(me, children[i], all, 6 + i);
    for (int i = 0; i < 2; i++) NCCL(ncclCommDestroy(children[i]));
}

/* ---- Groups that come to nothing ---- */

/* A call that is refused is refused by the group's end too, which does nothing; the next group works. */
static void errors(struct rank *me) {
    const int all = everybody(me), own = 1 << me->number;
    void *data = (void *)(size_t)me->buffer;
    ncclComm_t comm = communicator_of_all(me);
    enum { BAD_TYPE, BAD_OP, BAD_ROOT, BAD_PEER, NO_COMMUNICATOR, KINDS };
    for (int round = 0; round < 2 * KINDS; round++) {
        /* In the first round the communicator has not been used yet. */
        const int kind = round % KINDS, is_nested = round >= KINDS;
        fill(me, round, LARGE);
        NCCL(ncclGroupStart());
        if (is_nested) NCCL(ncclGroupStart());
        NCCL(ncclAllReduce(data, data, SMALL, ncclFloat, ncclSum, comm, me->stream));
        switch (kind) {
            case BAD_TYPE:
                GIVES(ncclInvalidArgument, ncclAllReduce(data, data, SMALL, 99, ncclSum, comm, me->stream));
                atomic_fetch_add(&expected_forwarded, 1);
                break;
            case BAD_OP:
                GIVES(ncclInvalidArgument, ncclAllReduce(data, data, SMALL, ncclFloat, 99, comm, me->stream));
                atomic_fetch_add(&expected_forwarded, 1);
                break;
            case BAD_ROOT:
                GIVES(ncclInvalidArgument, ncclBroadcast(data, data, SMALL, ncclFloat, me->ranks, comm, me->stream));
                break;
            case BAD_PEER: GIVES(ncclInvalidArgument, ncclSend(data, SMALL, ncclFloat, -1, comm, me->stream)); break;
            default: GIVES(ncclInvalidArgument, ncclAllReduce(data, data, SMALL, ncclFloat, ncclSum, NULL, me->stream));
        }
        NCCL(ncclAllReduce(part(me, 4), part(me, 4), PART, ncclFloat, ncclSum, comm, me->stream));
        if (is_nested) NCCL(ncclGroupEnd());
        GIVES(ncclInvalidArgument, ncclGroupEnd());
        check(me, own, round, LARGE);
        ncclResult_t state;
        NCCL(ncclCommGetAsyncError(comm, &state));
        NCCL(state);
        /* Nothing was left behind. */
        GIVES(ncclInvalidUsage, ncclGroupEnd());
        NCCL(ncclGroupStart());
        NCCL(sum_part(me, comm, 1));
        NCCL(ncclGroupEnd());
        check_part(me, 1, all, round, 1);
        check_part(me, 0, own, round, 1);
        try_out(me, comm, all, round);
    }
    /* Nothing to do, in a group and alone; the buffers may be NULL. */
    NCCL(ncclGroupStart());
    NCCL(ncclAllReduce(NULL, NULL, 0, ncclFloat, ncclSum, comm, me->stream));
    NCCL(ncclGroupEnd());
    NCCL(ncclAllReduce(NULL, NULL, 0, ncclFloat, ncclSum, comm, me->stream));
    atomic_fetch_add(&expected_forwarded, 2);
    try_out(me, comm, all, 3);
    NCCL(ncclCommDestroy(comm));
}

/* A simulated end drops what the group holds. */
static void simulated_ends(struct rank *me) {
    const int all = everybody(me), own = 1 << me->number;
    void *data = (void *)(size_t)me->buffer;
    ncclComm_t comm = communicator_of_all(me), revoked = communicator_of_all(me);
    sum(me, revoked, all, 0, SMALL);
    meet();
    NCCL(ncclCommRevoke(revoked, NCCL_REVOKE_DEFAULT));
    for (int round = 0; round < 4; round++) {
        /* In the first round the communicator has not been used yet. */
        fill(me, round, LARGE);
        ncclSimInfo_t info = NCCL_SIM_INFO_INITIALIZER;
        NCCL(ncclGroupStart());
        NCCL(ncclAllReduce(data, data, SMALL, ncclFloat, ncclSum, comm, me->stream));
        ncclResult_t expected = ncclSuccess;
        if (round == 1) {
            info.magic = 0;
            expected = ncclInvalidArgument;
        } else if (round == 2) {
            GIVES(ncclInvalidUsage, ncclAllReduce(data, data, SMALL, ncclFloat, ncclSum, revoked, me->stream));
            atomic_fetch_add(&expected_forwarded, 1);
            expected = ncclInvalidUsage;
        }
        GIVES(expected, ncclGroupSimulateEnd(&info));
        check(me, own, round, LARGE);
        /* At once, since no group is open. */
        NCCL(sum_part(me, comm, 2));
        check_part(me, 2, all, round, 1);
        check_part(me, 0, own, round, 1);
        GIVES(ncclInvalidUsage, ncclGroupEnd());

        /* Inside of another group it drops nothing. */
        fill(me, round, LARGE);
        NCCL(ncclGroupStart());
        NCCL(ncclGroupStart());
        NCCL(sum_part(me, comm, 3));
        NCCL(ncclGroupSimulateEnd(NULL));
        NCCL(sum_part(me, comm, 4));
        NCCL(ncclGroupEnd());
        check_part(me, 3, all, round, 1);
        check_part(me, 4, all, round, 1);
        try_out(me, comm, all, round);
    }
    GIVES(ncclInvalidUsage, ncclGroupSimulateEnd(NULL));
    NCCL(ncclCommDestroy(revoked));
    NCCL(ncclCommDestroy(comm));
}

/* ---- First all-reduces: what sets communicators up ---- */

enum { FRESH = 3 };

static void make_fresh(const struct rank *me, ncclComm_t *comms) {
    agree_on_ids(me, FRESH);
    for (int i = 0; i < FRESH; i++) NCCL(ncclCommInitRank(&comms[i], me->ranks, shared->ids[i], me->number));
}

static void check_fresh(const struct rank *me, ncclComm_t *comms, int step) {
    for (int i = 0; i < FRESH; i++) check_part(me, i, everybody(me), step, 1);
    for (int i = 0; i < FRESH; i++) try_out(me, comms[i], everybody(me), step);
    for (int i = 0; i < FRESH; i++) NCCL(ncclCommDestroy(comms[i]));
}

/* All-reduces of one communicator on several streams in one group: each stream waits for all of them. */
static void several_streams(struct rank *me) {
    ncclComm_t comm = communicator_of_all(me);
    void *streams[PARTS];
    for (int i = 0; i < PARTS; i++) MUST(!cuda.create_stream(&streams[i], 1));
    for (int step = 0; step < 20; step++) {
        /* What a stream brings is seen by the operations on the others: the data come by stream 1, part 0 is summed on stream 0. */
        float host[LARGE];
        for (int i = 0; i < LARGE; i++) host[i] = value_of(me->number, step, i);
        MUST(!cuda.upload(me->buffer, host, sizeof host, streams[1]));
        NCCL(ncclGroupStart());
        for (int i = 0; i < PARTS; i++) {
            struct rank there = *me;
            there.stream = streams[i];
            NCCL(sum_part(&there, comm, i));
        }
        NCCL(ncclGroupEnd());
        struct rank there = *me;
        there.stream = streams[step % PARTS];
        for (int i = 0; i < PARTS; i++) check_part(&there, i, everybody(me), step, 1);
    }
    NCCL(ncclCommDestroy(comm));
}

/* Each rank groups the first all-reduces of several communicators in an order of its own. */
static void first_uses_in_another_order(struct rank *me) {
    void *streams[FRESH];
    for (int i = 0; i < FRESH; i++) MUST(!cuda.create_stream(&streams[i], 1));
    for (int round = 0; round < 3; round++) {
        ncclComm_t comms[FRESH];
        make_fresh(me, comms);
        fill(me, round, LARGE);
        NCCL(ncclGroupStart());
        for (int i = 0; i < FRESH; i++) {
            const int which = (i * (round % 2 ? FRESH - 1 : 1) + me->number) % FRESH;
            struct rank there = *me;
            there.stream = streams[which];
            NCCL(sum_part(&there, comms[which], which));
        }
        NCCL(ncclGroupEnd());
        for (int i = 0; i < FRESH; i++) MUST(!cuda.wait_stream(streams[i]));
        check_fresh(me, comms, round);
    }
}

/* Rank 0 groups them, the others do not. */
static void first_uses_grouped_by_one(struct rank *me) {
    for (int round = 0; round < 3; round++) {
        ncclComm_t comms[FRESH];
        make_fresh(me, comms);
        fill(me, round, LARGE);
        if (me->number == 0) NCCL(ncclGroupStart());
        for (int i = 0; i < FRESH; i++) NCCL(sum_part(me, comms[i], i));
        if (me->number == 0) NCCL(ncclGroupEnd());
        check_fresh(me, comms, round);
    }
}

/* Process 0 has GPUs 0 and 1; its group holds the first all-reduces of several communicators. Process 2 calls one after the other. */
static void first_uses_of_two_gpus(struct rank *me) {
    agree_on_ids(me, FRESH);
    if (me->number == 1) return;
    const int has_two = me->number == 0, here = has_two ? 2 : 1;
    struct rank lanes[2] = {*me};
    ncclComm_t comms[2][FRESH];
    if (has_two) lanes[1] = open_rank(1, me->ranks);
    NCCL(ncclGroupStart());
    for (int lane = 0; lane < here; lane++) {
        use(&lanes[lane]);
        for (int i = 0; i < FRESH; i++)
            NCCL(ncclCommInitRank(&comms[lane][i], me->ranks, shared->ids[i], lanes[lane].number));
    }
    NCCL(ncclGroupEnd());
    for (int lane = 0; lane < here; lane++) {
        use(&lanes[lane]);
        fill(&lanes[lane], 0, LARGE);
    }
    if (has_two) NCCL(ncclGroupStart());
    for (int i = 0; i < FRESH; i++)
        for (int lane = 0; lane < here; lane++) NCCL(sum_part(&lanes[lane], comms[lane][i], i));
    if (has_two) NCCL(ncclGroupEnd());
    for (int lane = 0; lane < here; lane++) {
        use(&lanes[lane]);
        for (int i = 0; i < FRESH; i++) check_part(&lanes[lane], i, everybody(me), 0, 1);
        for (int i = 0; i < FRESH; i++) NCCL(ncclCommDestroy(comms[lane][i]));
    }
}

/* Each communicator has a thread of its own in each rank, and all come to their first all-reduce at once. */
struct seat {
    struct rank rank;
    ncclComm_t comm;
};

static void *use_own(void *argument) {
    const struct seat *seat = argument;
    use(&seat->rank);
    for (int step = 0; step < 3; step++) sum(&seat->rank, seat->comm, everybody(&seat->rank), step, SMALL);
    return NULL;
}

static void first_uses_by_several_threads(struct rank *me) {
    for (int round = 0; round < 3; round++) {
        ncclComm_t comms[FRESH];
        pthread_t threads[FRESH];
        struct seat seats[FRESH];
        make_fresh(me, comms);
        for (int i = 0; i < FRESH; i++) seats[i] = (struct seat){open_rank(me->number, me->ranks), comms[i]};
        meet();
        for (int i = 0; i < FRESH; i++) MUST(!pthread_create(&threads[i], NULL, use_own, &seats[i]));
        for (int i = 0; i < FRESH; i++) MUST(!pthread_join(threads[i], NULL));
        for (int i = 0; i < FRESH; i++) NCCL(ncclCommDestroy(comms[i]));
    }
}

/* ---- Configurations of calls ---- */

/* What ncclAllReduceConfig does with a configuration. */
static void sum_with(const struct rank *me, ncclComm_t comm, const ncclCollConfig_t *config, int is_fast) {
    void *data = (void *)(size_t)me->buffer;
    atomic_fetch_add(is_fast ? &expected_fast : &expected_forwarded, 1);
    NCCL(ncclAllReduceConfig(data, data, SMALL, ncclFloat, ncclSum, comm, me->stream, config));
}

static void configurations(struct rank *me) {
    const int all = everybody(me);
    ncclComm_t comm = communicator_of_all(me);
    ncclCollConfig_t plain = NCCL_COLLCONFIG_INITIALIZER, few = plain, many = plain, ring = plain;
    few.maxCTAs = 1;
    many.maxCTAs = 64;
    ring.algSelection = "ring";
    /* The second and the last one go to NCCL. The first one, with all ranks in the setup, is fast. */
    const ncclCollConfig_t *configs[] = {&plain, &few, NULL, &many, &ring};
    for (int i = 0; i < 5; i++) {
        fill(me, i, SMALL);
        sum_with(me, comm, configs[i], i != 1 && i != 4);
        check(me, all, i, SMALL);
    }
    /* A group keeps calls until its end, when their configurations may be gone. A communicator that is not set up decides there. */
    ncclComm_t fresh = communicator_of_all(me);
    for (int round = 0; round < 2; round++) {
        ncclComm_t of_round = round ? fresh : comm;
        fill(me, 5 + round, SMALL);
        NCCL(ncclGroupStart());
        {
            ncclCollConfig_t brief = round ? few : many;
            sum_with(me, of_round, &brief, !round);
            memset(&brief, 0xee, sizeof brief);
        }
        NCCL(ncclGroupEnd());
        check(me, all, 5 + round, SMALL);
    }
    sum(me, fresh, all, 7, SMALL);
    /* What is no configuration is NCCL's to refuse. */
    ncclCollConfig_t none = few;
    none.magic = 0;
    void *data = (void *)(size_t)me->buffer;
    atomic_fetch_add(&expected_forwarded, 1);
    GIVES(ncclInvalidArgument, ncclAllReduceConfig(data, data, SMALL, ncclFloat, ncclSum, comm, me->stream, &none));
    NCCL(ncclCommDestroy(fresh));
    NCCL(ncclCommDestroy(comm));
}

static const struct situation situations[] = {
    {.name = "configurations", .run = configurations, .way = PROCESSES, .ranks = 2, .since = 23102},
    {.name = "nested", .run = nested, .way = PROCESSES, .ranks = 2},
    {.name = "many-calls", .run = many_calls, .way = PROCESSES, .ranks = 2},
    {.name = "one-thread-with-all", .run = one_thread_with_all, .way = ONE_THREAD, .ranks = 3},
    {.name = "mixed", .run = mixed, .way = PROCESSES, .ranks = 3},
    {.name = "mixed-by-threads", .run = mixed, .way = THREADS, .ranks = 3},
    {.name = "messages", .run = messages, .way = PROCESSES, .ranks = 3},
    {.name = "two-gpus-beside-one", .run = two_gpus_beside_one, .way = PROCESSES, .ranks = 3},
    {.name = "made-in-a-group", .run = made_in_a_group, .way = PROCESSES, .ranks = 2},
    {.name = "errors", .run = errors, .way = PROCESSES, .ranks = 2},
    {.name = "simulated-ends", .run = simulated_ends, .way = PROCESSES, .ranks = 2},
    {.name = "several-streams", .run = several_streams, .way = THREADS, .ranks = 2},
    {.name = "first-uses-in-another-order", .run = first_uses_in_another_order, .way = PROCESSES, .ranks = 2},
    {.name = "first-uses-grouped-by-one", .run = first_uses_grouped_by_one, .way = PROCESSES, .ranks = 3},
    {.name = "first-uses-of-two-gpus", .run = first_uses_of_two_gpus, .way = PROCESSES, .ranks = 3},
    {.name = "first-uses-by-several-threads", .run = first_uses_by_several_threads, .way = PROCESSES, .ranks = 2},
};

int main(int argc, char **argv) {
    return run_situation(argc, argv, situations, sizeof situations / sizeof *situations);
}
