/* Batch invariance: the bits of an element depend on the ranks' contributions to it alone. A row of floats is repeated in messages
 * of many sizes, from different places on, and each of its elements must always get the bits that the row alone gets. Usage and
 * outcome are in situation.h; DIME_BATCH_INVARIANT=1 is in the environment of each situation. */
#define _GNU_SOURCE
#include "situation.h"

/* Elements of the row: odd, so that the rows lie differently in packets, chunks and pieces. */
enum { ROW = 1021, MIB = 1 << 20 };

/* Contributions of very different magnitude: the order in which they are added shows in the last bits. */
static float contribution(int rank, int element) {
    const unsigned mixed = (unsigned)(rank * 7919 + element * 104729 + 12345) * 2654435761u;
    const float magnitude = (float)(1 << (mixed >> 28));
    return ((mixed >> 8 & 1) ? -1.0f : 1.0f) * magnitude * (1.0f + (float)(mixed & 0xffff) / 65536.0f);
}

/* One rank's buffers, with room for the largest message and an offset. */
struct rows {
    struct rank *me;
    ncclComm_t comm;
    ncclDataType_t type;
    size_t element_bytes, most;
    device_address input, output;
    unsigned char *host;
    /* The row's result. */
    unsigned char expected[ROW * 4];
};

/* The contribution as the type has it; bf16 is cut off. */
static void put(const struct rows *rows, unsigned char *at, float value) {
    unsigned bits;
    memcpy(&bits, &value, 4);
    if (rows->element_bytes == 2) bits >>= 16;
    memcpy(at, &bits, rows->element_bytes);
}

static struct rows new_rows(struct rank *me, ncclComm_t comm, ncclDataType_t type, size_t most) {
    struct rows rows = {.me = me, .comm = comm, .type = type, .element_bytes = type == ncclBfloat16 ? 2 : 4, .most = most};
    const size_t bytes = (most + 8) * rows.element_bytes;
    MUST(!cuda.allocate(&rows.input, bytes) && !cuda.allocate(&rows.output, bytes));
    MUST((rows.host = malloc(bytes)) != NULL);
    return rows;
}

static void free_rows(const struct rows *rows) {
    MUST(!more_cuda.free(rows->input) && !more_cuda.free(rows->output));
    free(rows->host);
}

/* All-reduces `count` elements that begin with element `first` of the row, `offset` elements behind the buffers' begin. Leaves the
 * result in `host`. */
static void all_reduce_rows(const struct rows *rows, size_t count, int first, int offset, int captured) {
    const size_t bytes = count * rows->element_bytes, skip = (size_t)offset * rows->element_bytes;
    void *stream = rows->me->stream, *graph, *executable;
    for (size_t i = 0; i < count; i++)
        put(rows, rows->host + i * rows->element_bytes, contribution(rows->me->number, (int)((i + (size_t)first) % ROW)));
    MUST(!cuda.upload(rows->input + skip, rows->host, bytes, stream) && !cuda.wait_stream(stream));
    if (captured) MUST(!more_cuda.begin_capture(stream, 1));
    NCCL(ncclAllReduce((void *)(size_t)(rows->input + skip), (void *)(size_t)(rows->output + skip), count, rows->type, ncclSum, rows->comm,
                       stream));
    if (captured) {
        MUST(!more_cuda.end_capture(stream, &graph) && !more_cuda.instantiate(&executable, graph, 0));
        MUST(!more_cuda.launch(executable, stream) && !cuda.wait_stream(stream));
        MUST(!more_cuda.destroy_executable(executable) && !more_cuda.destroy_graph(graph));
    }
    memset(rows->host, 0xee, bytes);
    MUST(!cuda.wait_stream(stream) && !cuda.download(rows->host, rows->output + skip, bytes, stream));
    MUST(!cuda.wait_stream(stream));
}

static void check_rows(const struct rows *rows, size_t count, int first, int offset, int captured) {
    all_reduce_rows(rows, count, first, offset, captured);
    for (size_t i = 0; i < count; i++) {
        const size_t element = (i + (size_t)first) % ROW;
        if (!memcmp(rows->host + i * rows->element_bytes, rows->expected + element * rows->element_bytes, rows->element_bytes)) continue;
        printf("failed=element %zu of %zu, element %zu of the row, offset %d, captured %d: other bits than in a row alone\n", i, count,
               element, offset, captured);
        fflush(stdout);
        _exit(1);
    }
}

/* The row alone. Floats of 32 bits are added in the order of the ranks, so their bits are known. */
static void learn(struct rows *rows) {
    all_reduce_rows(rows, ROW, 0, 0, 0);
    memcpy(rows->expected, rows->host, ROW * rows->element_bytes);
    int order_shows = 0;
    for (int element = 0; rows->element_bytes == 4 && element < ROW; element++) {
        float sum = contribution(0, element), backwards = contribution(rows->me->ranks - 1, element);
        for (int rank = 1; rank < rows->me->ranks; rank++) {
            sum += contribution(rank, element);
            backwards += contribution(rows->me->ranks - 1 - rank, element);
        }
        MUST(!memcmp(&sum, rows->expected + element * 4, 4));
        order_shows |= sum != backwards;
    }
    MUST(rows->element_bytes != 4 || rows->me->ranks == 2 || order_shows);
}

static void all_sizes(struct rank *me, size_t most_bytes) {
    static const size_t counts[] = {1, 2, 3, 7, 64, ROW, 5000, 33333, 200001, 700001};
    ncclComm_t comm = communicator_of_all(me);
    for (int type = 0; type < 2; type++) {
        struct rows rows = new_rows(me, comm, type ? ncclBfloat16 : ncclFloat, most_bytes / (type ? 2 : 4) + 5);
        /* The communicator's first all-reduce is larger than any that begins a setup otherwise. */
        if (type == 0) all_reduce_rows(&rows, rows.most, 0, 0, 0);
        learn(&rows);
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
            for (int captured = 0; captured < 2; captured++) check_rows(&rows, counts[i], (int)(i * 100 % ROW), (int)(i % 4), captured);
        check_rows(&rows, rows.most - 3, 17, 1, type);
        must_be("fast: ", comm, 100 * MIB);
        free_rows(&rows);
    }
    meet();
    unsigned long long fast, forwarded;
    counted(&fast, &forwarded);
    MUST(fast > 0 && forwarded == 0);
    NCCL(ncclCommDestroy(comm));
}

static void sizes(struct rank *me) {
    all_sizes(me, 40 * MIB);
}

/* As above, on ranks whose simulation takes longer. */
static void fewer_sizes(struct rank *me) {
    all_sizes(me, 33 * MIB);
}

/* A first all-reduce in a capture would go to NCCL: floats are refused, and the way out works. Integers are not refused. */
static void first_in_a_capture(struct rank *me) {
    ncclComm_t comm = communicator_of_all(me);
    void *data = (void *)(size_t)me->buffer, *graph;
    for (int grouped = 0; grouped < 2; grouped++) {
        MUST(!more_cuda.begin_capture(me->stream, 1));
        if (grouped) NCCL(ncclGroupStart());
        const ncclResult_t call = ncclAllReduce(data, data, SMALL, ncclFloat, ncclSum, comm, me->stream);
        const ncclResult_t result = grouped ? ncclGroupEnd() : call;
        MUST(result == ncclInvalidUsage && (!grouped || call == ncclSuccess));
        MUST(strstr(ncclGetLastError(comm), "DIME_BATCH_INVARIANT=1") && strstr(ncclGetLastError(comm), "outside of captures first"));
        MUST(!more_cuda.end_capture(me->stream, &graph) && !more_cuda.destroy_graph(graph));
        meet();
    }
    MUST(!more_cuda.begin_capture(me->stream, 1));
    NCCL(ncclAllReduce(data, data, SMALL, ncclInt, ncclSum, comm, me->stream));
    MUST(!more_cuda.end_capture(me->stream, &graph) && !more_cuda.destroy_graph(graph));
    meet();
    struct rows rows = new_rows(me, comm, ncclFloat, ROW);
    learn(&rows);
    check_rows(&rows, ROW, 0, 0, 1);
    free_rows(&rows);
    NCCL(ncclCommDestroy(comm));
}

/* Large integers, and operations that the user made, go to NCCL as ever. */
static void what_goes_to_nccl(struct rank *me) {
    ncclComm_t comm = communicator_of_all(me);
    void *data = (void *)(size_t)me->buffer;
    ncclRedOp_t half;
    float factor = 0.5f;
    NCCL(ncclRedOpCreatePreMulSum(&half, &factor, ncclFloat, ncclScalarHostImmediate, comm));
    sum(me, comm, everybody(me), 1, SMALL);
    unsigned long long fast, forwarded, fast_now, forwarded_now;
    meet();
    counted(&fast, &forwarded);
    meet();
    NCCL(ncclAllReduce(data, data, LARGE, ncclInt, ncclSum, comm, me->stream));
    NCCL(ncclAllReduce(data, data, SMALL, ncclFloat, half, comm, me->stream));
    MUST(!cuda.wait_stream(me->stream));
    meet();
    counted(&fast_now, &forwarded_now);
    MUST(fast_now == fast && forwarded_now == forwarded + 2 * (unsigned)me->ranks);
    NCCL(ncclRedOpDestroy(half, comm));
    NCCL(ncclCommDestroy(comm));
}

/* The variable is set only after the communicator was made. */
static void too_late(struct rank *me) {
    ncclComm_t comm = communicator_of_all(me);
    meet();
    if (me->number == 0) setenv("DIME_BATCH_INVARIANT", "1", 1);
    meet();
    sum(me, comm, everybody(me), 0, SMALL);
    must_be("fast: ", comm, SMALL);
    must_be("forward: ", comm, 100 * MIB);
    NCCL(ncclCommDestroy(comm));
}

/* All ways of making communicators. */
static void parts(struct rank *me) {
    ncclComm_t comm = communicator_of_all(me), part, rest;
    NCCL(ncclCommSplit(comm, me->number % 2, me->number, &part, NULL));
    int excluded = me->ranks - 1;
    if (me->number != excluded) NCCL(ncclCommShrink(comm, &excluded, 1, &rest, NULL, 0));
    ncclComm_t made[] = {comm, part, me->number != excluded ? rest : NULL};
    for (int i = 0; i < 3 && made[i]; i++) {
        int ranks;
        NCCL(ncclCommCount(made[i], &ranks));
        NCCL(ncclAllReduce((void *)(size_t)me->buffer, (void *)(size_t)me->buffer, SMALL, ncclFloat, ncclSum, made[i], me->stream));
        MUST(!cuda.wait_stream(me->stream));
        if (ranks > 1) must_be("fast: ", made[i], 100 * MIB);
    }
    for (int i = 2; i >= 0; i--)
        if (made[i]) NCCL(ncclCommDestroy(made[i]));
}

#define INVARIANT "DIME_BATCH_INVARIANT=1"
#define NO_THRESHOLD "DIME_THRESHOLD_BYTES="

static const struct situation situations[] = {
    {.name = "two", .run = sizes, .ranks = 2, .uncounted = 1, .environment = {INVARIANT, NO_THRESHOLD}},
    {.name = "three", .run = fewer_sizes, .ranks = 3, .uncounted = 1, .environment = {INVARIANT, NO_THRESHOLD}},
    {.name = "four-with-a-threshold", .run = fewer_sizes, .ranks = 4, .uncounted = 1, .environment = {INVARIANT}},
    {.name = "eight", .run = fewer_sizes, .ranks = 8, .uncounted = 1, .environment = {INVARIANT, NO_THRESHOLD}},
    {.name = "first-in-a-capture", .run = first_in_a_capture, .ranks = 2, .uncounted = 1, .environment = {INVARIANT}},
    {.name = "what-goes-to-nccl", .run = what_goes_to_nccl, .ranks = 2, .uncounted = 1, .environment = {INVARIANT}},
    {.name = "too-late", .run = too_late, .ranks = 2, .uncounted = 1},
    {.name = "parts", .run = parts, .ranks = 4, .way = PROCESSES, .uncounted = 1, .environment = {INVARIANT}},
};

int main(int argc, char **argv) {
    return run_situation(argc, argv, situations, sizeof situations / sizeof *situations);
}
