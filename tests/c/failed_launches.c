/* An all-reduce on another stream than the one before fails when the kernel that waits for the one before has been enqueued already, behind
 * other work of that stream. Nothing that this kernel reads is given back before it is over.
 *
 * Only for the simulated node: DIME_SIM_FAULT has the launch fail. Usage and outcome are in situation.h. */
#define _GNU_SOURCE
#include <time.h>

#include "chain.h"

enum { ENDING_LIMIT_MS = 5000, HANG_LIMIT_S = 40, OPENS_AFTER_MS = 300 };

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

static size_t device_memory_in_use(void) {
    size_t free_bytes, total_bytes;
    MUST(!more_cuda.free_memory(&free_bytes, &total_bytes));
    return total_bytes - free_bytes;
}

/* A communicator, and a stream that only a kernel of it is in which waits for nothing but its turn. */
static ncclComm_t fail_on(struct rank *me, void *busy, struct gate *gate) {
    void *data = (void *)(size_t)me->buffer;
    ncclComm_t comm = communicator_of_all(me);
    sum(me, comm, everybody(me), 0, SMALL);
    meet();
    occupy(busy, gate);
    GIVES(ncclUnhandledCudaError, ncclAllReduce(data, data, SMALL, ncclFloat, ncclSum, comm, busy));
    return comm;
}

static void use_again(struct rank *me, size_t before) {
    ncclComm_t next = communicator_of_all(me);
    sum(me, next, everybody(me), 1, SMALL);
    NCCL(ncclCommDestroy(next));
    MUST(device_memory_in_use() <= before);
}

static void aborted(struct rank *me) {
    alarm(HANG_LIMIT_S);
    struct gate gate;
    void *busy = new_stream();
    const size_t before = device_memory_in_use();
    ncclComm_t comm = fail_on(me, busy, &gate);
    const double begin = now_ms();
    NCCL(ncclCommAbort(comm));
    MUST(now_ms() - begin < ENDING_LIMIT_MS && more_cuda.query_stream(busy) != 0);
    open_gate(&gate);
    MUST(!cuda.wait_stream(busy));
    meet();
    use_again(me, before);
}

static void *open_later(void *gate) {
    usleep(1000 * OPENS_AFTER_MS);
    open_gate(gate);
    return NULL;
}

static void destroyed(struct rank *me) {
    alarm(HANG_LIMIT_S);
    struct gate gate;
    void *busy = new_stream();
    const size_t before = device_memory_in_use();
    ncclComm_t comm = fail_on(me, busy, &gate);
    pthread_t thread;
    MUST(!pthread_create(&thread, NULL, open_later, &gate));
    NCCL(ncclCommDestroy(comm));
    MUST(more_cuda.query_stream(busy) == 0);
    MUST(!pthread_join(thread, NULL));
    meet();
    use_again(me, before);
}

/* The call did not begin, so the communicator is as it was: the next one comes behind the kernel that waits. */
static void used_on(struct rank *me) {
    alarm(HANG_LIMIT_S);
    struct gate gate;
    void *busy = new_stream(), *third = new_stream();
    ncclComm_t comm = fail_on(me, busy, &gate);
    struct rank lane = *me;
    lane.stream = third;
    fill(&lane, 2, SMALL);
    NCCL(all_reduce_of(&lane, comm, me->ranks, SMALL));
    usleep(20000);
    MUST(more_cuda.query_stream(third) != 0);
    open_gate(&gate);
    check(&lane, everybody(me), 2, SMALL);
    must_be("fast: ", comm, SMALL);
    NCCL(ncclCommDestroy(comm));
}

/* Two kernels of the probe, an all-reduce, and the kernel that waits come before. */
#define FAILS(name_, run_)                                                                                           \
    {.name = name_, .run = run_, .way = PROCESSES, .ranks = 2, .uncounted = 1,                                       \
     .environment = {"DIME_SIM_FAULT=fail@cuLaunchKernelEx:5"}}

static const struct situation situations[] = {
    FAILS("aborted", aborted),
    FAILS("destroyed", destroyed),
    FAILS("used-on", used_on),
};

int main(int argc, char **argv) {
    return run_situation(argc, argv, situations, sizeof situations / sizeof *situations);
}
