/* Chains of all-reduces in place, on any stream: each one's input is the result of the one before, so the last result tells whether
 * all ran one after the other, each once.
 *
 * Elements are uint32 where the number of ranks is odd: each all-reduce multiplies them by it modulo 2^32, so they never become 0.
 * Where it is a power of two they are floats, which stay exact for some dozens of steps. */
#ifndef CHAIN_H
#define CHAIN_H

#include "situation.h"

enum { NON_BLOCKING_STREAM = 1, WITHOUT_TIME = 2, LONGEST_OF_FLOATS = 50 };

struct chain {
    const struct rank *me;
    ncclComm_t comm;
    device_address buffer;
    /* Of the buffer; an all-reduce may be of fewer, the first ones. */
    int count;
    /* All-reduces of SMALL elements or more, and of more. */
    int steps, large_steps;
    int step;
};

static inline int is_exact_in_floats(const struct rank *me) {
    return (me->ranks & (me->ranks - 1)) == 0;
}

static inline ncclDataType_t type_of(const struct chain *chain) {
    return is_exact_in_floats(chain->me) ? ncclFloat : ncclUint32;
}

/* Gives every element its first value. The chain's operations must be over. */
static inline void begin_again(struct chain *chain, int step) {
    uint32_t *host = malloc((size_t)chain->count * sizeof *host);
    MUST(host != NULL);
    for (int i = 0; i < chain->count; i++) {
        const float value = value_of(chain->me->number, step, i);
        const uint32_t number = (uint32_t)value;
        memcpy(&host[i], is_exact_in_floats(chain->me) ? (const void *)&value : (const void *)&number, sizeof *host);
    }
    MUST(!cuda.upload(chain->buffer, host, (size_t)chain->count * sizeof *host, chain->me->stream));
    MUST(!cuda.wait_stream(chain->me->stream));
    free(host);
    chain->steps = chain->large_steps = 0;
    chain->step = step;
}

static inline struct chain new_chain(const struct rank *me, ncclComm_t comm, int count, int step) {
    struct chain chain = {.me = me, .comm = comm, .count = count};
    MUST(!cuda.allocate(&chain.buffer, (size_t)count * sizeof(uint32_t)));
    begin_again(&chain, step);
    return chain;
}

/* The next all-reduce, of the first `count` elements, when it is captured: it runs as often as the graph is launched. */
static inline void enqueue(const struct chain *chain, void *stream, int count) {
    void *data = (void *)(size_t)chain->buffer;
    const int is_fast = (size_t)count * sizeof(uint32_t) <= threshold_bytes();
    atomic_fetch_add(is_fast ? &expected_fast : &expected_forwarded, 1);
    NCCL(ncclAllReduce(data, data, (size_t)count, type_of(chain), ncclSum, chain->comm, stream));
}

static inline void has_run(struct chain *chain, int times, int count) {
    chain->steps += times;
    if (count > SMALL) chain->large_steps += times;
}

/* The next all-reduce. */
static inline void extend(struct chain *chain, void *stream, int count) {
    enqueue(chain, stream, count);
    has_run(chain, 1, count);
}

/* Waits for nothing but its own download: the chain's operations must be over. */
static inline void check_chain(const struct chain *chain) {
    const struct rank *me = chain->me;
    uint32_t *host = malloc((size_t)chain->count * sizeof *host);
    MUST(host != NULL);
    MUST(!cuda.download(host, chain->buffer, (size_t)chain->count * sizeof *host, me->stream));
    MUST(!cuda.wait_stream(me->stream));
    for (int i = 0; i < chain->count; i++) {
        const int steps = i < SMALL ? chain->steps : chain->large_steps;
        uint32_t given, expected;
        if (is_exact_in_floats(me)) {
            MUST(steps <= LONGEST_OF_FLOATS);
            float value = steps ? sum_of(everybody(me), chain->step, i) : value_of(me->number, chain->step, i);
            for (int again = 1; again < steps; again++) value *= (float)me->ranks;
            memcpy(&expected, &value, sizeof expected);
        } else {
            expected = (uint32_t)(steps ? sum_of(everybody(me), chain->step, i) : value_of(me->number, chain->step, i));
            for (int again = 1; again < steps; again++) expected *= (uint32_t)me->ranks;
        }
        given = host[i];
        if (given == expected) continue;
        printf("failed=rank %d, element %d after %d steps: bits %08x, not %08x\n", me->number, i, steps, given, expected);
        fflush(stdout);
        _exit(1);
    }
    free(host);
}

static inline void free_chain(struct chain *chain) {
    MUST(!more_cuda.free(chain->buffer));
}

static inline void *new_stream(void) {
    void *stream;
    MUST(!cuda.create_stream(&stream, NON_BLOCKING_STREAM));
    return stream;
}

static inline void *new_event(void) {
    void *event;
    MUST(!more_cuda.create_event(&event, WITHOUT_TIME));
    return event;
}

/* What comes on `stream` from now on waits for all that is on `earlier`, by an event of the application. */
static inline void await_stream(void *stream, void *earlier) {
    void *event = new_event();
    MUST(!more_cuda.record(event, earlier) && !more_cuda.await(stream, event, 0));
    MUST(!more_cuda.destroy_event(event));
}

/* Work of the host that keeps a stream busy until somebody opens the gate. */
struct gate {
    atomic_int is_open;
};

static inline void wait_at(void *gate) {
    while (!atomic_load(&((struct gate *)gate)->is_open)) usleep(200);
}

static inline void occupy(void *stream, struct gate *gate) {
    atomic_store(&gate->is_open, 0);
    MUST(!more_cuda.call_host(stream, wait_at, gate));
}

static inline void open_gate(struct gate *gate) {
    atomic_store(&gate->is_open, 1);
}

/* A number that looks random; the same for all who begin with the same state. */
static inline unsigned next_random(unsigned *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 16;
}

#endif
