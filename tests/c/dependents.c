/* All-reduces beside kernels of the application with programmatic dependent launch. Usage and outcome are in situation.h. */
#define _GNU_SOURCE
#include "application_kernels.h"

enum { THREAD_LOCAL = 1, LATE_US = 50000, LATEST_US = 1000000 };

/* What a rank has in these situations. */
struct work {
    const struct rank *me;
    ncclComm_t comm;
    struct application_kernels kernels;
    /* The word that kernels wait at, and where they copy to. */
    device_address gate, copied;
    /* The only one that eager all-reduces are on, so that nothing comes between them and the kernels; one for captures; one that never
     * waits for them. */
    void *stream, *branch, *beside;
};

static void set_word(const struct work *work, device_address word, unsigned value) {
    MUST(!cuda.upload(word, &value, sizeof value, work->beside) && !cuda.wait_stream(work->beside));
}

static void set_all(const struct work *work, float value, int count) {
    float host[SMALL];
    for (int i = 0; i < count; i++) host[i] = value;
    MUST(!cuda.upload(work->me->buffer, host, (size_t)count * sizeof *host, work->beside) && !cuda.wait_stream(work->beside));
}

/* Waits a while for what a kernel copies. */
static void await_copy(const struct work *work) {
    float first = 0;
    for (int us = 0; first == 0 && us < LATEST_US; us += LATE_US) {
        usleep(LATE_US);
        MUST(!cuda.download(&first, work->copied, sizeof first, work->beside) && !cuda.wait_stream(work->beside));
    }
}

/* What all elements there are. */
static float get_all(const struct work *work, device_address data, int count) {
    float host[SMALL];
    MUST(!cuda.download(host, data, (size_t)count * sizeof *host, work->beside) && !cuda.wait_stream(work->beside));
    for (int i = 1; i < count; i++) MUST(host[i] == host[0]);
    return host[0];
}

static void must_be_all(const struct work *work, float expected, int count) {
    const float given = get_all(work, work->me->buffer, count);
    if (given == expected) return;
    printf("failed=rank %d, %d elements: %g, not %g\n", work->me->number, count, given, expected);
    fflush(stdout);
    _exit(1);
}

/* Of 1 for rank 0, 2 for rank 1 and so on. */
static float sum_of_numbers(const struct rank *me) {
    return (float)(me->ranks * (me->ranks + 1) / 2);
}

static struct work begin(const struct rank *me) {
    struct work work = {.me = me, .comm = communicator_of_all(me), .kernels = load_kernels()};
    work.stream = me->stream, work.branch = new_stream(), work.beside = new_stream();
    MUST(!cuda.allocate(&work.gate, sizeof(unsigned)) && !cuda.allocate(&work.copied, SMALL * sizeof(float)));
    sum(me, work.comm, everybody(me), 0, SMALL);
    return work;
}

/* In place, of everything that the buffer holds. */
static void reduce(const struct work *work, void *stream, int count) {
    void *data = (void *)(size_t)work->me->buffer;
    atomic_fetch_add(&expected_fast, 1);
    NCCL(ncclAllReduce(data, data, (size_t)count, ncclFloat, ncclSum, work->comm, stream));
}

static void *end_in_executable(void *stream) {
    void *graph, *executable;
    MUST(!more_cuda.end_capture(stream, &graph));
    MUST(!more_cuda.instantiate(&executable, graph, 0));
    MUST(!more_cuda.destroy_graph(graph));
    return executable;
}

static void reduce_what_is_written_late(const struct work *work, int count) {
    write_late(&work->kernels, work->stream, NULL, work->me->buffer, (unsigned)count, (float)(work->me->number + 1), work->gate);
    reduce(work, work->stream, count);
}

/* The graph, or without one the same eagerly: an all-reduce of what is written late. */
static void run_behind_the_gate(const struct work *work, void *executable, int count) {
    set_word(work, work->gate, 0);
    set_all(work, 1000, count);
    if (executable) {
        MUST(!more_cuda.launch(executable, work->stream));
    } else {
        reduce_what_is_written_late(work, count);
    }
    usleep(LATE_US);
    set_word(work, work->gate, 1);
    MUST(!cuda.wait_stream(work->stream));
    must_be_all(work, sum_of_numbers(work->me), count);
    meet();
}

/* The kernel before an all-reduce lets it start early, and writes its input when it may have started. */
static void behind_a_late_writer(struct rank *me) {
    struct work work = begin(me);
    const int counts[] = {7, SMALL};
    for (int i = 0; i < 2; i++) {
        run_behind_the_gate(&work, NULL, counts[i]);
        MUST(!more_cuda.begin_capture(work.stream, THREAD_LOCAL));
        reduce_what_is_written_late(&work, counts[i]);
        void *executable = end_in_executable(work.stream);
        for (int replay = 0; replay < 2; replay++) run_behind_the_gate(&work, executable, counts[i]);
        MUST(!more_cuda.destroy_executable(executable));
    }
    NCCL(ncclCommDestroy(work.comm));
}

/* A captured all-reduce waits for an event that the kernel before it records when it lets others start. */
static void behind_a_programmatic_event(struct rank *me) {
    struct work work = begin(me);
    void *event = new_event();
    struct launch_attribute recorded = {.id = PROGRAMMATIC_EVENT, .value.programmatic_event = {.event = event}};
    /* The all-reduce is the first of its capture, or not; behind that kernel only, or behind another branch too. */
    for (int kind = 0; kind < 4; kind++) {
        MUST(!more_cuda.begin_capture(work.stream, THREAD_LOCAL));
        if (kind & 1) reduce(&work, work.stream, SMALL);
        if (kind & 2) await_stream(work.branch, work.stream);
        if (kind == 3) reduce(&work, work.branch, SMALL);
        if (kind & 2) await_stream(work.stream, work.branch);
        write_late(&work.kernels, work.stream, &recorded, me->buffer, SMALL, (float)(me->number + 1), work.gate);
        MUST(!more_cuda.await(work.branch, event, 0));
        reduce(&work, work.branch, SMALL);
        await_stream(work.stream, work.branch);
        void *executable = end_in_executable(work.stream);
        for (int replay = 0; replay < 2; replay++) run_behind_the_gate(&work, executable, SMALL);
        MUST(!more_cuda.destroy_executable(executable));
    }
    MUST(!more_cuda.destroy_event(event));
    NCCL(ncclCommDestroy(work.comm));
}

/* A kernel behind an all-reduce, launched with the attribute of programmatic dependent launch, that does not wait: it starts as soon as
 * the all-reduce lets it. */
static void before_a_hasty_reader(struct rank *me) {
    struct work work = begin(me);
    for (int in_graph = 0; in_graph < 2; in_graph++) {
        void *executable = NULL;
        set_all(&work, (float)(me->number + 1), SMALL);
        set_word(&work, work.copied, 0);
        if (in_graph) {
            MUST(!more_cuda.begin_capture(work.stream, THREAD_LOCAL));
            reduce(&work, work.stream, SMALL);
            copy_early(&work.kernels, work.stream, me->buffer, work.copied, SMALL);
            executable = end_in_executable(work.stream);
        }
        /* The all-reduce of rank 0 waits for rank 1. */
        if (me->number == 1) meet();
        if (in_graph) {
            MUST(!more_cuda.launch(executable, work.stream));
        } else {
            reduce(&work, work.stream, SMALL);
            copy_early(&work.kernels, work.stream, me->buffer, work.copied, SMALL);
        }
        if (me->number == 0) {
            await_copy(&work);
            meet();
        }
        MUST(!cuda.wait_stream(work.stream));
        must_be_all(&work, sum_of_numbers(me), SMALL);
        if (me->number == 0) {
            const float copied = get_all(&work, work.copied, SMALL);
            MUST(copied == 1 || copied == sum_of_numbers(me));
            printf("%s=%s\n", in_graph ? "graph" : "eager", copied == 1 ? "early" : "behind");
            fflush(stdout);
        }
        meet();
    }
    NCCL(ncclCommDestroy(work.comm));
}

int main(int argc, char **argv) {
    static const struct situation situations[] = {
        {.name = "behind-a-late-writer", .run = behind_a_late_writer, .way = PROCESSES, .ranks = 2},
        {.name = "behind-a-late-writer-of-threads", .run = behind_a_late_writer, .way = THREADS, .ranks = 3},
        {.name = "behind-a-programmatic-event", .run = behind_a_programmatic_event, .way = PROCESSES, .ranks = 2},
        {.name = "before-a-hasty-reader", .run = before_a_hasty_reader, .way = PROCESSES, .ranks = 2},
    };
    return run_situation(argc, argv, situations, sizeof situations / sizeof *situations);
}
