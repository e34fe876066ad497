/* Ranks that do not come, and the watchdog (DIME_TIMEOUT_S) that says so: what it says, what becomes of the communicator, and that
 * nobody who is only slow is accused. Usage and outcome are in situation.h. */
#define _GNU_SOURCE
#include <dirent.h>
#include <time.h>

#include "chain.h"

enum { THREAD_LOCAL_CAPTURE = 1 };

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The state when it is an error, or after so many seconds. */
static ncclResult_t error_within(ncclComm_t comm, double limit_s) {
    const double begin = seconds();
    ncclResult_t state = ncclSuccess;
    while (state == ncclSuccess && seconds() < begin + limit_s) {
        usleep(5000);
        NCCL(ncclCommGetAsyncError(comm, &state));
    }
    return state;
}

/* The watchdog takes this rank's last operation, of `begin`, for stuck: neither too soon nor late, and for good. */
static void must_be_given_up(const struct rank *me, ncclComm_t comm, double begin) {
    void *data = (void *)(size_t)me->buffer;
    GIVES(ncclRemoteError, error_within(comm, 20));
    const double after_s = seconds() - begin;
    printf("rank-%d-after-s=%.1f\n", me->number, after_s);
    MUST(after_s >= 1);
    for (int i = 0; i < 3; i++) {
        GIVES(ncclRemoteError, ncclAllReduce(data, data, SMALL, ncclFloat, ncclSum, comm, me->stream));
        GIVES(ncclRemoteError, error_within(comm, 0.1));
        must_be("failed: ", comm, SMALL);
    }
    NCCL(ncclGroupStart());
    GIVES(ncclRemoteError, ncclAllReduce(data, data, SMALL, ncclFloat, ncclSum, comm, me->stream));
    GIVES(ncclRemoteError, ncclGroupEnd());
    GIVES(ncclRemoteError, error_within(comm, 0.1));
    /* What waits, waits on: nothing ends with a wrong result. */
    MUST(more_cuda.query_stream(me->stream) != 0);
}

/* ncclCommAbort, or ncclCommDestroy, frees the GPU at once. */
static void end_and_go_on(struct rank *me, ncclComm_t comm, ncclResult_t (*end)(ncclComm_t), int members) {
    const double begin = seconds();
    NCCL(end(comm));
    MUST(!cuda.wait_stream(me->stream));
    MUST(seconds() < begin + 10);
    meet();
    comm = communicator_of_all(me);
    try_out(me, comm, members, 5);
    NCCL(ncclCommDestroy(comm));
}

/* ---- A rank that never calls ---- */

static void stuck_and_ended_by(struct rank *me, ncclResult_t (*end)(ncclComm_t)) {
    const int last = me->ranks - 1;
    ncclComm_t comm = communicator_of_all(me);
    sum(me, comm, everybody(me), 0, SMALL);
    meet();
    if (me->number != last) {
        const double begin = seconds();
        NCCL(all_reduce_of(me, comm, me->ranks, SMALL));
        must_be_given_up(me, comm, begin);
    }
    meet();
    end_and_go_on(me, comm, end, everybody(me));
}

static void stuck_and_aborted(struct rank *me) {
    stuck_and_ended_by(me, ncclCommAbort);
}

static void stuck_and_destroyed(struct rank *me) {
    stuck_and_ended_by(me, ncclCommDestroy);
}

/* The operation that waits was captured, and its graph is launched a second time. */
static void stuck_in_a_graph(struct rank *me) {
    const int last = me->ranks - 1;
    ncclComm_t comm = communicator_of_all(me);
    void *graph, *executable;
    sum(me, comm, everybody(me), 0, SMALL);
    fill(me, 1, SMALL);
    MUST(!more_cuda.begin_capture(me->stream, THREAD_LOCAL_CAPTURE));
    all_reduce(me, comm, everybody(me), SMALL);
    MUST(!more_cuda.end_capture(me->stream, &graph) && !more_cuda.instantiate(&executable, graph, 0));
    MUST(!more_cuda.launch(executable, me->stream));
    check(me, everybody(me), 1, SMALL);
    meet();
    if (me->number != last) {
        const double begin = seconds();
        MUST(!more_cuda.launch(executable, me->stream));
        must_be_given_up(me, comm, begin);
    }
    meet();
    end_and_go_on(me, comm, ncclCommAbort, everybody(me));
    MUST(!more_cuda.destroy_executable(executable) && !more_cuda.destroy_graph(graph));
}

/* One communicator is stuck, another one of the same ranks is not. */
static void one_of_two(struct rank *me) {
    const int all = everybody(me), last = me->ranks - 1;
    ncclComm_t stuck = communicator_of_all(me), well = communicator_of_all(me);
    struct rank other = *me;
    other.stream = new_stream();
    MUST(!cuda.allocate(&other.buffer, LARGE * sizeof(float)));
    sum(me, stuck, all, 0, SMALL);
    sum(&other, well, all, 0, SMALL);
    meet();
    const double begin = seconds();
    if (me->number != last) NCCL(all_reduce_of(me, stuck, me->ranks, SMALL));
    for (int step = 0; step < 10; step++) {
        sum(&other, well, all, step, SMALL);
        usleep(100000);
    }
    if (me->number != last) must_be_given_up(me, stuck, begin);
    GIVES(ncclSuccess, error_within(well, 0.3));
    sum(&other, well, all, 11, SMALL);
    meet();
    NCCL(ncclCommAbort(stuck));
    try_out(&other, well, all, 12);
    NCCL(ncclCommDestroy(well));
}

/* The last rank is gone: it was killed between two operations. The others end and go on without it. */
static void one_is_killed(struct rank *me) {
    const int last = me->ranks - 1, rest = everybody(me) & ~(1 << last);
    ncclComm_t comm = communicator_of_all(me);
    sum(me, comm, everybody(me), 0, SMALL);
    agree_on_ids(me, 2);
    if (me->number == last) raise(SIGKILL);
    const double begin = seconds();
    NCCL(all_reduce_of(me, comm, me->ranks, SMALL));
    must_be_given_up(me, comm, begin);
    NCCL(ncclCommAbort(comm));
    MUST(!cuda.wait_stream(me->stream));
    NCCL(ncclCommInitRank(&comm, me->ranks - 1, shared->ids[1], me->number));
    try_out(me, comm, rest, 1);
    NCCL(ncclCommDestroy(comm));
}

struct waiting {
    const struct rank *me;
    ncclComm_t comm;
    atomic_int is_over;
};

static void *wait_in_vain(void *argument) {
    struct waiting *waiting = argument;
    use(waiting->me);
    NCCL(all_reduce_of(waiting->me, waiting->comm, waiting->me->ranks, SMALL));
    MUST(!cuda.wait_stream(waiting->me->stream));
    atomic_store(&waiting->is_over, 1);
    return NULL;
}

/* One thread waits for its stream, another one aborts: before the time is over, and after. */
static void aborted_by_another_thread(struct rank *me) {
    for (int after_s = 0; after_s < 2; after_s++) {
        ncclComm_t comm = communicator_of_all(me);
        sum(me, comm, everybody(me), after_s, SMALL);
        meet();
        struct waiting waiting = {.me = me, .comm = comm};
        pthread_t thread;
        const int waits = me->number != me->ranks - 1;
        if (waits) {
            MUST(!pthread_create(&thread, NULL, wait_in_vain, &waiting));
            if (after_s)
                GIVES(ncclRemoteError, error_within(comm, 20));
            else
                usleep(100000);
            MUST(!atomic_load(&waiting.is_over));
        }
        meet();
        NCCL(ncclCommAbort(comm));
        if (waits) MUST(!pthread_join(thread, NULL));
    }
}

/* ---- Ranks that are slow ---- */

/* Each operation waits less than the timeout, all together much more; so does one behind other work of its own GPU. */
static void merely_slow(struct rank *me) {
    enum { STEPS = 5, NAP_US = 450000 };
    ncclComm_t comm = communicator_of_all(me);
    struct gate gate;
    void *graph, *executable;
    sum(me, comm, everybody(me), 0, SMALL);
    MUST(!more_cuda.begin_capture(me->stream, THREAD_LOCAL_CAPTURE));
    all_reduce(me, comm, everybody(me), SMALL);
    MUST(!more_cuda.end_capture(me->stream, &graph) && !more_cuda.instantiate(&executable, graph, 0));
    struct chain chain = new_chain(me, comm, SMALL, 1);
    for (int step = 0; step < STEPS; step++) {
        if (me->number == step % 2) usleep(NAP_US);
        extend(&chain, me->stream, SMALL);
    }
    for (int step = 0; step < STEPS; step++) {
        MUST(!cuda.wait_stream(me->stream));
        if (me->number == step % 2) usleep(NAP_US);
        MUST(!more_cuda.launch(executable, me->stream));
    }
    /* All wait on their own GPUs, and nobody for a peer. */
    occupy(me->stream, &gate);
    extend(&chain, me->stream, SMALL);
    usleep(2400000);
    meet();
    open_gate(&gate);
    MUST(!cuda.wait_stream(me->stream));
    check_chain(&chain);
    GIVES(ncclSuccess, error_within(comm, 0.3));
    must_be("fast: ", comm, SMALL);
    MUST(!more_cuda.destroy_executable(executable) && !more_cuda.destroy_graph(graph));
    NCCL(ncclCommDestroy(comm));
}

/* ---- The watchdog itself ---- */

/* The thread of this process with that name; 0: none. */
static int thread_named(const char *name) {
    DIR *threads = opendir("/proc/self/task");
    MUST(threads != NULL);
    int found = 0, count = 0;
    for (struct dirent *entry; (entry = readdir(threads)) != NULL;) {
        char path[300], text[64] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = fopen(path, "r");
        if (!file) continue;
        if (fgets(text, sizeof text, file) && strncmp(text, name, strlen(name)) == 0) {
            found = atoi(entry->d_name);
            count++;
        }
        fclose(file);
    }
    closedir(threads);
    MUST(count <= 1);
    return found;
}

/* As above, for up to 5 s: a thread gives itself its name when it begins to run. */
static int await_thread_named(const char *name) {
    int found = 0;
    for (int waited_ms = 0; !(found = thread_named(name)) && waited_ms < 5000; waited_ms++) usleep(1000);
    return found;
}

static unsigned long long blocked_signals(int thread) {
    char path[64], line[128];
    unsigned long long blocked = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/status", thread);
    FILE *file = fopen(path, "r");
    MUST(file != NULL);
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "SigBlk: %llx", &blocked) == 1) break;
    }
    fclose(file);
    return blocked;
}

/* Without DIME_TIMEOUT_S there is none. */
static void no_watchdog(struct rank *me) {
    ncclComm_t comm = communicator_of_all(me);
    sum(me, comm, everybody(me), 0, SMALL);
    MUST(!thread_named("dime-watchdog"));
    NCCL(ncclCommDestroy(comm));
}

/* One thread, from the first fast communicator on, for all of them; signals are the application's. */
static void watchdog_thread(struct rank *me) {
    ncclComm_t first = communicator_of_all(me);
    meet();
    MUST(!thread_named("dime-watchdog"));
    meet();
    sum(me, first, everybody(me), 0, SMALL);
    const int thread = await_thread_named("dime-watchdog");
    MUST(thread != 0);
    const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE, SIGALRM, SIGTERM, SIGCHLD, SIGPROF, SIGIO};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) MUST(blocked_signals(thread) >> (signals[i] - 1) & 1);
    ncclComm_t second = communicator_of_all(me);
    sum(me, second, everybody(me), 0, SMALL);
    MUST(thread_named("dime-watchdog") == thread);
    NCCL(ncclCommDestroy(first));
    NCCL(ncclCommDestroy(second));
}

/* Communicators come and go while it looks. */
static void again_and_again(struct rank *me) {
    for (int round = 0; round < 30; round++) {
        ncclComm_t comm = communicator_of_all(me);
        for (int step = 0; step < 3; step++) sum(me, comm, everybody(me), step, SMALL);
        if (round % 3 == 2) {
            /* Something of it waits when it ends. */
            meet();
            if (me->number == 0) NCCL(all_reduce_of(me, comm, me->ranks, SMALL));
            usleep((useconds_t)(round * 10000));
            meet();
        }
        NCCL((round % 3 ? ncclCommAbort : ncclCommDestroy)(comm));
        MUST(!cuda.wait_stream(me->stream));
    }
}

/* The process ends while a communicator exists, is watched and waits. */
static void exits(struct rank *me) {
    ncclComm_t comm = communicator_of_all(me);
    sum(me, comm, everybody(me), 0, SMALL);
    meet();
    if (me->number == 0) {
        NCCL(all_reduce_of(me, comm, me->ranks, SMALL));
        GIVES(ncclRemoteError, error_within(comm, 20));
    }
    meet();
    exit(0);
}

/* Children that never use CUDA come and go beside the watchdog. */
static void forks(struct rank *me) {
    ncclComm_t comm = communicator_of_all(me);
    sum(me, comm, everybody(me), 0, SMALL);
    meet();
    for (int i = 0; me->number == 0 && i < 60; i++) {
        const pid_t child = fork();
        MUST(child >= 0);
        if (child == 0) exit(0);
        ENDS_WELL(child);
        usleep(5000);
    }
    meet();
    sum(me, comm, everybody(me), 1, SMALL);
    MUST(await_thread_named("dime-watchdog"));
    NCCL(ncclCommDestroy(comm));
}

int main(int argc, char **argv) {
    static const struct situation situations[] = {
        {.name = "aborted", .run = stuck_and_aborted, .way = PROCESSES, .ranks = 3, .environment = {"DIME_TIMEOUT_S=1"}},
        {.name = "aborted-of-threads", .run = stuck_and_aborted, .way = THREADS, .ranks = 3, .environment = {"DIME_TIMEOUT_S=1"}},
        {.name = "destroyed", .run = stuck_and_destroyed, .way = PROCESSES, .ranks = 3, .environment = {"DIME_TIMEOUT_S=1"}},
        {.name = "in-a-graph", .run = stuck_in_a_graph, .way = PROCESSES, .ranks = 3, .environment = {"DIME_TIMEOUT_S=1"}},
        {.name = "one-of-two", .run = one_of_two, .way = PROCESSES, .ranks = 2, .environment = {"DIME_TIMEOUT_S=1"}},
        {.name = "one-is-killed",
         .run = one_is_killed,
         .way = PROCESSES,
         .ranks = 3,
         .killed = 1 << 2,
         .environment = {"DIME_TIMEOUT_S=1"}},
        {.name = "aborted-by-another-thread",
         .run = aborted_by_another_thread,
         .way = PROCESSES,
         .ranks = 2,
         .environment = {"DIME_TIMEOUT_S=1"}},
        {.name = "merely-slow", .run = merely_slow, .way = PROCESSES, .ranks = 2, .environment = {"DIME_TIMEOUT_S=2"}},
        {.name = "no-watchdog", .run = no_watchdog, .way = PROCESSES, .ranks = 2},
        {.name = "watchdog-thread", .run = watchdog_thread, .way = PROCESSES, .ranks = 2, .environment = {"DIME_TIMEOUT_S=1"}},
        {.name = "again-and-again", .run = again_and_again, .way = THREADS, .ranks = 2, .environment = {"DIME_TIMEOUT_S=1"}},
        {.name = "exits", .run = exits, .way = PROCESSES, .ranks = 2, .environment = {"DIME_TIMEOUT_S=1"}},
        {.name = "forks", .run = forks, .way = PROCESSES, .ranks = 2, .environment = {"DIME_TIMEOUT_S=1"}},
    };
    return run_situation(argc, argv, situations, sizeof situations / sizeof *situations);
}
