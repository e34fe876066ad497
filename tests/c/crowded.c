/* Launches that take as much of the GPUs as they may: those of two communicators that the ranks come to in different order, and the next
 * ones of each, which take their places early. Each must find its place beside all that waits for it, in whatever order they came.
 * Usage and outcome are in situation.h. */
#define _GNU_SOURCE
#include <stdint.h>

#include "situation.h"

/* All-reduces of a round, the third as the first. */
enum { MAX_BYTES = 4 << 20, LATE_US = 30000, CALLS = 3 };

static const struct shape {
    ncclDataType_t type;
    ncclRedOp_t op;
    size_t bytes;
} shapes[] = {
    {ncclBfloat16, ncclSum, 24538}, {ncclBfloat16, ncclSum, 128 << 10}, {ncclFloat, ncclSum, 512 << 10}, {ncclFloat, ncclSum, MAX_BYTES},
    {ncclFloat, ncclMax, 128 << 10}, {ncclFloat, ncclMax, 1100 << 10},  {ncclInt32, ncclSum, 256 << 10}, {ncclInt32, ncclSum, 1 << 20},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* A communicator, and where the all-reduces of a round leave their results. */
struct queue {
    ncclComm_t comm;
    void *stream;
    device_address results[CALLS];
};

static size_t size_of(ncclDataType_t type) {
    return type == ncclBfloat16 ? 2 : 4;
}

/* An element of this value, in the low bytes. */
static uint32_t bits_of(ncclDataType_t type, int value) {
    uint32_t bits;
    memcpy(&bits, &(float){(float)value}, sizeof bits);
    return type == ncclInt32 ? (uint32_t)value : type == ncclBfloat16 ? bits >> 16 : bits;
}

static device_address whole_numbers(const struct rank *me, ncclDataType_t type, int value) {
    unsigned char *host = malloc(MAX_BYTES);
    device_address address;
    MUST(host && !cuda.allocate(&address, MAX_BYTES));
    for (size_t at = 0; at < MAX_BYTES; at += size_of(type)) memcpy(&host[at], &(uint32_t){bits_of(type, value)}, size_of(type));
    MUST(!cuda.upload(address, host, MAX_BYTES, me->stream) && !cuda.wait_stream(me->stream));
    free(host);
    return address;
}

static void check_result(const struct rank *me, const struct shape *shape, const struct queue *queue, int which) {
    unsigned char *host = malloc(shape->bytes);
    const int ranks = me->ranks;
    const uint32_t expected = bits_of(shape->type, shape->op == ncclMax ? ranks : ranks * (ranks + 1) / 2);
    const size_t size = size_of(shape->type);
    MUST(host && !cuda.wait_stream(queue->stream));
    MUST(!cuda.download(host, queue->results[which], shape->bytes, queue->stream) && !cuda.wait_stream(queue->stream));
    for (size_t at = 0; at < shape->bytes; at += size) MUST(memcmp(&host[at], &expected, size) == 0);
    free(host);
}

static void enqueue(const struct shape *shape, const device_address *inputs, const struct queue *queue, int which) {
    const size_t count = shape->bytes / size_of(shape->type);
    const void *in = (const void *)(size_t)inputs[shape->type];
    NCCL(ncclAllReduce(in, (void *)(size_t)queue->results[which], count, shape->type, shape->op, queue->comm, queue->stream));
}

static void must_be_fast(ncclComm_t comm, const struct shape *shape) {
    char text[160];
    NCCL(dimeExplain(comm, shape->bytes / size_of(shape->type), shape->type, shape->op, text, sizeof text));
    MUST(is_nccl_alone() || strncmp(text, "fast: ", 6) == 0);
}

static struct queue open_queue(const struct rank *me) {
    struct queue queue = {.comm = communicator_of_all(me)};
    MUST(!more_cuda.create_stream_of_priority(&queue.stream, 1, 0));
    for (int i = 0; i < CALLS; i++) MUST(!cuda.allocate(&queue.results[i], MAX_BYTES));
    /* On the queue's stream from the first: a communicator that has been on several streams lets no launch start early. */
    struct rank on_queue = *me;
    on_queue.stream = queue.stream;
    sum(&on_queue, queue.comm, everybody(me), 0, SMALL);
    for (int i = 0; i < SHAPES; i++) must_be_fast(queue.comm, &shapes[i]);
    return queue;
}

static void fill_inputs(const struct rank *me, device_address *inputs) {
    for (int i = 0; i < SHAPES; i++)
        if (!inputs[shapes[i].type]) inputs[shapes[i].type] = whole_numbers(me, shapes[i].type, me->number + 1);
}

/* Half of the ranks come to one communicator first, the others to the other, with some all-reduces each. */
static void other_orders(struct rank *me) {
    device_address inputs[ncclNumTypes] = {0};
    struct queue queues[2] = {open_queue(me), open_queue(me)};
    fill_inputs(me, inputs);
    for (int round = 0; round < SHAPES * SHAPES; round++) {
        const struct shape *first = &shapes[round % SHAPES], *chosen[CALLS] = {first, &shapes[round / SHAPES], first};
        meet();
        for (int turn = 0; turn < 2; turn++) {
            const int i = (turn + me->number) % 2;
            for (int which = 0; which < CALLS; which++) enqueue(chosen[which], inputs, &queues[i], which);
            usleep(LATE_US);
        }
        for (int i = 0; i < 2; i++)
            for (int which = 0; which < CALLS; which++) check_result(me, chosen[which], &queues[i], which);
    }
    for (int i = 0; i < 2; i++) NCCL(ncclCommDestroy(queues[i].comm));
}

/* One rank is late, and the others have their next launch on the GPU before it has its first: where it shares the GPU with them. */
static void late_ranks(struct rank *me) {
    device_address inputs[ncclNumTypes] = {0};
    const struct queue queue = open_queue(me);
    fill_inputs(me, inputs);
    for (int round = 0; round < SHAPES * SHAPES; round++) {
        const struct shape *first = &shapes[round % SHAPES], *chosen[CALLS] = {first, &shapes[round / SHAPES], first};
        meet();
        if (me->number == round % me->ranks) usleep(LATE_US);
        for (int which = 0; which < CALLS; which++) enqueue(chosen[which], inputs, &queue, which);
        for (int which = 0; which < CALLS; which++) check_result(me, chosen[which], &queue, which);
    }
    NCCL(ncclCommDestroy(queue.comm));
}

int main(int argc, char **argv) {
    static const struct situation situations[] = {
        {.name = "other-orders",
         .run = other_orders,
         .way = PROCESSES,
         .ranks = 2,
         .uncounted = 1,
         .environment = {"DIME_THRESHOLD_BYTES=4194304"}},
        {.name = "late-ranks",
         .run = late_ranks,
         .way = THREADS,
         .ranks = 4,
         .uncounted = 1,
         .environment = {"DIME_THRESHOLD_BYTES=4194304"}},
    };
    return run_situation(argc, argv, situations, sizeof situations / sizeof *situations);
}
