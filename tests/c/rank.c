/* Ranks of one communicator, a process for each, that do all-reduces until one of them dies.
 *
 *   rank [--ranks N] [--rounds N] [--counts A,B,...] [--env RANK NAME=VALUE]... [--deadline-s N] [--report]
 *
 * Each rank makes a communicator, does the rounds, in each an all-reduce of every count, and checks every element. --env
 * sets a variable in one rank alone. When a rank has ended otherwise than well the parent tells the others, and in each of
 * them a thread of its own calls ncclCommAbort, as a job's watchdog does. --deadline-s: then whoever still runs has hung.
 * --report: rank 0 prints what each count takes.
 *
 * Output: key=value lines. For each rank `rank-R=OUTCOME`, which is one of
 *   right                every element of every round
 *   wrong                some element was not
 *   aborted              it was told, the abort took less than ABORT_LIMIT_MS, and the GPU could be used afterwards
 *   slow-abort           it took longer
 *   error                a call gave an error, which is on a line of its own, call-R=NAME CODE; then it aborted too
 *   killed               by SIGKILL
 *   crashed              in some other way
 *   hung                 it still ran at the deadline
 * and of an abort `abort-ms-R`, `unblocked-ms-R` (from the abort's end to the end of the call that was in progress).
 * The exit status is 0 when no rank was wrong, slow or hung, or crashed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../examples/cuda_driver.h"
#include "nccl.h"

enum { MAX_RANKS = 16, MAX_COUNTS = 16, MAX_VARIABLES = 8, ABORT_LIMIT_MS = 1000 };
/* Exit statuses of a rank. */
enum { RIGHT = 0, WRONG = 1, USAGE = 2, ABORTED = 3, SLOW_ABORT = 4, ERROR = 5 };
static const char *const outcomes[] = {"right", "wrong", "usage", "aborted", "slow-abort", "error"};

static struct {
    int ranks, rounds, deadline_s, report, n_counts, n_variables;
    size_t counts[MAX_COUNTS];
    struct {
        int rank;
        char *assignment;
    } variables[MAX_VARIABLES];
} options = {.ranks = 3, .rounds = 4, .deadline_s = 40, .n_counts = 4, .counts = {1, 1000, 20011, 100003}};

static double now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e3 + time.tv_nsec * 1e-6;
}

/* One write each, so that the lines of several ranks stay whole. */
static void say(const char *format, ...) {
    char line[400];
    va_list arguments;
    va_start(arguments, format);
    int bytes = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (write(STDOUT_FILENO, line, (size_t)bytes) != bytes) _exit(ERROR);
}

/* ---- One rank ---- */

static int rank;
static void *stream;
static ncclComm_t comm;
/* Guards the three below. Held in calls on the communicator, so that none meets a handle that was aborted; but not in the
 * first all-reduce, which waits for the other ranks and must be aborted where it stands. */
static pthread_mutex_t calls = PTHREAD_MUTEX_INITIALIZER;
static int has_communicator, is_aborted, in_first_all_reduce;
static pthread_t watcher;
static double abort_ms, abort_end_ms;

static void abort_communicator(void) {
    double begin_ms = now_ms();
    int code = ncclCommAbort(comm);
    abort_end_ms = now_ms();
    abort_ms = abort_end_ms - begin_ms;
    if (code) {
        say("call-%d=ncclCommAbort %d\n", rank, code);
        _exit(ERROR);
    }
}

/* Ends the process after an abort: with `outcome`, if the abort was quick and process and GPU are usable. */
static void leave(int outcome) {
    float value = 7;
    device_address word;
    int error = cuda.allocate(&word, sizeof value);
    if (!error) error = cuda.upload(word, &value, sizeof value, stream);
    if (!error) error = cuda.wait_stream(stream);
    value = 0;
    if (!error) error = cuda.download(&value, word, sizeof value, stream);
    if (!error) error = cuda.wait_stream(stream);
    if (error || value != 7) {
        say("call-%d=after-the-abort %d\n", rank, error);
        _exit(WRONG);
    }
    say("abort-ms-%d=%.1f\n", rank, abort_ms);
    exit(abort_ms < ABORT_LIMIT_MS ? outcome : SLOW_ABORT);
}

/* The watcher aborts: waits for it, and ends. */
static void leave_with_watcher(void) {
    pthread_join(watcher, NULL);
    double unblocked_ms = now_ms() - abort_end_ms;
    say("unblocked-ms-%d=%.1f\n", rank, unblocked_ms);
    leave(ABORTED);
}

/* Takes the communicator for a call, unless it is aborted. */
static void begin_call(void) {
    pthread_mutex_lock(&calls);
    int aborted = is_aborted;
    if (!aborted) return;
    pthread_mutex_unlock(&calls);
    leave_with_watcher();
}

static void end_call(void) {
    pthread_mutex_unlock(&calls);
}

/* Whatever a call gives is right when the communicator was aborted meanwhile. After an error it is aborted here, since the
 * other ranks may be waiting. */
static void check(int code, const char *call) {
    begin_call();
    is_aborted = code != 0;
    end_call();
    if (!code) return;
    say("call-%d=%s %d\n", rank, call, code);
    if (!has_communicator) _exit(ERROR);
    abort_communicator();
    leave(ERROR);
}

/* Waits for the parent's word that a rank is gone, and aborts. */
static void *watch(void *alarm) {
    char gone;
    while (read(*(int *)alarm, &gone, 1) != 1)
        if (errno != EINTR) return NULL;
    pthread_mutex_lock(&calls);
    int mine = has_communicator && !is_aborted, in_first = in_first_all_reduce;
    is_aborted |= mine;
    pthread_mutex_unlock(&calls);
    if (!mine) return NULL;
    /* The thread that is about to make its first all-reduce shall be in it. */
    if (in_first) usleep(10000);
    abort_communicator();
    return NULL;
}

static int all_reduce(device_address input, device_address output, size_t count) {
    static int had_first;
    begin_call();
    if (!had_first) {
        in_first_all_reduce = 1;
        end_call();
    }
    int code = ncclAllReduce((void *)input, (void *)output, count, ncclFloat, ncclSum, comm, stream);
    if (!had_first) {
        pthread_mutex_lock(&calls);
        in_first_all_reduce = 0;
    }
    had_first = 1;
    end_call();
    return code;
}

/* Small whole numbers that differ from round to round, from rank to rank and from element to element. */
static float input_of(int of_rank, int round, size_t index) {
    return (float)((int)(index % 251) + 3 * round + of_rank);
}

static size_t count_wrong(const float *result, int round, size_t count) {
    size_t wrong = 0;
    for (size_t i = 0; i < count; i++) {
        float sum = 0;
        for (int peer = 0; peer < options.ranks; peer++) sum += input_of(peer, round, i);
        wrong += result[i] != sum;
    }
    return wrong;
}

static void report(size_t count, size_t wrong, double ms) {
    typedef ncclResult_t (*explanation)(ncclComm_t, size_t, ncclDataType_t, ncclRedOp_t, char *, size_t);
    explanation explain = (explanation)dlsym(RTLD_DEFAULT, "dimeExplain");
    char how[160] = "forward: this is the plain NCCL";
    begin_call();
    int code = explain ? explain(comm, count, ncclFloat, ncclSum, how, sizeof how) : 0;
    end_call();
    check(code, "dimeExplain");
    say("count=%zu %s %.3f ms %s\n", count, wrong ? "WRONG" : "right", ms, how);
}

/* Returns how many elements are wrong. */
static size_t do_count(int round, size_t count, device_address input, device_address output, float *host) {
    const size_t bytes = count * sizeof *host;
    for (size_t i = 0; i < count; i++) host[i] = input_of(rank, round, i);
    check(cuda.upload(input, host, bytes, stream), "cuMemcpyHtoDAsync");
    check(cuda.wait_stream(stream), "cuStreamSynchronize");
    double begin_ms = now_ms();
    check(all_reduce(input, output, count), "ncclAllReduce");
    check(cuda.wait_stream(stream), "cuStreamSynchronize");
    double ms = now_ms() - begin_ms;
    memset(host, 0, bytes);
    check(cuda.download(host, output, bytes, stream), "cuMemcpyDtoHAsync");
    check(cuda.wait_stream(stream), "cuStreamSynchronize");
    size_t wrong = count_wrong(host, round, count);
    /* The first round has the setup in its times. */
    if (options.report && rank == 0 && round == options.rounds - 1) report(count, wrong, ms);
    return wrong;
}

static void be_rank(const int ids[2], int alarm) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int i = 0; i < options.n_variables; i++)
        if (options.variables[i].rank == rank) putenv(options.variables[i].assignment);
    check(!find_cuda() || cuda.init(0), "cuInit");
    check(open_device(rank, &stream), "opening the device");
    size_t most = 0, wrong = 0;
    for (int i = 0; i < options.n_counts; i++) most = options.counts[i] > most ? options.counts[i] : most;
    float *host = malloc(most * sizeof *host);
    device_address input, output;
    check(cuda.allocate(&input, most * sizeof *host) || cuda.allocate(&output, most * sizeof *host), "cuMemAlloc");

    ncclUniqueId id;
    if (rank == 0) {
        check(ncclGetUniqueId(&id), "ncclGetUniqueId");
        for (int other = 1; other < options.ranks; other++) check(write(ids[1], &id, sizeof id) != sizeof id, "write");
    } else {
        check(read(ids[0], &id, sizeof id) != sizeof id, "read");
    }
    check(ncclCommInitRank(&comm, options.ranks, id, rank), "ncclCommInitRank");
    has_communicator = 1;
    pthread_create(&watcher, NULL, watch, &alarm);
    for (int round = 0; round < options.rounds; round++)
        for (int i = 0; i < options.n_counts; i++) wrong += do_count(round, options.counts[i], input, output, host);

    ncclResult_t state = ncclSuccess;
    begin_call();
    int code = ncclCommGetAsyncError(comm, &state);
    has_communicator = 0;
    end_call();
    check(code, "ncclCommGetAsyncError");
    check(state, "asynchronous-error");
    check(ncclCommDestroy(comm), "ncclCommDestroy");
    exit(wrong ? WRONG : RIGHT);
}

/* ---- The parent ---- */

struct child {
    pid_t pid;
    int alarm, runs;
    const char *outcome;
};

static struct child start(int as_rank, const int ids[2]) {
    int alarm[2];
    if (pipe2(alarm, O_CLOEXEC)) exit(USAGE);
    pid_t pid = fork();
    if (pid < 0) exit(USAGE);
    if (pid == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        close(alarm[1]);
        rank = as_rank;
        be_rank(ids, alarm[0]);
    }
    close(alarm[0]);
    return (struct child){.pid = pid, .alarm = alarm[1], .runs = 1, .outcome = "hung"};
}

/* Notes who has ended. Returns how many of them have not ended well: their peers will wait for them. */
static int reap(struct child *children) {
    int gone = 0;
    for (int i = 0; i < options.ranks; i++) {
        int status;
        if (!children[i].runs || waitpid(children[i].pid, &status, WNOHANG) != children[i].pid) continue;
        children[i].runs = 0;
        children[i].outcome = "crashed";
        if (WIFEXITED(status) && WEXITSTATUS(status) <= ERROR) children[i].outcome = outcomes[WEXITSTATUS(status)];
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) children[i].outcome = "killed";
        gone += strcmp(children[i].outcome, "right") && strcmp(children[i].outcome, "wrong");
    }
    return gone;
}

static int anybody_runs(const struct child *children) {
    for (int i = 0; i < options.ranks; i++)
        if (children[i].runs) return 1;
    return 0;
}

static void parse(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (!strcmp(name, "--report")) {
            options.report = 1;
            continue;
        }
        const char *value = i + 1 < argc ? argv[++i] : "";
        if (!strcmp(name, "--ranks")) options.ranks = atoi(value);
        else if (!strcmp(name, "--rounds")) options.rounds = atoi(value);
        else if (!strcmp(name, "--deadline-s")) options.deadline_s = atoi(value);
        else if (!strcmp(name, "--counts")) {
            options.n_counts = 0;
            for (char *at = argv[i]; *at && options.n_counts < MAX_COUNTS; at += *at == ',')
                options.counts[options.n_counts++] = strtoul(at, &at, 10);
        } else if (!strcmp(name, "--env") && i + 1 < argc && options.n_variables < MAX_VARIABLES) {
            options.variables[options.n_variables].rank = atoi(value);
            options.variables[options.n_variables++].assignment = argv[++i];
        } else {
            fprintf(stderr, "what is %s? Usage is in rank.c\n", name);
            exit(USAGE);
        }
    }
    if (options.ranks < 1 || options.ranks > MAX_RANKS) exit(USAGE);
}

int main(int argc, char **argv) {
    parse(argc, argv);
    int ids[2];
    sigset_t child_signal;
    sigemptyset(&child_signal);
    sigaddset(&child_signal, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child_signal, NULL);
    /* A rank that has ended already cannot be told. */
    signal(SIGPIPE, SIG_IGN);
    if (pipe2(ids, O_CLOEXEC)) return USAGE;
    struct child children[MAX_RANKS];
    for (int i = 0; i < options.ranks; i++) children[i] = start(i, ids);

    const double deadline_ms = now_ms() + options.deadline_s * 1e3;
    int told = 0;
    while (anybody_runs(children) && now_ms() < deadline_ms) {
        const struct timespec short_while = {.tv_nsec = 20000000};
        sigtimedwait(&child_signal, NULL, &short_while);
        if (reap(children) == 0 || told) continue;
        told = 1;
        for (int i = 0; i < options.ranks; i++)
            if (children[i].runs && write(children[i].alarm, "!", 1) != 1 && errno != EPIPE) return ERROR;
    }
    static const char *const bad[] = {"wrong", "slow-abort", "crashed", "hung", "usage"};
    int good = 1;
    for (int i = 0; i < options.ranks; i++) {
        if (children[i].runs) kill(children[i].pid, SIGKILL);
        say("rank-%d=%s\n", i, children[i].outcome);
        for (size_t b = 0; b < sizeof bad / sizeof *bad; b++) good &= strcmp(children[i].outcome, bad[b]) != 0;
    }
    return good ? 0 : 1;
}
