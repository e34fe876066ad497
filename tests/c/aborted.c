/* A rank that is aborted amid its work never gives its peers a wrong result: what they get is right, or does not come. Usage and
 * outcome are in situation.h.
 *
 * Every kernel, with 1, 3 and 20 all-reduces enqueued, eager, in graphs and both in turn. Rank 0 is aborted. In one half the last rank
 * is late: it comes when rank 0 is gone, with whatever rank 0 has sent in its slots. In the other all work when the abort comes, at a random moment.
 * Each all-reduce has a contribution and a result of its own, so what an element holds tells whose sum it is, and whether it was written. */
#define _GNU_SOURCE
#include <time.h>

#include "situation.h"

#define DIME_LIST_ONLY
#include "../../kernels/catalogue.h"

enum { THREAD_LOCAL_CAPTURE = 1, NON_BLOCKING_STREAM = 1, DEEPEST = 20, COUNT = 2000 };

enum mode { EAGER, GRAPHS, MIXED, MODES };
static const char *const mode_names[MODES] = {"eager", "in graphs", "in turn"};
#define NAME_OF(name, ...) #name,
static const char *const kernels[] = {DIME_KERNELS(NAME_OF, 0)};
enum { KERNELS = sizeof kernels / sizeof *kernels };

/* What no sum is: what results hold beforehand. */
static const float UNTOUCHED = -77;

/* One rank's all-reduces. */
struct work {
    struct rank *me;
    ncclComm_t comm;
    void *beside; /* A stream that nothing waits in. */
    device_address input, output;
    int depth;
    enum mode mode;
    void *graphs[DEEPEST], *executables[DEEPEST];
};

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static device_address at(device_address buffer, int operation) {
    return buffer + (device_address)operation * COUNT * sizeof(float);
}

static int is_in_graph(const struct work *work, int operation) {
    return work->mode == GRAPHS || (work->mode == MIXED && operation % 2 == 1);
}

static ncclResult_t call(const struct work *work, int operation) {
    const void *input = (const void *)(size_t)at(work->input, operation);
    void *output = (void *)(size_t)at(work->output, operation);
    return ncclAllReduce(input, output, COUNT, ncclFloat, ncclSum, work->comm, work->me->stream);
}

/* Contributions, results that nobody has touched, and the graphs. */
static void prepare(struct work *work) {
    static _Thread_local float host[2][DEEPEST * COUNT];
    const size_t bytes = (size_t)work->depth * COUNT * sizeof(float);
    for (int i = 0; i < work->depth * COUNT; i++) {
        host[0][i] = value_of(work->me->number, i / COUNT, i % COUNT);
        host[1][i] = UNTOUCHED;
    }
    MUST(!cuda.upload(work->input, host[0], bytes, work->me->stream));
    MUST(!cuda.upload(work->output, host[1], bytes, work->me->stream));
    MUST(!cuda.wait_stream(work->me->stream));
    for (int i = 0; i < work->depth; i++) {
        work->graphs[i] = work->executables[i] = NULL;
        if (!is_in_graph(work, i)) continue;
        MUST(!more_cuda.begin_capture(work->me->stream, THREAD_LOCAL_CAPTURE));
        NCCL(call(work, i));
        MUST(!more_cuda.end_capture(work->me->stream, &work->graphs[i]));
        MUST(!more_cuda.instantiate(&work->executables[i], work->graphs[i], 0));
    }
}

/* Enqueues all; returns early when this rank was aborted meanwhile. */
static void enqueue_all(const struct work *work) {
    for (int i = 0; i < work->depth; i++) {
        if (work->executables[i])
            MUST(!more_cuda.launch(work->executables[i], work->me->stream));
        else if (call(work, i) != ncclSuccess)
            return;
    }
}

/* Every element of every result is right, or untouched. Returns how many results are whole. */
static int check_results(const struct work *work, const char *kernel, const char *when) {
    static _Thread_local float host[DEEPEST * COUNT];
    const size_t bytes = (size_t)work->depth * COUNT * sizeof(float);
    MUST(!cuda.download(host, work->output, bytes, work->beside));
    MUST(!cuda.wait_stream(work->beside));
    int whole = 0;
    for (int operation = 0; operation < work->depth; operation++) {
        int written = 0;
        for (int i = 0; i < COUNT; i++) {
            const float is = host[operation * COUNT + i], right = sum_of(everybody(work->me), operation, i);
            if (is == UNTOUCHED) continue;
            written++;
            if (is == right) continue;
            printf("failed=rank %d of %d, %s, %d operations %s, %s: element %d of operation %d is %g, not %g\n", work->me->number,
                   work->me->ranks, kernel, work->depth, mode_names[work->mode], when, i, operation, is, right);
            fflush(stdout);
            _exit(1);
        }
        whole += written == COUNT;
    }
    return whole;
}

/* Until the stream has nothing to do, or nothing has come of it for so long. */
static void let_work(const struct work *work, double limit_s) {
    const double begin = now_s();
    while (more_cuda.query_stream(work->me->stream) != 0 && now_s() < begin + limit_s) usleep(500);
}

/* Returns how long it takes until nothing is enqueued any more. */
static double abort_now(const struct work *work) {
    const double begin = now_s();
    NCCL(ncclCommAbort(work->comm));
    MUST(!cuda.wait_stream(work->me->stream));
    return now_s() - begin;
}

static void one_round(struct work *work, int kernel, int is_last_late, unsigned *seed, double *longest_s, int *whole_results) {
    const double let_work_s = cuda.is_simulated ? 0.12 : 0.02;
    const int last = work->me->ranks - 1;
    work->comm = communicator_of_all(work->me);
    /* Sets the communicator up. */
    NCCL(call(work, 0));
    MUST(!cuda.wait_stream(work->me->stream));
    must_be("fast: ", work->comm, COUNT);
    prepare(work);
    meet();
    const int is_late = is_last_late && work->me->number == last;
    if (!is_late) enqueue_all(work);
    /* Mostly early, now and then when all is over. */
    const int most_us = (cuda.is_simulated ? 100 : 4) << (rand_r(seed) % 8);
    if (work->me->number == 0) {
        usleep((useconds_t)(is_last_late ? (cuda.is_simulated ? 20000 : 2000) : rand_r(seed) % most_us));
        const double took_s = abort_now(work);
        if (took_s > *longest_s) *longest_s = took_s;
        check_results(work, kernels[kernel], "aborted");
    }
    meet();
    if (is_late) enqueue_all(work);
    if (work->me->number != 0) let_work(work, let_work_s);
    meet();
    if (work->me->number != 0) {
        *whole_results += check_results(work, kernels[kernel], is_last_late ? "behind a late rank" : "at work");
        abort_now(work);
        check_results(work, kernels[kernel], "aborted last");
    }
    for (int i = 0; i < work->depth; i++)
        if (work->executables[i]) MUST(!more_cuda.destroy_executable(work->executables[i]) && !more_cuda.destroy_graph(work->graphs[i]));
    meet();
}

/* Two ranks go through all; more of them take a sixth each, another one for each number of ranks and kernel. */
static int is_chosen(int ranks, int kernel, int depth, int mode, int is_last_late) {
    return ranks == 2 || (mode * 2 + is_last_late) == (ranks + kernel + 2 * depth) % 6;
}

static void abort_amid_work(struct rank *me) {
    static const int depths[] = {1, 3, DEEPEST};
    unsigned seed = 17u + (unsigned)me->number;
    double longest_s = 0;
    int whole_results = 0;
    struct work work = {.me = me};
    MUST(!cuda.create_stream(&work.beside, NON_BLOCKING_STREAM));
    MUST(!cuda.allocate(&work.input, DEEPEST * COUNT * sizeof(float)));
    MUST(!cuda.allocate(&work.output, DEEPEST * COUNT * sizeof(float)));
    for (int kernel = 0; kernel < KERNELS; kernel++) {
        /* Read when a communicator is set up. */
        setenv("DIME_KERNEL", kernels[kernel], 1);
        for (int depth = 0; depth < 3; depth++)
            for (int mode = 0; mode < MODES; mode++)
                for (int is_last_late = 0; is_last_late < 2; is_last_late++) {
                    if (!is_chosen(me->ranks, kernel, depth, mode, is_last_late)) continue;
                    work.depth = depths[depth];
                    work.mode = (enum mode)mode;
                    one_round(&work, kernel, is_last_late, &seed, &longest_s, &whole_results);
                }
    }
    printf("rank-%d-longest-abort-ms=%.2f\nrank-%d-whole-results=%d\n", me->number, 1e3 * longest_s, me->number, whole_results);
}

#define OF(count) {.name = "amid-work-of-" #count, .run = abort_amid_work, .way = PROCESSES, .ranks = count, .uncounted = 1}

int main(int argc, char **argv) {
    static const struct situation situations[] = {OF(2), OF(3), OF(4), OF(5), OF(6), OF(7), OF(8)};
    return run_situation(argc, argv, situations, sizeof situations / sizeof *situations);
}
