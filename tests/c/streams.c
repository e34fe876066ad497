/* Streams: all-reduces of a communicator run one after the other whatever streams they are on, without the application's help.
 * Usage and outcome are in situation.h. */
#define _GNU_SOURCE
#include <semaphore.h>

#include "chain.h"

enum { LEGACY_STREAM = 1, PER_THREAD_STREAM = 2 };

/* A communicator that is set up, so that nothing waits for the device any more. */
static ncclComm_t ready_communicator(const struct rank *me) {
    ncclComm_t comm = communicator_of_all(me);
    sum(me, comm, everybody(me), 0, SMALL);
    meet();
    return comm;
}

static void wait_for_all(void *const *streams, int count) {
    for (int i = 0; i < count; i++) MUST(!cuda.wait_stream(streams[i]));
}

/* ---- One communicator on several streams ---- */

/* Every rank picks streams of its own. The first stream of one rank is busy at first. */
static void many_streams(struct rank *me) {
    enum { STREAMS = 5, STEPS = 40 };
    ncclComm_t comm = ready_communicator(me);
    void *streams[STREAMS] = {new_stream(), new_stream()};
    MUST(!cuda.create_stream(&streams[2], 0));
    MUST(!more_cuda.create_stream_of_priority(&streams[3], NON_BLOCKING_STREAM, -1));
    MUST(!more_cuda.create_stream_of_priority(&streams[4], NON_BLOCKING_STREAM, 0));
    unsigned random = (unsigned)me->number;
    struct gate gate;
    for (int round = 0; round < 3; round++) {
        struct chain chain = new_chain(me, comm, SMALL, round);
        if (round == me->number) occupy(streams[0], &gate);
        extend(&chain, streams[0], SMALL);
        for (int step = 1; step < STEPS; step++) {
            extend(&chain, streams[next_random(&random) % STREAMS], SMALL);
            if (step == STEPS / 2 && round == me->number) {
                /* Nothing overtakes what has not begun. */
                usleep(20000);
                void *empty = new_stream();
                extend(&chain, empty, SMALL);
                MUST(more_cuda.query_stream(empty) != 0);
                open_gate(&gate);
                MUST(!cuda.wait_stream(empty) && !more_cuda.destroy_stream(empty));
            } else if (step == STEPS / 2) {
                extend(&chain, streams[1], SMALL);
            }
        }
        wait_for_all(streams, STREAMS);
        check_chain(&chain);
        free_chain(&chain);
    }
    NCCL(ncclCommDestroy(comm));
}

/* Messages larger than the scratch memory, which take several launches. */
static void several_launches(struct rank *me) {
    enum { STREAMS = 3, STEPS = 7, COUNT = 300000 };
    ncclComm_t comm = ready_communicator(me);
    void *streams[STREAMS] = {new_stream(), new_stream(), new_stream()};
    struct chain chain = new_chain(me, comm, COUNT, 1);
    must_be("fast: one_shot_ll", comm, COUNT);
    for (int step = 0; step < STEPS; step++) extend(&chain, streams[(step * me->number + step / 3) % STREAMS], step % 3 ? COUNT : SMALL);
    wait_for_all(streams, STREAMS);
    check_chain(&chain);
    NCCL(ncclCommDestroy(comm));
}

/* ---- Streams that come and go ---- */

/* The stream of the last operation is destroyed before the next one is called, on another stream. */
static void last_stream_is_destroyed(struct rank *me) {
    ncclComm_t comm = ready_communicator(me);
    struct chain chain = new_chain(me, comm, SMALL, 2);
    void *streams[] = {new_stream(), new_stream(), new_stream()};
    for (int i = 0; i < 3; i++) {
        extend(&chain, streams[i], SMALL);
        if (i == 2) MUST(!cuda.wait_stream(streams[i]));
        MUST(!more_cuda.destroy_stream(streams[i]));
    }
    check_chain(&chain);
    NCCL(ncclCommDestroy(comm));
}

/* A stream for each all-reduce, destroyed at once: drivers give the next one the same handle while work of the first still
 * runs. Nothing is waited for before the end. */
static void streams_come_and_go(struct rank *me) {
    enum { ROUNDS = 150 };
    ncclComm_t comm = ready_communicator(me);
    struct chain chain = new_chain(me, comm, SMALL, 3);
    void *before = NULL, *kept = new_stream();
    int same_handles = 0;
    struct gate gate;
    for (int round = 0; round < ROUNDS; round++) {
        void *first = new_stream();
        /* Now and then a stream has something else to do first, and one that has its handle has not. */
        const int is_late = round % 30 == 9 * me->number;
        if (is_late) occupy(first, &gate);
        extend(&chain, first, SMALL);
        MUST(!more_cuda.destroy_stream(first));
        const int is_again = round % 7 == me->number;
        void *second = is_again ? kept : new_stream();
        extend(&chain, second, SMALL);
        same_handles += (second == first) + (first == before);
        if (!is_again) MUST(!more_cuda.destroy_stream(second));
        before = second;
        if (is_late) {
            usleep(5000);
            open_gate(&gate);
        }
    }
    extend(&chain, kept, SMALL);
    MUST(!cuda.wait_stream(kept));
    check_chain(&chain);
    if (me->number == 0) printf("same-handles=%d\n", same_handles);
    NCCL(ncclCommDestroy(comm));
}

/* ---- Default streams ---- */

enum { THREADS_IN_TURN = 3, TURNS = 12 };

struct turns {
    struct chain *chain;
    sem_t mine[THREADS_IN_TURN];
};

struct taker {
    struct turns *turns;
    int number;
};

/* Every third all-reduces are this thread's: on its own default stream, then on the one of all threads. */
static void *take_turns(void *argument) {
    const struct taker *taker = argument;
    struct turns *turns = taker->turns;
    use(turns->chain->me);
    for (int turn = taker->number; turn < TURNS; turn += THREADS_IN_TURN) {
        MUST(!sem_wait(&turns->mine[taker->number]));
        extend(turns->chain, (void *)PER_THREAD_STREAM, SMALL);
        if (turn % 4 == 1) extend(turns->chain, NULL, SMALL);
        MUST(!sem_post(&turns->mine[(taker->number + 1) % THREADS_IN_TURN]));
    }
    MUST(!cuda.wait_stream((void *)PER_THREAD_STREAM));
    return NULL;
}

/* Ends while the work on its default stream may still run. */
static void *extend_and_end(void *chain) {
    use(((struct chain *)chain)->me);
    extend(chain, (void *)PER_THREAD_STREAM, SMALL);
    return NULL;
}

static void default_streams(struct rank *me) {
    ncclComm_t comm = ready_communicator(me);
    struct chain chain = new_chain(me, comm, SMALL, 4);
    void *blocking;
    MUST(!cuda.create_stream(&blocking, 0));
    void *const streams[] = {NULL, (void *)LEGACY_STREAM, (void *)PER_THREAD_STREAM, blocking, new_stream()};
    for (int step = 0; step < 20; step++) extend(&chain, streams[step * (me->number + 1) % 5], SMALL);
    wait_for_all(streams, 5);
    check_chain(&chain);

    begin_again(&chain, 5);
    struct turns turns = {.chain = &chain};
    struct taker takers[THREADS_IN_TURN];
    pthread_t threads[THREADS_IN_TURN];
    for (int i = 0; i < THREADS_IN_TURN; i++) {
        takers[i] = (struct taker){&turns, i};
        MUST(!sem_init(&turns.mine[i], 0, i == 0));
    }
    for (int i = 0; i < THREADS_IN_TURN; i++) MUST(!pthread_create(&threads[i], NULL, take_turns, &takers[i]));
    for (int i = 0; i < THREADS_IN_TURN; i++) MUST(!pthread_join(threads[i], NULL));
    MUST(!cuda.wait_stream(NULL));
    check_chain(&chain);

    begin_again(&chain, 6);
    for (int i = 0; i < 6; i++) {
        MUST(!pthread_create(&threads[0], NULL, extend_and_end, &chain));
        MUST(!pthread_join(threads[0], NULL));
    }
    extend(&chain, streams[4], SMALL);
    MUST(!cuda.wait_stream(streams[4]));
    check_chain(&chain);
    NCCL(ncclCommDestroy(comm));
}

/* ---- Beside other work ---- */

/* Communicators on streams of their own, called in another order by every rank: each waits for its own peers only. */
static void other_order_on_each_rank(struct rank *me) {
    enum { COMMS = 3, ROUNDS = 12 };
    ncclComm_t comms[COMMS];
    struct chain chains[COMMS];
    void *streams[COMMS];
    for (int i = 0; i < COMMS; i++) {
        comms[i] = ready_communicator(me);
        chains[i] = new_chain(me, comms[i], SMALL, i);
        streams[i] = new_stream();
    }
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < COMMS; i++) {
            const int now = (i + me->number) % COMMS;
            extend(&chains[now], streams[now], SMALL);
        }
    wait_for_all(streams, COMMS);
    for (int i = 0; i < COMMS; i++) {
        check_chain(&chains[i]);
        NCCL(ncclCommDestroy(comms[i]));
    }
}

/* Work of the application keeps all-reduces waiting, on its own stream and through them on others; peers wait along. */
static void behind_other_work(struct rank *me) {
    ncclComm_t comm = ready_communicator(me);
    void *streams[] = {new_stream(), new_stream(), new_stream()};
    struct gate gate;
    for (int busy = 0; busy < me->ranks; busy++) {
        struct chain chain = new_chain(me, comm, SMALL, busy);
        meet();
        if (me->number == busy) occupy(streams[0], &gate);
        for (int step = 0; step < 12; step++) extend(&chain, streams[step / 3 % 3], SMALL);
        usleep(20000);
        for (int i = 0; i < 3; i++) MUST(more_cuda.query_stream(streams[i]) != 0);
        meet();
        if (me->number == busy) open_gate(&gate);
        wait_for_all(streams, 3);
        check_chain(&chain);
        free_chain(&chain);
    }
    NCCL(ncclCommDestroy(comm));
}

/* What is done here and what is forwarded, on several streams that the application orders. */
static void with_forwarded(struct rank *me) {
    enum { STREAMS = 3 };
    ncclComm_t comm = ready_communicator(me);
    void *streams[STREAMS] = {new_stream(), new_stream(), new_stream()}, *last = streams[0];
    struct chain chain = new_chain(me, comm, LARGE, 7);
    void *data = (void *)(size_t)chain.buffer;
    struct gate gate;
    /* NCCL connects the ranks at the first call of a kind, and waits for that. */
    NCCL(ncclReduce(data, data, LARGE, type_of(&chain), ncclSum, 1, comm, last));
    NCCL(ncclBroadcast(data, data, LARGE, type_of(&chain), 1, comm, last));
    has_run(&chain, 1, LARGE);
    extend(&chain, last, LARGE);
    MUST(!cuda.wait_stream(last));
    if (me->number == 1) occupy(last, &gate);
    for (int step = 0; step < 16; step++) {
        void *stream = streams[(step * step + me->number) % STREAMS];
        await_stream(stream, last);
        last = stream;
        if (step % 4 == 3) {
            /* An all-reduce made of two others. */
            NCCL(ncclReduce(data, data, LARGE, type_of(&chain), ncclSum, 1, comm, stream));
            stream = streams[(step + 1) % STREAMS];
            await_stream(stream, last);
            last = stream;
            NCCL(ncclBroadcast(data, data, LARGE, type_of(&chain), 1, comm, stream));
            has_run(&chain, 1, LARGE);
        } else {
            extend(&chain, stream, step % 4 == 1 ? LARGE : SMALL);
        }
        if (step == 8 && me->number == 1) open_gate(&gate);
    }
    MUST(!cuda.wait_stream(last));
    check_chain(&chain);
    NCCL(ncclCommDestroy(comm));
}

int main(int argc, char **argv) {
    static const struct situation situations[] = {
        {.name = "many", .run = many_streams, .way = PROCESSES, .ranks = 3},
        {.name = "many-of-threads", .run = many_streams, .way = THREADS, .ranks = 2},
        {.name = "one-connection",
         .run = many_streams,
         .way = PROCESSES,
         .ranks = 2,
         .environment = {"CUDA_DEVICE_MAX_CONNECTIONS=1"}},
        {.name = "several-launches",
         .run = several_launches,
         .way = PROCESSES,
         .ranks = 3,
         .environment = {"DIME_KERNEL=one_shot_ll", "DIME_THRESHOLD_BYTES=2097152"}},
        {.name = "last-is-destroyed", .run = last_stream_is_destroyed, .way = THREADS, .ranks = 2},
        {.name = "come-and-go", .run = streams_come_and_go, .way = PROCESSES, .ranks = 3},
        {.name = "come-and-go-of-threads", .run = streams_come_and_go, .way = THREADS, .ranks = 3, .own_gpus = 1},
        {.name = "default-streams", .run = default_streams, .way = PROCESSES, .ranks = 2},
        {.name = "default-streams-of-threads", .run = default_streams, .way = THREADS, .ranks = 2, .own_gpus = 1},
        {.name = "other-order-on-each-rank", .run = other_order_on_each_rank, .way = PROCESSES, .ranks = 3},
        {.name = "behind-other-work", .run = behind_other_work, .way = PROCESSES, .ranks = 3},
        {.name = "with-forwarded", .run = with_forwarded, .way = PROCESSES, .ranks = 2},
        {.name = "with-forwarded-of-threads", .run = with_forwarded, .way = THREADS, .ranks = 3},
    };
    return run_situation(argc, argv, situations, sizeof situations / sizeof *situations);
}
