/* Captures and graphs: all-reduces are captured in every way, and graphs of a communicator are launched in any order, beside one
 * another and beside eager calls. Usage and outcome are in situation.h. */
#define _GNU_SOURCE
#include "chain.h"

enum capture_mode { GLOBAL, THREAD_LOCAL, RELAXED };

/* A communicator that is set up: the first all-reduce of one that is not would be forwarded from a capture. */
static ncclComm_t ready_communicator(const struct rank *me) {
    ncclComm_t comm = communicator_of_all(me);
    sum(me, comm, everybody(me), 0, SMALL);
    return comm;
}

static void begin_capture(void *stream, enum capture_mode mode) {
    MUST(!more_cuda.begin_capture(stream, mode));
}

static void *end_capture(void *stream) {
    void *graph;
    MUST(!more_cuda.end_capture(stream, &graph));
    return graph;
}

static void *executable_of(void *graph) {
    void *executable;
    MUST(!more_cuda.instantiate(&executable, graph, 0));
    return executable;
}

static void *end_in_executable(void *stream) {
    void *graph = end_capture(stream), *executable = executable_of(graph);
    MUST(!more_cuda.destroy_graph(graph));
    return executable;
}

/* A graph of so many all-reduces of the chain. */
static void *executable_chain(const struct chain *chain, void *stream, int links) {
    begin_capture(stream, THREAD_LOCAL);
    for (int i = 0; i < links; i++) enqueue(chain, stream, SMALL);
    return end_in_executable(stream);
}

/* It has so many all-reduces of the chain. */
static void launch(struct chain *chain, void *executable, void *stream, int links) {
    MUST(!more_cuda.launch(executable, stream));
    has_run(chain, links, SMALL);
}

static void finish(struct chain *chain, void *stream) {
    MUST(!cuda.wait_stream(stream));
    check_chain(chain);
    free_chain(chain);
}

/* ---- Captures ---- */

static void modes(struct rank *me) {
    ncclComm_t comm = ready_communicator(me);
    for (enum capture_mode mode = GLOBAL; mode <= RELAXED; mode++) {
        struct chain chain = new_chain(me, comm, SMALL, (int)mode);
        void *stream = new_stream();
        begin_capture(stream, mode);
        for (int i = 0; i < 3; i++) enqueue(&chain, stream, SMALL);
        void *executable = end_in_executable(stream);
        for (int replay = 0; replay < 4; replay++) {
            launch(&chain, executable, stream, 3);
            extend(&chain, stream, SMALL);
        }
        finish(&chain, stream);
        MUST(!more_cuda.destroy_executable(executable) && !more_cuda.destroy_stream(stream));
    }
    NCCL(ncclCommDestroy(comm));
}

/* Both branches of a capture have all-reduces that depend on one another. */
static void fork_and_join(struct rank *me) {
    ncclComm_t comm = ready_communicator(me);
    struct chain chain = new_chain(me, comm, SMALL, 1);
    void *stream = new_stream(), *branch = new_stream();
    begin_capture(stream, THREAD_LOCAL);
    enqueue(&chain, stream, SMALL);
    await_stream(branch, stream);
    for (int i = 0; i < 3; i++) {
        enqueue(&chain, branch, SMALL);
        enqueue(&chain, stream, SMALL);
    }
    enqueue(&chain, branch, SMALL);
    await_stream(stream, branch);
    enqueue(&chain, stream, SMALL);
    void *executable = end_in_executable(stream);
    for (int replay = 0; replay < 4; replay++) launch(&chain, executable, replay % 2 ? stream : branch, 9);
    MUST(!cuda.wait_stream(branch));
    finish(&chain, stream);
    NCCL(ncclCommDestroy(comm));
}

/* All-reduces go to two captures in turn. */
static void two_captures_at_once(struct rank *me) {
    ncclComm_t comm = ready_communicator(me);
    struct chain chains[] = {new_chain(me, comm, SMALL, 2), new_chain(me, comm, SMALL, 3)};
    void *streams[] = {new_stream(), new_stream()}, *executables[2];
    for (int i = 0; i < 2; i++) begin_capture(streams[i], THREAD_LOCAL);
    for (int i = 0; i < 8; i++) enqueue(&chains[i % 2], streams[i % 2], SMALL);
    /* Nothing may be instantiated before all have ended. */
    void *graphs[2];
    for (int i = 0; i < 2; i++) graphs[i] = end_capture(streams[i]);
    for (int i = 0; i < 2; i++) executables[i] = executable_of(graphs[i]);
    for (int i = 0; i < 2; i++) MUST(!more_cuda.destroy_graph(graphs[i]));
    for (int replay = 0; replay < 8; replay++) launch(&chains[replay / 2 % 2], executables[replay / 2 % 2], streams[replay % 2], 4);
    for (int i = 0; i < 2; i++) MUST(!cuda.wait_stream(streams[i]));
    for (int i = 0; i < 2; i++) finish(&chains[i], streams[i]);
    NCCL(ncclCommDestroy(comm));
}

/* More captures at once than anybody counts on, each with all-reduces before and after those of all others. */
static void many_captures_at_once(struct rank *me) {
    enum { CAPTURES = 40 };
    ncclComm_t comm = ready_communicator(me);
    struct chain chain = new_chain(me, comm, SMALL, 4);
    void *streams[CAPTURES], *graphs[CAPTURES], *executables[CAPTURES];
    for (int i = 0; i < CAPTURES; i++) {
        streams[i] = new_stream();
        begin_capture(streams[i], THREAD_LOCAL);
        enqueue(&chain, streams[i], SMALL);
    }
    for (int i = 0; i < CAPTURES; i++) {
        enqueue(&chain, streams[i], SMALL);
        graphs[i] = end_capture(streams[i]);
    }
    for (int i = 0; i < CAPTURES; i++) {
        executables[i] = executable_of(graphs[i]);
        MUST(!more_cuda.destroy_graph(graphs[i]));
    }
    for (int i = 0; i < CAPTURES; i++) launch(&chain, executables[i * 7 % CAPTURES], streams[i], 2);
    for (int i = 0; i < CAPTURES; i++) MUST(!cuda.wait_stream(streams[i]));
    finish(&chain, me->stream);
    NCCL(ncclCommDestroy(comm));
}

/* A communicator's first all-reduce is captured: it is forwarded, and what comes later is as good as ever. */
static void first_use_is_captured(struct rank *me) {
    ncclComm_t comm = communicator_of_all(me);
    struct chain chain = new_chain(me, comm, SMALL, 5);
    void *stream = new_stream();
    void *data = (void *)(size_t)chain.buffer;
    begin_capture(stream, THREAD_LOCAL);
    for (int i = 0; i < 2; i++) {
        atomic_fetch_add(&expected_forwarded, 1);
        NCCL(ncclAllReduce(data, data, SMALL, type_of(&chain), ncclSum, comm, stream));
    }
    void *forwarded = end_in_executable(stream);
    must_be("undecided: ", comm, SMALL);
    launch(&chain, forwarded, stream, 2);
    MUST(!cuda.wait_stream(stream));
    check_chain(&chain);
    extend(&chain, stream, SMALL);
    must_be("fast: ", comm, SMALL);
    void *fast = executable_chain(&chain, stream, 2);
    for (int replay = 0; replay < 3; replay++) {
        launch(&chain, forwarded, stream, 2);
        extend(&chain, stream, SMALL);
        launch(&chain, fast, stream, 2);
    }
    finish(&chain, stream);
    /* NCCL waits for its graphs when the communicator ends. */
    MUST(!more_cuda.destroy_executable(forwarded) && !more_cuda.destroy_executable(fast));
    NCCL(ncclCommDestroy(comm));
}

/* The first all-reduce on a second stream comes while the first stream is in a capture that has nothing to do with it. */
static void earlier_stream_is_captured(struct rank *me) {
    ncclComm_t comm = communicator_of_all(me);
    struct chain chain = new_chain(me, comm, SMALL, 6);
    void *stream = new_stream(), *other = new_stream();
    extend(&chain, stream, SMALL);
    begin_capture(stream, THREAD_LOCAL);
    enqueue(&chain, stream, SMALL);
    extend(&chain, other, SMALL);
    void *executable = end_in_executable(stream);
    MUST(!cuda.wait_stream(other));
    check_chain(&chain);
    launch(&chain, executable, stream, 1);
    finish(&chain, stream);
    NCCL(ncclCommDestroy(comm));
}

/* A capture that fails is no harm to the communicator: one that an unsafe call ends, and one that is not joined. */
static void captures_that_fail(struct rank *me) {
    ncclComm_t comm = ready_communicator(me);
    struct chain chain = new_chain(me, comm, SMALL, 7);
    void *data = (void *)(size_t)chain.buffer, *graph = NULL, *stream = new_stream(), *branch = new_stream();
    for (int round = 0; round < 3; round++) {
        begin_capture(stream, THREAD_LOCAL);
        enqueue(&chain, stream, SMALL);
        MUST(cuda.wait_stream(stream) != 0);
        MUST(ncclAllReduce(data, data, SMALL, type_of(&chain), ncclSum, comm, stream) != ncclSuccess);
        MUST(more_cuda.end_capture(stream, &graph) != 0 && graph == NULL);
        must_be("fast: ", comm, SMALL);
        extend(&chain, stream, SMALL);

        begin_capture(stream, THREAD_LOCAL);
        enqueue(&chain, stream, SMALL);
        await_stream(branch, stream);
        enqueue(&chain, branch, SMALL);
        /* The application does not join the branch. The driver may take it for joined, with NCCL alone too: what orders graphs stands
         * behind the branch's all-reduce. Then the graph is as good as any. */
        if (more_cuda.end_capture(stream, &graph) == 0) {
            void *joined = executable_of(graph);
            launch(&chain, joined, stream, 2);
            MUST(!cuda.wait_stream(stream));
            MUST(!more_cuda.destroy_executable(joined) && !more_cuda.destroy_graph(graph));
            printf("unjoined=taken for joined\n");
        } else {
            MUST(graph == NULL);
            printf("unjoined=refused\n");
        }
        extend(&chain, branch, SMALL);
        /* The next capture is as good as if there had been none. */
        void *executable = executable_chain(&chain, stream, 2);
        MUST(!cuda.wait_stream(branch));
        launch(&chain, executable, stream, 2);
        MUST(!cuda.wait_stream(stream));
        check_chain(&chain);
        MUST(!more_cuda.destroy_executable(executable));
    }
    ncclResult_t state;
    NCCL(ncclCommGetAsyncError(comm, &state));
    GIVES(ncclSuccess, state);
    NCCL(ncclCommDestroy(comm));
}

/* Messages larger than the scratch memory, which take several launches each. */
static void several_launches(struct rank *me) {
    enum { COUNT = 300000 };
    ncclComm_t comm = ready_communicator(me);
    struct chain chain = new_chain(me, comm, COUNT, 8);
    must_be("fast: one_shot_ll", comm, COUNT);
    void *stream = new_stream(), *branch = new_stream();
    begin_capture(stream, THREAD_LOCAL);
    enqueue(&chain, stream, COUNT);
    await_stream(branch, stream);
    enqueue(&chain, branch, COUNT);
    await_stream(stream, branch);
    void *executable = end_in_executable(stream);
    for (int replay = 0; replay < 2; replay++) {
        MUST(!more_cuda.launch(executable, stream));
        has_run(&chain, 2, COUNT);
        extend(&chain, stream, COUNT);
    }
    finish(&chain, stream);
    NCCL(ncclCommDestroy(comm));
}

/* ---- Graphs ---- */

/* Graphs run one after the other whatever streams they are launched on, and eager calls beside them. One rank is late. */
static void graphs_in_any_order(struct rank *me) {
    enum { GRAPHS = 4, STREAMS = 3, LAUNCHES = 14 };
    ncclComm_t comm = ready_communicator(me);
    struct chain captured = new_chain(me, comm, SMALL, 9), eager = new_chain(me, comm, SMALL, 10);
    void *executables[GRAPHS], *streams[STREAMS], *eager_streams[] = {new_stream(), new_stream()};
    for (int i = 0; i < STREAMS; i++) streams[i] = new_stream();
    for (int i = 0; i < GRAPHS; i++) executables[i] = executable_chain(&captured, streams[i % STREAMS], 1 + i);
    unsigned order = 1, places = (unsigned)me->number;
    struct gate gate;
    if (me->number == 1) occupy(streams[0], &gate);
    for (int i = 0; i < LAUNCHES; i++) {
        /* The same graph on all ranks, each on a stream of its own choice. */
        const int graph = (int)(next_random(&order) % GRAPHS);
        launch(&captured, executables[graph], streams[i == 0 ? 0 : next_random(&places) % STREAMS], 1 + graph);
        for (int call = 0; call < i % 3; call++) extend(&eager, eager_streams[i % 2], SMALL);
    }
    if (me->number == 1) {
        for (int i = 0; i < STREAMS; i++) MUST(more_cuda.query_stream(streams[i]) != 0 || i != 0);
        open_gate(&gate);
    }
    for (int i = 0; i < STREAMS; i++) MUST(!cuda.wait_stream(streams[i]));
    for (int i = 0; i < 2; i++) MUST(!cuda.wait_stream(eager_streams[i]));
    finish(&captured, me->stream);
    finish(&eager, me->stream);
    for (int i = 0; i < GRAPHS; i++) MUST(!more_cuda.destroy_executable(executables[i]));
    NCCL(ncclCommDestroy(comm));
}

/* With NCCL_GRAPH_MIXING_SUPPORT=0 the application orders graphs. */
static void graphs_in_a_stream(struct rank *me) {
    ncclComm_t comm = ready_communicator(me);
    struct chain chain = new_chain(me, comm, SMALL, 11);
    void *stream = new_stream(), *branch = new_stream();
    void *first = executable_chain(&chain, stream, 2), *second = executable_chain(&chain, branch, 3);
    for (int replay = 0; replay < 4; replay++) {
        launch(&chain, first, stream, 2);
        extend(&chain, stream, SMALL);
        launch(&chain, second, stream, 3);
    }
    finish(&chain, stream);
    NCCL(ncclCommDestroy(comm));
}

static size_t free_bytes(void) {
    size_t free_now, total;
    MUST(!more_cuda.free_memory(&free_now, &total));
    return free_now;
}

/* A graph is launched and instantiated again when its communicator is gone; the memory it needed goes with it. */
static void outlives_communicator(struct rank *me) {
    size_t before = 0;
    for (int round = 0; round < 3; round++) {
        ncclComm_t comm = ready_communicator(me);
        struct chain chain = new_chain(me, comm, SMALL, 12);
        void *stream = new_stream();
        begin_capture(stream, THREAD_LOCAL);
        enqueue(&chain, stream, SMALL);
        void *graph = end_capture(stream), *first = executable_of(graph);
        launch(&chain, first, stream, 1);
        MUST(!cuda.wait_stream(stream));
        NCCL(ncclCommDestroy(comm));
        /* What NCCL frees waits for all GPUs of the process, so no kernel may wait for a rank that is still at it. */
        meet();
        for (int replay = 0; replay < 3; replay++) launch(&chain, first, stream, 1);
        void *second = executable_of(graph);
        MUST(!more_cuda.destroy_executable(first) && !more_cuda.destroy_graph(graph));
        for (int replay = 0; replay < 3; replay++) launch(&chain, second, stream, 1);
        finish(&chain, stream);
        MUST(!more_cuda.destroy_executable(second) && !more_cuda.destroy_stream(stream));
        /* The driver tells of a graph's end a little later. */
        usleep(100000);
        /* What the round before left is given back when this one's communicator is destroyed, so rounds 1 and 2 end alike. */
        meet();
        const size_t now = free_bytes();
        MUST(round < 2 || now == before);
        before = now;
        meet();
    }
}

/* An executable graph takes over the same work captured again, on another buffer. */
static void updated(struct rank *me) {
    ncclComm_t comm = ready_communicator(me);
    struct chain old = new_chain(me, comm, SMALL, 13), new = new_chain(me, comm, SMALL, 14);
    void *stream = new_stream(), *executable = executable_chain(&old, stream, 3);
    launch(&old, executable, stream, 3);
    begin_capture(stream, THREAD_LOCAL);
    for (int i = 0; i < 3; i++) enqueue(&new, stream, SMALL);
    void *graph = end_capture(stream);
    struct {
        int result;
        void *nodes[2];
    } info;
    MUST(!more_cuda.update(executable, graph, &info));
    MUST(!more_cuda.destroy_graph(graph));
    for (int replay = 0; replay < 3; replay++) launch(&new, executable, stream, 3);
    MUST(!cuda.wait_stream(stream));
    finish(&old, stream);
    finish(&new, stream);
    NCCL(ncclCommDestroy(comm));
}

/* ---- What is declared of a communicator's graphs ---- */

/* The nodes of a graph of two all-reduces that record an event or wait for one; each all-reduce is a kernel. */
static int event_nodes(const struct rank *me, ncclComm_t comm, int members) {
    enum { KERNEL = 0, WAIT_EVENT = 6, EVENT_RECORD = 7, MOST = 8 };
    int (*get_nodes)(void *graph, void **nodes, size_t *count), (*get_type)(void *node, int *type);
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    void *addresses[] = {dlsym(driver, "cuGraphGetNodes"), dlsym(driver, "cuGraphNodeGetType")};
    memcpy(&get_nodes, &addresses[0], sizeof get_nodes);
    memcpy(&get_type, &addresses[1], sizeof get_type);

    void *data = (void *)(size_t)me->buffer, *nodes[MOST];
    sum(me, comm, members, 0, SMALL);
    begin_capture(me->stream, THREAD_LOCAL);
    for (int i = 0; i < 2; i++) {
        atomic_fetch_add(&expected_fast, 1);
        NCCL(ncclAllReduce(data, data, SMALL, ncclFloat, ncclSum, comm, me->stream));
    }
    void *graph = end_capture(me->stream);
    size_t count = 0;
    MUST(!get_nodes(graph, NULL, &count) && count <= MOST);
    MUST(!get_nodes(graph, nodes, &count));
    int events = 0, kernels = 0;
    for (size_t i = 0; i < count; i++) {
        int type;
        MUST(!get_type(nodes[i], &type));
        events += type == WAIT_EVENT || type == EVENT_RECORD;
        kernels += type == KERNEL;
    }
    MUST(kernels == 2 && kernels + events == (int)count);
    void *executable = executable_of(graph);
    MUST(!more_cuda.launch(executable, me->stream) && !cuda.wait_stream(me->stream));
    MUST(!more_cuda.destroy_executable(executable) && !more_cuda.destroy_graph(graph));
    return events;
}

/* Graphs of the communicator are ordered if they mix, which the environment can say for all. */
static void must_mix(const struct rank *me, ncclComm_t comm, int members, int mix) {
    const char *for_all = getenv("NCCL_GRAPH_MIXING_SUPPORT");
    if (for_all) mix = strcmp(for_all, "0") != 0;
    const int events = event_nodes(me, comm, members);
    if (is_nccl_alone() || events == (mix ? 2 : 0)) return;
    printf("failed=rank %d: %d event nodes where graphs %s\n", me->number, events, mix ? "mix" : "do not mix");
    fflush(stdout);
    _exit(1);
}

static ncclConfig_t config_of(int mode) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.graphUsageMode = mode;
    return config;
}

static ncclComm_t communicator_with(const struct rank *me, ncclConfig_t *config) {
    ncclComm_t comm;
    agree_on_ids(me, 1);
    NCCL(ncclCommInitRankConfig(&comm, me->ranks, shared->ids[0], me->number, config));
    return comm;
}

/* Parts have what their configuration says, or without one what the communicator has that they are made of. */
static void declared(struct rank *me) {
    const int all = everybody(me), modes[] = {0, NCCL_CONFIG_UNDEF_INT, 1, 2};
    const int count = getenv("NCCL_GRAPH_MIXING_SUPPORT") ? 1 : 4;
    for (int i = 0; i < count; i++) {
        ncclConfig_t config = config_of(modes[i]), open = config_of(NCCL_CONFIG_UNDEF_INT), none = config_of(1);
        const int mix = modes[i] != 0 && modes[i] != 1;
        ncclComm_t comm = communicator_with(me, &config), part;
        must_mix(me, comm, all, mix);

        NCCL(ncclCommSplit(comm, 0, me->number, &part, NULL));
        must_mix(me, part, all, mix);
        ncclComm_t grandchild;
        NCCL(ncclCommSplit(part, 0, me->number, &grandchild, NULL));
        must_mix(me, grandchild, all, mix);
        NCCL(ncclCommDestroy(grandchild));
        NCCL(ncclCommDestroy(part));
        NCCL(ncclCommSplit(comm, 0, me->number, &part, &open));
        must_mix(me, part, all, 1);
        NCCL(ncclCommDestroy(part));
        NCCL(ncclCommSplit(comm, 0, me->number, &part, &none));
        must_mix(me, part, all, 0);
        NCCL(ncclCommDestroy(part));

        NCCL(ncclGroupStart());
        NCCL(ncclCommSplit(comm, 0, me->number, &part, NULL));
        NCCL(ncclGroupEnd());
        must_mix(me, part, all, mix);
        NCCL(ncclCommDestroy(part));

        int gone = me->ranks - 1;
        if (me->number != gone) {
            NCCL(ncclCommShrink(comm, &gone, 1, &part, NULL, NCCL_SHRINK_DEFAULT));
            must_mix(me, part, all & ~(1 << gone), mix);
            NCCL(ncclCommDestroy(part));
        }
        meet();
        NCCL(ncclCommDestroy(comm));

        agree_on_ids(me, 1);
        NCCL(ncclCommInitRankScalable(&comm, me->ranks, me->number, 1, shared->ids, &config));
        must_mix(me, comm, all, mix);
        NCCL(ncclCommDestroy(comm));
    }
    /* NCCL writes the handle of the part later. */
    ncclConfig_t waits_for_nobody = config_of(1);
    waits_for_nobody.blocking = 0;
    ncclComm_t comm, part = NULL;
    agree_on_ids(me, 1);
    ncclCommInitRankConfig(&comm, me->ranks, shared->ids[0], me->number, &waits_for_nobody);
    GIVES(ncclSuccess, await(comm));
    ncclCommSplit(comm, 0, me->number, &part, NULL);
    GIVES(ncclSuccess, await(comm));
    GIVES(ncclSuccess, await(part));
    must_mix(me, part, all, 0);
    must_mix(me, comm, all, 0);
    NCCL(ncclCommDestroy(part));
    NCCL(ncclCommDestroy(comm));

    /* Handles come again. */
    comm = communicator_of_all(me);
    must_mix(me, comm, all, 1);
    NCCL(ncclCommDestroy(comm));
}

/* The configurations of headers that do not have the mode. */
static void not_declared(struct rank *me) {
    ncclConfig_t shorter = config_of(1), older = config_of(1);
    shorter.size = offsetof(ncclConfig_t, graphUsageMode);
    older.version = NCCL_VERSION(2, 28, 9);
    ncclConfig_t *configs[] = {&shorter, &older, NULL};
    for (int i = 0; i < 3; i++) {
        ncclComm_t comm = communicator_with(me, configs[i]);
        must_mix(me, comm, everybody(me), 1);
        NCCL(ncclCommDestroy(comm));
    }
}

int main(int argc, char **argv) {
    static const struct situation situations[] = {
        {.name = "modes", .run = modes, .way = PROCESSES, .ranks = 3},
        {.name = "fork-and-join", .run = fork_and_join, .way = THREADS, .ranks = 3},
        {.name = "two-captures-at-once", .run = two_captures_at_once, .way = THREADS, .ranks = 2},
        {.name = "many-captures-at-once", .run = many_captures_at_once, .way = PROCESSES, .ranks = 3},
        {.name = "first-use-is-captured", .run = first_use_is_captured, .way = PROCESSES, .ranks = 2},
        {.name = "earlier-stream-is-captured", .run = earlier_stream_is_captured, .way = THREADS, .ranks = 2},
        {.name = "captures-that-fail", .run = captures_that_fail, .way = PROCESSES, .ranks = 2, .uncounted = 1},
        {.name = "several-launches",
         .run = several_launches,
         .way = PROCESSES,
         .ranks = 3,
         .environment = {"DIME_KERNEL=one_shot_ll", "DIME_THRESHOLD_BYTES=2097152"}},
        {.name = "any-order", .run = graphs_in_any_order, .way = PROCESSES, .ranks = 3},
        {.name = "any-order-of-threads", .run = graphs_in_any_order, .way = THREADS, .ranks = 3},
        {.name = "without-mixing",
         .run = graphs_in_a_stream,
         .way = PROCESSES,
         .ranks = 2,
         .environment = {"NCCL_GRAPH_MIXING_SUPPORT=0"}},
        {.name = "in-a-stream", .run = graphs_in_a_stream, .way = PROCESSES, .ranks = 2},
        {.name = "outlives-communicator", .run = outlives_communicator, .way = THREADS, .ranks = 2},
        {.name = "declared", .run = declared, .way = PROCESSES, .ranks = 3, .since = NCCL_VERSION(2, 27, 3)},
        {.name = "declared-and-overruled",
         .run = declared,
         .way = PROCESSES,
         .ranks = 3,
         .since = NCCL_VERSION(2, 27, 3),
         .environment = {"NCCL_GRAPH_MIXING_SUPPORT=1"}},
        {.name = "declared-and-switched-off",
         .run = declared,
         .way = PROCESSES,
         .ranks = 3,
         .since = NCCL_VERSION(2, 27, 3),
         .environment = {"NCCL_GRAPH_MIXING_SUPPORT=0"}},
        {.name = "not-declared", .run = not_declared, .way = THREADS, .ranks = 2},
        {.name = "updated", .run = updated, .way = PROCESSES, .ranks = 2},
    };
    return run_situation(argc, argv, situations, sizeof situations / sizeof *situations);
}
