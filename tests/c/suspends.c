/* Communicators that are suspended and resumed, by NCCL's functions or by libdime.so's own: memory, all-reduces right after
 * that, graphs from before, ends while suspended, and failures. Usage and outcome are in situation.h. */
#define _GNU_SOURCE
#include "situation.h"

enum { THREAD_LOCAL = 1, CYCLES = 4, HANG_LIMIT_S = 150 };
/* Of a communicator, and how much less or more may be free for other reasons: the buffers of a setup are freed later. */
static const size_t SCRATCH = 64 << 20, SLACK = 4 << 20;

/* Who suspends. */
struct way_to_suspend {
    ncclResult_t (*suspend)(ncclComm_t comm);
    ncclResult_t (*resume)(ncclComm_t comm);
};

static ncclResult_t suspend_memory(ncclComm_t comm) {
    return ncclCommSuspend(comm, NCCL_SUSPEND_MEM);
}

static const struct way_to_suspend by_nccl = {suspend_memory, ncclCommResume};
static const struct way_to_suspend by_dime = {dimeCommSuspend, dimeCommResume};

static size_t free_bytes(void) {
    size_t bytes, total;
    MUST(!more_cuda.free_memory(&bytes, &total));
    return bytes;
}

static int is_about(size_t bytes, size_t expected) {
    return bytes + SLACK > expected && bytes < expected + SLACK;
}

/* After a suspend: NCCL gives back more than libdime.so. */
static int is_free(const struct way_to_suspend *way, size_t expected) {
    return way == &by_nccl ? free_bytes() + SLACK > expected : is_about(free_bytes(), expected);
}

/* A situation with a fault of the simulated driver. */
static void need_the_simulated_node(void) {
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (driver && dlsym(driver, "dimeSimLaunchPolled")) return;
    printf("skipped=faults are for the simulated node\n");
    fflush(stdout);
    _exit(NOT_ENOUGH_GPUS);
}

/* A communicator that is fast. */
static ncclComm_t fast_communicator(const struct rank *me) {
    ncclComm_t comm = communicator_of_all(me);
    sum(me, comm, everybody(me), 0, SMALL);
    must_be("fast: ", comm, SMALL);
    return comm;
}

/* What a destroy has left for later, since the driver had not yet told of a graph's end, the end of one more frees. */
static void must_be_free(const struct rank *me, size_t bytes) {
    meet();
    NCCL(ncclCommDestroy(fast_communicator(me)));
    meet();
    MUST(is_about(free_bytes(), bytes));
}

/* Two all-reduces in place, one after the other. */
static void *graph_of(const struct rank *me, ncclComm_t comm) {
    void *graph, *executable;
    MUST(!more_cuda.begin_capture(me->stream, THREAD_LOCAL));
    all_reduce(me, comm, everybody(me), SMALL);
    all_reduce(me, comm, everybody(me), SMALL);
    MUST(!more_cuda.end_capture(me->stream, &graph) && !more_cuda.instantiate(&executable, graph, 0));
    MUST(!more_cuda.destroy_graph(graph));
    return executable;
}

static void replay(const struct rank *me, void *executable, int step) {
    fill(me, step, SMALL);
    MUST(!more_cuda.launch(executable, me->stream));
    check_times(me, everybody(me), step, SMALL, (float)me->ranks);
}

static void must_be_refused(const struct rank *me, ncclComm_t comm) {
    void *data = (void *)(size_t)me->buffer;
    GIVES(ncclInvalidUsage, ncclAllReduce(data, data, SMALL, ncclFloat, ncclSum, comm, me->stream));
    /* As the outermost end of a group does. */
    NCCL(ncclGroupStart());
    const ncclResult_t in_group = ncclAllReduce(data, data, SMALL, ncclFloat, ncclSum, comm, me->stream);
    MUST(in_group == ncclInvalidUsage || in_group == ncclSuccess);
    GIVES(ncclInvalidUsage, ncclGroupEnd());
    must_be("suspended: ", comm, SMALL);
}

/* Cycles: in every other one the graph is launched first, else there are eager all-reduces first. */
static void cycles(struct rank *me, const struct way_to_suspend *way, size_t given_back) {
    alarm(HANG_LIMIT_S);
    ncclComm_t comm = fast_communicator(me);
    void *executable = graph_of(me, comm);
    const size_t before = free_bytes();
    for (int cycle = 0; cycle < CYCLES; cycle++) {
        /* An odd number of eager operations and of launches: ranks and parities must not depend on it. */
        for (int step = 0; step <= cycle; step++) sum(me, comm, everybody(me), step, SMALL);
        replay(me, executable, cycle);
        NCCL(way->suspend(comm));
        meet();
        MUST(is_free(way, before + given_back));
        must_be_refused(me, comm);
        meet();
        NCCL(way->resume(comm));
        if (cycle % 2) replay(me, executable, cycle);
        for (int step = 0; step < 3; step++) try_out(me, comm, everybody(me), 2 * step);
        replay(me, executable, cycle + 1);
        MUST(is_about(free_bytes(), before));
        meet();
    }
    MUST(!more_cuda.destroy_executable(executable));
    NCCL(ncclCommDestroy(comm));
    /* By legacy IPC a destroy waits for peers for a moment only, and may leave memory for a later one. */
    if (given_back) must_be_free(me, before + SCRATCH);
}

static void cycles_of_nccl(struct rank *me) {
    cycles(me, &by_nccl, SCRATCH);
}

static void cycles_of_dime(struct rank *me) {
    cycles(me, &by_dime, SCRATCH);
}

static void cycles_by_legacy_ipc(struct rank *me) {
    cycles(me, &by_nccl, 0);
    meet();
    cycles(me, &by_dime, 0);
}

/* Before the first all-reduce there is nothing to give back. Then an all-reduce sets the communicator up. */
static void before_the_first(struct rank *me) {
    ncclComm_t comm = communicator_of_all(me);
    for (int i = 0; i < 2; i++) {
        const struct way_to_suspend *way = i ? &by_dime : &by_nccl;
        NCCL(way->suspend(comm));
        NCCL(way->resume(comm));
    }
    try_out(me, comm, everybody(me), 1);
    NCCL(ncclCommSuspend(comm, NCCL_SUSPEND_MEM));
    meet();
    NCCL(ncclCommResume(comm));
    try_out(me, comm, everybody(me), 3);
    /* What is not suspended is left as it is. */
    NCCL(dimeCommResume(comm));
    try_out(me, comm, everybody(me), 5);
    NCCL(ncclCommDestroy(comm));
}

/* Each of the two ways is ended as it was begun. While Dime alone is suspended, NCCL works. */
static void both_ways(struct rank *me) {
    ncclComm_t comm = fast_communicator(me);
    NCCL(dimeCommSuspend(comm));
    GIVES(ncclInvalidUsage, dimeCommSuspend(comm));
    GIVES(ncclInvalidUsage, ncclCommSuspend(comm, NCCL_SUSPEND_MEM));
    GIVES(ncclInvalidUsage, ncclCommResume(comm));
    void *data = (void *)(size_t)me->buffer;
    NCCL(ncclBroadcast(data, data, SMALL, ncclFloat, 0, comm, me->stream));
    MUST(!cuda.wait_stream(me->stream));
    meet();
    NCCL(dimeCommResume(comm));
    try_out(me, comm, everybody(me), 1);
    NCCL(ncclCommSuspend(comm, NCCL_SUSPEND_MEM));
    GIVES(ncclInvalidUsage, dimeCommSuspend(comm));
    GIVES(ncclInvalidUsage, dimeCommResume(comm));
    meet();
    NCCL(ncclCommResume(comm));
    try_out(me, comm, everybody(me), 3);
    NCCL(ncclCommDestroy(comm));
}

/* Rank 0 is too early: its all-reduce waits for rank 1, and it is told so. */
static void busy(struct rank *me) {
    alarm(HANG_LIMIT_S);
    ncclComm_t comm = fast_communicator(me);
    fill(me, 1, SMALL);
    if (me->number == 0) {
        all_reduce(me, comm, everybody(me), SMALL);
        GIVES(ncclInvalidUsage, dimeCommSuspend(comm));
        must_be("fast: ", comm, SMALL);
    }
    meet();
    if (me->number != 0) all_reduce(me, comm, everybody(me), SMALL);
    check(me, everybody(me), 1, SMALL);
    NCCL(dimeCommSuspend(comm));
    meet();
    NCCL(dimeCommResume(comm));
    try_out(me, comm, everybody(me), 2);
    NCCL(ncclCommDestroy(comm));
}

/* What cannot be suspended. */
static void refused(struct rank *me) {
    ncclComm_t comm = fast_communicator(me);
    GIVES(ncclInvalidArgument, dimeCommSuspend(NULL));
    GIVES(ncclInvalidArgument, dimeCommResume(NULL));
    NCCL(ncclGroupStart());
    GIVES(ncclInvalidUsage, dimeCommSuspend(comm));
    GIVES(ncclInvalidUsage, dimeCommResume(comm));
    NCCL(ncclGroupEnd());
    try_out(me, comm, everybody(me), 1);
    /* Without the flag NCCL gives nothing back. */
    const size_t before = free_bytes();
    NCCL(ncclCommSuspend(comm, 0));
    MUST(is_about(free_bytes(), before));
    try_out(me, comm, everybody(me), 3);
    NCCL(ncclCommDestroy(comm));
}

/* Communicators end while they are suspended. A graph outlives two of them. */
static void ends(struct rank *me) {
    alarm(HANG_LIMIT_S);
    const size_t before = free_bytes();
    for (int round = 0; round < 4; round++) {
        const struct way_to_suspend *way = round % 2 ? &by_dime : &by_nccl;
        ncclComm_t comm = fast_communicator(me);
        void *executable = graph_of(me, comm);
        replay(me, executable, round);
        if (round < 2) MUST(!more_cuda.destroy_executable(executable));
        NCCL(way->suspend(comm));
        meet();
        NCCL(round % 2 ? ncclCommAbort(comm) : ncclCommDestroy(comm));
        if (round >= 2) MUST(!more_cuda.destroy_executable(executable));
        meet();
    }
    must_be_free(me, before);
}

/* One thread has all ranks, so all is done at the end of a group. */
static void in_a_group(struct rank *me) {
    struct rank ranks[MAX_RANKS];
    ncclComm_t comms[MAX_RANKS];
    const int count = me->ranks, all = everybody(me);
    alarm(HANG_LIMIT_S);
    ranks[0] = *me;
    for (int i = 1; i < count; i++) ranks[i] = open_rank(i, count);
    NCCL(ncclCommInitAll(comms, count, NULL));
    for (int cycle = 0; cycle < CYCLES; cycle++) {
        for (int i = 0; i < count; i++) {
            use(&ranks[i]);
            fill(&ranks[i], cycle, SMALL);
        }
        NCCL(ncclGroupStart());
        for (int i = 0; i < count; i++) all_reduce(&ranks[i], comms[i], all, SMALL);
        NCCL(ncclGroupEnd());
        for (int i = 0; i < count; i++) {
            use(&ranks[i]);
            check(&ranks[i], all, cycle, SMALL);
            must_be("fast: ", comms[i], SMALL);
        }
        size_t before = free_bytes();
        NCCL(ncclGroupStart());
        for (int i = 0; i < count; i++) NCCL(ncclCommSuspend(comms[i], NCCL_SUSPEND_MEM));
        NCCL(ncclGroupEnd());
        MUST(is_free(&by_nccl, before + SCRATCH));
        for (int i = 0; i < count; i++) must_be("suspended: ", comms[i], SMALL);
        NCCL(ncclGroupStart());
        for (int i = 0; i < count; i++) NCCL(ncclCommResume(comms[i]));
        NCCL(ncclGroupEnd());
        MUST(is_about(free_bytes(), before));
    }
    for (int i = 0; i < count; i++) NCCL(ncclCommDestroy(comms[i]));
}

/* A communicator whose calls do not wait. */
static void non_blocking(struct rank *me) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclComm_t comm;
    agree_on_ids(me, 1);
    const ncclResult_t made = ncclCommInitRankConfig(&comm, me->ranks, shared->ids[0], me->number, &config);
    MUST(made == ncclSuccess || made == ncclInProgress);
    NCCL(await(comm));
    for (int cycle = 0; cycle < 2; cycle++) {
        try_out(me, comm, everybody(me), cycle);
        NCCL(await(comm));
        NCCL(ncclCommSuspend(comm, NCCL_SUSPEND_MEM));
        meet();
        NCCL(ncclCommResume(comm));
    }
    try_out(me, comm, everybody(me), 7);
    NCCL(ncclCommDestroy(comm));
}

static void *abort_soon(void *comm) {
    usleep(300000);
    NCCL(ncclCommAbort((ncclComm_t)comm));
    return NULL;
}

/* Rank 1 dies while all are suspended. The others wait for it when they resume, until they abort. */
static void a_rank_dies(struct rank *me) {
    alarm(HANG_LIMIT_S);
    ncclComm_t comm = fast_communicator(me);
    NCCL(ncclCommSuspend(comm, NCCL_SUSPEND_MEM));
    meet();
    if (me->number == 1) raise(SIGKILL);
    pthread_t aborting;
    MUST(!pthread_create(&aborting, NULL, abort_soon, comm));
    const ncclResult_t resumed = ncclCommResume(comm);
    MUST(resumed != ncclSuccess);
    MUST(!pthread_join(aborting, NULL));
}

/* The memory that one rank needs is not there. All ranks learn of it, and graphs of all are out of use. */
static void cannot_be_resumed(struct rank *me) {
    need_the_simulated_node();
    alarm(HANG_LIMIT_S);
    ncclComm_t comm = fast_communicator(me);
    const size_t before = free_bytes();
    NCCL(ncclCommSuspend(comm, NCCL_SUSPEND_MEM));
    meet();
    MUST(ncclCommResume(comm) != ncclSuccess);
    ncclResult_t state;
    NCCL(ncclCommGetAsyncError(comm, &state));
    MUST(state != ncclSuccess);
    must_be("failed: ", comm, SMALL);
    void *data = (void *)(size_t)me->buffer;
    MUST(ncclAllReduce(data, data, SMALL, ncclFloat, ncclSum, comm, me->stream) != ncclSuccess);
    MUST(ncclCommSuspend(comm, NCCL_SUSPEND_MEM) != ncclSuccess);
    meet();
    MUST(is_about(free_bytes(), before + SCRATCH));
    NCCL(ncclCommAbort(comm));
    meet();
    try_out(me, fast_communicator(me), everybody(me), 1);
}

/* A rank keeps its scratch when that cannot be unmapped, and all go on. */
static void cannot_be_released(struct rank *me) {
    need_the_simulated_node();
    alarm(HANG_LIMIT_S);
    ncclComm_t comm = fast_communicator(me);
    void *executable = graph_of(me, comm);
    NCCL(ncclCommSuspend(comm, NCCL_SUSPEND_MEM));
    meet();
    must_be_refused(me, comm);
    NCCL(ncclCommResume(comm));
    replay(me, executable, 1);
    try_out(me, comm, everybody(me), 2);
    MUST(!more_cuda.destroy_executable(executable));
    NCCL(ncclCommDestroy(comm));
}

#define IN(name_, run_, way_, ranks_, ...) {.name = name_, .run = run_, .way = way_, .ranks = ranks_, .uncounted = 1, __VA_ARGS__}
#define BOTH(name_, run_, ranks_, ...) \
    IN(name_, run_, PROCESSES, ranks_, __VA_ARGS__), IN(name_ "-of-threads", run_, THREADS, ranks_, __VA_ARGS__)

static const struct situation situations[] = {
    BOTH("cycles-2", cycles_of_nccl, 2, .since = 22907),
    BOTH("cycles-4", cycles_of_nccl, 4, .since = 22907),
    BOTH("dime-cycles-2", cycles_of_dime, 2, .since = 0),
    BOTH("dime-cycles-4", cycles_of_dime, 4, .since = 0),
    BOTH("legacy-ipc", cycles_by_legacy_ipc, 2, .since = 22907, .environment = {"DIME_LEGACY_IPC=1"}),
    BOTH("before-the-first", before_the_first, 2, .since = 22907),
    BOTH("both-ways", both_ways, 2, .since = 22907),
    BOTH("ends", ends, 2, .since = 22907),
    IN("busy", busy, PROCESSES, 2, .since = 0),
    BOTH("refused", refused, 2, .since = 22907),
    IN("in-a-group", in_a_group, ONE_THREAD, 4, .since = 22907),
    BOTH("non-blocking", non_blocking, 2, .since = 22907),
    IN("a-rank-dies", a_rank_dies, PROCESSES, 3, .since = 22907, .killed = 1 << 1),
    /* Each process allocates once in the setup; the threads of one allocate twice. */
    IN("cannot-be-resumed", cannot_be_resumed, PROCESSES, 2, .environment = {"DIME_SIM_FAULT=fail@cuMemCreate:2"}),
    IN("cannot-be-resumed-of-threads", cannot_be_resumed, THREADS, 2, .environment = {"DIME_SIM_FAULT=fail@cuMemCreate:3"}),
    IN("cannot-be-mapped-of-threads", cannot_be_resumed, THREADS, 2, .environment = {"DIME_SIM_FAULT=fail@cuMemMap:8"}),
    BOTH("cannot-be-released", cannot_be_released, 2, .environment = {"DIME_SIM_FAULT=fail@cuMemUnmap:1"}),
};

int main(int argc, char **argv) {
    return run_situation(argc, argv, situations, sizeof situations / sizeof *situations);
}
