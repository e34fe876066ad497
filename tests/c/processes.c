/* Processes that fork, are interrupted, and run short of descriptors while they use communicators.
 * Usage and outcome are in situation.h. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/time.h>

#include "situation.h"

/* A child that hangs is killed, and seen. */
enum { CHILD_LIMIT_S = 20 };

static char *const program = "/proc/self/exe";

/* ---- Children that use what is their parent's ---- */

/* NCCL itself cannot do anything on a communicator of the parent, so what comes back is NCCL's affair. That something does, and that no
 * kernel of ours was launched, is ours. */
static void use_parents_communicator(const struct rank *rank, ncclComm_t comm) {
    void *data = (void *)(size_t)rank->buffer;
    unsigned long long fast, forwarded;
    (void)ncclAllReduce(data, data, SMALL, ncclFloat, ncclSum, comm, rank->stream);
    counted(&fast, &forwarded);
    MUST(fast == 0);
}

static void children_use_their_parents(struct rank *me) {
    const ncclComm_t used = communicator_of_all(me), unused = communicator_of_all(me);
    try_out(me, used, everybody(me), 0);
    for (int i = 0; i < 4; i++) {
        const pid_t child = fork();
        MUST(child >= 0);
        if (child == 0) {
            alarm(CHILD_LIMIT_S);
            must_be("forward: ", used, SMALL);
            use_parents_communicator(me, i % 2 ? used : unused);
            /* As it is, and through what was registered for the end of the process. */
            if (i < 2) _exit(0);
            exit(0);
        }
        ENDS_WELL(child);
        sum(me, used, everybody(me), 2 + i, SMALL);
    }
    try_out(me, unused, everybody(me), 6);
    NCCL(ncclCommDestroy(used));
    NCCL(ncclCommDestroy(unused));
}

/* ---- Children that become another program ---- */

static pid_t by_fork(char *const *arguments) {
    const pid_t child = fork();
    if (child == 0) {
        execv(arguments[0], arguments);
        _exit(127);
    }
    return child;
}

static pid_t by_vfork(char *const *arguments) {
    const pid_t child = vfork();
    if (child == 0) {
        execv(arguments[0], arguments);
        _exit(127);
    }
    return child;
}

static pid_t by_spawn(char *const *arguments) {
    pid_t child = -1;
    MUST(!posix_spawn(&child, arguments[0], NULL, NULL, arguments, environ));
    return child;
}

static pid_t (*const starts[])(char *const *) = {by_fork, by_vfork, by_spawn};
enum { STARTS = sizeof starts / sizeof *starts };

/* What such a child does: communicators of its own. */
static void alone(struct rank *me) {
    const ncclComm_t comm = communicator_of_all(me);
    try_out(me, comm, everybody(me), 0);
    NCCL(ncclCommDestroy(comm));
}

static void children_become_programs(struct rank *me) {
    const ncclComm_t comm = communicator_of_all(me);
    sum(me, comm, everybody(me), 0, SMALL);
    for (int i = 0; i < STARTS; i++) {
        char *const arguments[] = {program, "alone", NULL};
        const pid_t child = me->number == i % me->ranks ? starts[i](arguments) : 0;
        MUST(child >= 0);
        sum(me, comm, everybody(me), i, SMALL);
        if (child) ENDS_WELL(child);
    }
    NCCL(ncclCommDestroy(comm));
}

/* ---- Forks in one thread, communicators in the others ---- */

enum { FORKS_BESIDE = 48 };

static atomic_int forks_done;

/* A communicator that had no call yet: libdime.so notes it, and NCCL refuses the call, which has no such type. */
static void see_something_new(ncclComm_t unused) {
    GIVES(ncclInvalidArgument, ncclAllReduce(NULL, NULL, SMALL, (ncclDataType_t)99, ncclSum, unused, NULL));
}

static void *fork_again_and_again(void *unused) {
    for (int i = 0; i < FORKS_BESIDE; i++) {
        char *const arguments[] = {"/bin/true", NULL};
        pid_t child = i % 2 ? fork() : starts[i / 2 % STARTS](arguments);
        MUST(child >= 0);
        if (child == 0) {
            unsigned long long fast, forwarded;
            alarm(CHILD_LIMIT_S);
            counted(&fast, &forwarded);
            MUST(fast == 0 && forwarded == 0);
            if (i % 4 == 1) _exit(0);
            see_something_new(unused);
            exit(0);
        }
        ENDS_WELL(child);
        atomic_fetch_add(&forks_done, 1);
    }
    return NULL;
}

static void forks_beside(struct rank *me) {
    pthread_t forker;
    const int all = everybody(me);
    const ncclComm_t comm = communicator_of_all(me), unused = communicator_of_all(me);
    sum(me, comm, all, 0, SMALL);
    if (me->number == 0) MUST(!pthread_create(&forker, NULL, fork_again_and_again, unused));
    for (int round = 0;; round++) {
        meet();
        const int is_over = atomic_load(&forks_done) == FORKS_BESIDE;
        meet();
        if (is_over) break;
        for (int step = 0; step < 4; step++) sum(me, comm, all, step, step == 3 ? LARGE : SMALL);
        if (round % 2) continue;
        const ncclComm_t other = communicator_of_all(me);
        sum(me, other, all, round, SMALL);
        NCCL(ncclCommDestroy(other));
    }
    if (me->number == 0) MUST(!pthread_join(forker, NULL));
    try_out(me, comm, all, 0);
    NCCL(ncclCommDestroy(comm));
    NCCL(ncclCommDestroy(unused));
}

/* ---- A fork while another thread holds what the library locks ---- */

static int log_reader = -1, log_writer = -1;

/* As the log's file: a pipe that nobody reads for now. Before the first call, which reads the variables. */
static void make_blocking_log(void) {
    char path[32];
    int ends[2];
    MUST(!pipe(ends));
    snprintf(path, sizeof path, "/proc/self/fd/%d", ends[1]);
    setenv("DIME_DEBUG_FILE", path, 1);
    setenv("DIME_DEBUG", "trace", 1);
    /* Of this end only: the library opens one of its own. */
    MUST(!fcntl(ends[0], F_SETFL, O_NONBLOCK) && !fcntl(ends[1], F_SETFL, O_NONBLOCK));
    log_reader = ends[0];
    log_writer = ends[1];
}

/* The watchdog's thread waits for room in the log when the fork comes, in the middle of its work on what it watches. */
static void fork_beside_a_blocked_log(struct rank *me) {
    static char bytes[4096];
    const ncclComm_t comm = communicator_of_all(me), unused = communicator_of_all(me);
    sum(me, comm, everybody(me), 0, SMALL);
    if (me->number == 0) {
        /* The other rank does not come to this one. */
        NCCL(all_reduce_of(me, comm, me->ranks, SMALL));
        while (write(log_writer, bytes, sizeof bytes) > 0) continue;
        while (write(log_writer, bytes, 1) > 0) continue;
        for (ncclResult_t state = ncclSuccess; state == ncclSuccess; usleep(1000)) NCCL(ncclCommGetAsyncError(comm, &state));
        usleep(50000);
        const pid_t child = fork();
        MUST(child >= 0);
        if (child == 0) {
            alarm(CHILD_LIMIT_S);
            while (read(log_reader, bytes, sizeof bytes) > 0) continue;
            use_parents_communicator(me, comm);
            /* That was said in the log. */
            MUST(read(log_reader, bytes, sizeof bytes) > 0);
            see_something_new(unused);
            exit(0);
        }
        ENDS_WELL(child);
        while (read(log_reader, bytes, sizeof bytes) > 0) continue;
    }
    meet();
    NCCL(ncclCommAbort(comm));
    NCCL(ncclCommAbort(unused));
}

/* The first all-reduce of the process opens the driver, slowly, when the fork comes. */
static void fork_beside_an_opening_driver(struct rank *me) {
    const ncclComm_t comm = communicator_of_all(me);
    meet();
    if (me->number == 0) {
        usleep(100000);
        const pid_t child = fork();
        MUST(child >= 0);
        if (child == 0) {
            alarm(CHILD_LIMIT_S);
            use_parents_communicator(me, comm);
            exit(0);
        }
        ENDS_WELL(child);
    }
    sum(me, comm, everybody(me), 0, SMALL);
    NCCL(ncclCommDestroy(comm));
}

/* ---- Signals ---- */

static atomic_int signals_taken, signals_of_ours;

/* Threads that the library starts for itself have names that begin so, as those of the simulated node. */
static void note_signal(int number) {
    char name[16] = "";
    (void)number;
    prctl(PR_GET_NAME, name);
    atomic_fetch_add(strncmp(name, "dime-", 5) == 0 ? &signals_of_ours : &signals_taken, 1);
}

static void deliver_signals(int flags, int interval_us) {
    struct sigaction action = {.sa_handler = note_signal, .sa_flags = flags};
    const struct itimerval timer = {{0, interval_us}, {0, interval_us}};
    MUST(!sigaction(SIGALRM, &action, NULL));
    MUST(!setitimer(ITIMER_REAL, &timer, NULL));
}

/* Everything is done under signals, on communicators of one call and of a group, which are set up in threads of their own. */
static void signals(struct rank *me) {
    const int all = everybody(me);
    for (int flags = 0; flags < 2; flags++) {
        deliver_signals(flags ? SA_RESTART : 0, 200);
        for (int round = 0; round < 2; round++) {
            ncclComm_t comms[2];
            for (int i = 0; i < 2; i++) comms[i] = communicator_of_all(me);
            fill(me, round, SMALL);
            NCCL(ncclGroupStart());
            for (int i = 0; i < 2; i++) NCCL(all_reduce_of(me, comms[i], me->ranks, SMALL));
            NCCL(ncclGroupEnd());
            check_times(me, all, round, SMALL, (float)me->ranks);
            for (int step = 0; step < 6; step++) try_out(me, comms[step % 2], all, step);
            for (int i = 0; i < 2; i++) NCCL(ncclCommDestroy(comms[i]));
        }
        deliver_signals(0, 0);
    }
    MUST(atomic_load(&signals_taken) > 100);
    MUST(atomic_load(&signals_of_ours) == 0);
}

/* ---- Few descriptors ---- */

/* Takes all descriptors but so many. Returns the first of those that it took. */
static int take_descriptors(int but, int *taken) {
    struct rlimit limit;
    MUST(!getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = 512;
    MUST(!setrlimit(RLIMIT_NOFILE, &limit));
    int count = 0;
    for (int one; (one = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0)) >= 0;) taken[count++] = one;
    MUST(count > but);
    while (but-- > 0) close(taken[--count]);
    return count;
}

/* NCCL opens its connections at the first operation that needs them: here those for what the ranks ask of each other in a setup, and
 * for an all-reduce that is forwarded. */
static void connect_nccl(const struct rank *me, ncclComm_t comm) {
    char *data = (char *)(size_t)me->buffer;
    for (int bytes = 64; bytes <= 4096; bytes *= 8)
        NCCL(ncclAllGather(data + me->number * bytes, data, (size_t)bytes, ncclInt8, comm, me->stream));
    ncclRedOp_t op;
    float factor = 1;
    NCCL(ncclRedOpCreatePreMulSum(&op, &factor, ncclFloat, ncclScalarHostImmediate, comm));
    NCCL(ncclAllReduce(data, data, SMALL, ncclFloat, op, comm, me->stream));
    MUST(!cuda.wait_stream(me->stream));
    NCCL(ncclRedOpDestroy(op, comm));
}

/* One rank has so few that its setup fails at some step: all forward, and nobody waits for what will not come. The simulated driver
 * needs one itself for the message that says so. */
static void few_descriptors(struct rank *me) {
    enum { LEAST = 1, ENOUGH = 32 };
    static int taken[512];
    int were_fast = 0, were_forwarded = 0, turns = 0;
    for (int left = LEAST; left <= ENOUGH; left += left < 8 ? 1 : 3, turns++) {
        const ncclComm_t comm = communicator_of_all(me);
        connect_nccl(me, comm);
        fill(me, left, SMALL);
        int count = 0;
        if (me->number == turns % me->ranks) count = take_descriptors(left, taken);
        void *data = (void *)(size_t)me->buffer;
        NCCL(ncclAllReduce(data, data, SMALL, ncclFloat, ncclSum, comm, me->stream));
        while (count > 0) close(taken[--count]);
        check(me, everybody(me), left, SMALL);
        char text[160];
        NCCL(dimeExplain(comm, SMALL, ncclFloat, ncclSum, text, sizeof text));
        if (strncmp(text, "fast: ", 6) == 0) were_fast++;
        else if (strncmp(text, "forward: ", 9) == 0) were_forwarded++;
        NCCL(ncclCommDestroy(comm));
    }
    MUST(were_fast > 0 && were_forwarded > 0 && were_fast + were_forwarded == turns);
}

/* ---- Few multiprocessors ---- */

static void await_max(const struct rank *rank) {
    static _Thread_local float host[LARGE];
    MUST(!cuda.download(host, rank->buffer, sizeof host, rank->stream));
    MUST(!cuda.wait_stream(rank->stream));
    for (int i = 0; i < LARGE; i++) MUST(host[i] == value_of(rank->ranks - 1, 0, i));
}

/* Two communicators at once, which the ranks come to in different orders: kernels of both spin on the device. */
static void two_at_once(struct rank *me) {
    enum { TIMES = 40 };
    const int counts[] = {1, 300, SMALL, THRESHOLD_BYTES / sizeof(float), LARGE};
    struct rank both[2] = {*me, open_rank(me->number, me->ranks)};
    ncclComm_t comms[2];
    for (int i = 0; i < 2; i++) {
        comms[i] = communicator_of_all(me);
        sum(&both[i], comms[i], everybody(me), 0, SMALL);
        fill(&both[i], 0, LARGE);
        must_be("fast: ", comms[i], THRESHOLD_BYTES / sizeof(float));
    }
    for (int turn = 0; turn < 2 * TIMES; turn++) {
        const int i = (turn + me->number) % 2, count = counts[turn / 2 % (sizeof counts / sizeof *counts)];
        void *data = (void *)(size_t)both[i].buffer;
        NCCL(ncclAllReduce(data, data, (size_t)count, ncclFloat, ncclMax, comms[i], both[i].stream));
    }
    for (int i = 0; i < 2; i++) await_max(&both[i]);
    for (int i = 0; i < 2; i++) NCCL(ncclCommDestroy(comms[i]));
}

static const struct situation situations[] = {
    {.name = "alone", .run = alone, .way = THREADS, .ranks = 2},
    {.name = "children-use-their-parents", .run = children_use_their_parents, .way = PROCESSES, .ranks = 2},
    {.name = "children-become-programs", .run = children_become_programs, .way = PROCESSES, .ranks = 2},
    {.name = "forks-beside", .run = forks_beside, .way = THREADS, .ranks = 2},
    {.name = "fork-beside-a-blocked-log", .run = fork_beside_a_blocked_log, .way = PROCESSES, .ranks = 2,
     .environment = {"DIME_TIMEOUT_S=1"}},
    {.name = "fork-beside-an-opening-driver", .run = fork_beside_an_opening_driver, .way = THREADS, .ranks = 2},
    {.name = "signals", .run = signals, .way = PROCESSES, .ranks = 2, .environment = {"DIME_TIMEOUT_S=5"}},
    {.name = "few-descriptors", .run = few_descriptors, .way = PROCESSES, .ranks = 2, .uncounted = 1},
    {.name = "two-at-once", .run = two_at_once, .way = PROCESSES, .ranks = 2, .uncounted = 1},
};

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "fork-beside-a-blocked-log") == 0) make_blocking_log();
    return run_situation(argc, argv, situations, sizeof situations / sizeof *situations);
}
