/* How processes end while they use communicators.
 *
 *   endings in-flight HOW      two ranks end with kernels that spin for a third; HOW is one of `ways_to_end`
 *   endings killed WHEN        one of three ranks is killed; the others abort, and go on with each other
 *
 * Prints right=1 and ends with 0 when all ended as it must, or says what did not. */
#define _GNU_SOURCE
#include <time.h>

#include "situation.h"

/* A process on a GPU takes seconds to begin and to end. An abort takes milliseconds. */
enum { RANKS = 3, PROCESS_LIMIT_MS = 20000, ABORT_LIMIT_MS = 5000, END_STATUS = 7 };

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

/* Waits for a child, but not for ever. */
static int status_of(pid_t child) {
    const double begin = now_ms();
    for (int status; now_ms() - begin < PROCESS_LIMIT_MS; usleep(1000)) {
        const pid_t ended = waitpid(child, &status, WNOHANG);
        MUST(ended >= 0);
        if (ended == child) return status;
    }
    kill(child, SIGKILL);
    MUST(!"a process did not end");
    return 0;
}

/* ---- With kernels that spin ---- */

static void end_by_return(void) {}
static void end_by_exit(void) { exit(END_STATUS); }
static void end_by_quick_exit(void) { quick_exit(END_STATUS); }
static void end_at_once(void) { _exit(END_STATUS); }

/* Whoever started the program may have it ignore the signal. */
static void end_by(int number) {
    MUST(signal(number, SIG_DFL) != SIG_ERR);
    kill(getpid(), number);
}

static void end_by_sigterm(void) { end_by(SIGTERM); }
static void end_by_sigint(void) { end_by(SIGINT); }
static void end_by_sigkill(void) { kill(getpid(), SIGKILL); }

static void *exit_in_thread(void *nothing) {
    (void)nothing;
    exit(END_STATUS);
}

static void end_by_exit_of_another_thread(void) {
    pthread_t thread;
    MUST(!pthread_create(&thread, NULL, exit_in_thread, NULL));
    for (;;) pause();
}

static void end_in_handler_of(int number) {
    (void)number;
    _exit(END_STATUS);
}

static void end_in_handler(void) {
    MUST(signal(SIGUSR1, end_in_handler_of) != SIG_ERR);
    raise(SIGUSR1);
}

static const struct way_to_end {
    const char *name;
    void (*end)(void);
    /* 0: by an exit with END_STATUS. */
    int signal;
} ways_to_end[] = {
    {"return", end_by_return, 0},
    {"exit", end_by_exit, 0},
    {"quick_exit", end_by_quick_exit, 0},
    {"_exit", end_at_once, 0},
    {"exit-of-another-thread", end_by_exit_of_another_thread, 0},
    {"_exit-in-handler", end_in_handler, 0},
    {"SIGTERM", end_by_sigterm, SIGTERM},
    {"SIGINT", end_by_sigint, SIGINT},
    {"SIGKILL", end_by_sigkill, SIGKILL},
};

/* Returns in the children only, which return from main with END_STATUS. */
static int end_in_flight(const struct way_to_end *way) {
    pid_t children[RANKS];
    share(RANKS);
    for (int i = 0; i < RANKS; i++) {
        children[i] = fork();
        MUST(children[i] >= 0);
        if (children[i]) continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        find_driver();
        const struct rank me = open_rank(i, RANKS);
        const ncclComm_t comms[] = {communicator_of_all(&me), communicator_of_all(&me)};
        for (int one = 0; one < 2; one++) sum(&me, comms[one], everybody(&me), 0, SMALL);
        if (i < RANKS - 1)
            for (int times = 0; times < 3; times++) NCCL(all_reduce_of(&me, comms[0], RANKS, SMALL));
        /* Until the kernels spin; with a watchdog, until it has asked them. */
        usleep(getenv("DIME_TIMEOUT_S") ? 500000 : 20000);
        meet();
        way->end();
        return END_STATUS;
    }
    for (int i = 0; i < RANKS; i++) {
        const int status = status_of(children[i]);
        if (way->signal) MUST(WIFSIGNALED(status) && WTERMSIG(status) == way->signal);
        else MUST(WIFEXITED(status) && WEXITSTATUS(status) == END_STATUS);
    }
    printf("right=1\n");
    return 0;
}

/* ---- One of three is killed ---- */

enum { VICTIM = 1 };

/* What the three share beside what situation.h has. */
static struct ending {
    pthread_barrier_t survivors;
    atomic_int victim, is_dead;
} *ending;

/* The rank dies here, if it is the one. */
static void die(const struct rank *me) {
    if (me->number == VICTIM) kill(getpid(), SIGKILL);
}

static void before_the_first_operation(struct rank *me, ncclComm_t comm) {
    die(me);
    /* The setup waits for the dead rank, until another thread aborts. */
    (void)all_reduce_of(me, comm, RANKS, SMALL);
}

static void in_an_operation(struct rank *me, ncclComm_t comm) {
    sum(me, comm, everybody(me), 0, SMALL);
    meet();
    die(me);
    NCCL(all_reduce_of(me, comm, RANKS, SMALL));
}

static void between_operations(struct rank *me, ncclComm_t comm) {
    for (int step = 0; step < 3; step++) sum(me, comm, everybody(me), step, step == 1 ? LARGE : SMALL);
    meet();
    die(me);
    usleep(20000);
}

/* Rank 0's signal comes wherever the victim is. */
static void at_any_moment(struct rank *me, ncclComm_t comm) {
    sum(me, comm, everybody(me), 0, SMALL);
    if (me->number == VICTIM) atomic_store(&ending->victim, getpid());
    meet();
    const double moment = now_ms() + 30;
    for (int step = 0; !atomic_load(&ending->is_dead); step++) {
        fill(me, step, SMALL);
        NCCL(all_reduce_of(me, comm, RANKS, SMALL));
        if (me->number == 0 && now_ms() > moment) kill(atomic_load(&ending->victim), SIGKILL);
        while (more_cuda.query_stream(me->stream) != 0 && !atomic_load(&ending->is_dead)) usleep(10);
    }
}

static const struct moment {
    const char *name;
    void (*run)(struct rank *me, ncclComm_t comm);
} moments[] = {
    {"before-the-first-operation", before_the_first_operation},
    {"in-an-operation", in_an_operation},
    {"between-operations", between_operations},
    {"at-any-moment", at_any_moment},
};

struct running {
    const struct moment *moment;
    struct rank *me;
    ncclComm_t comm;
};

static void *run_moment(void *running) {
    const struct running *it = running;
    use(it->me);
    it->moment->run(it->me, it->comm);
    return NULL;
}

static int be_rank(int number, const struct moment *moment) {
    find_driver();
    struct rank me = open_rank(number, RANKS);
    struct running running = {moment, &me, communicator_of_all(&me)};
    agree_on_ids(&me, 2);
    pthread_t thread;
    MUST(!pthread_create(&thread, NULL, run_moment, &running));
    if (number == VICTIM) pthread_join(thread, NULL);
    while (!atomic_load(&ending->is_dead)) usleep(1000);
    /* The thread goes on to where it waits for the dead rank. */
    usleep(50000);
    const double begin = now_ms();
    NCCL(ncclCommAbort(running.comm));
    MUST(now_ms() - begin < ABORT_LIMIT_MS);
    MUST(!pthread_join(thread, NULL));
    MUST(now_ms() - begin < ABORT_LIMIT_MS);
    MUST(!cuda.wait_stream(me.stream));
    pthread_barrier_wait(&ending->survivors);
    /* The remaining ones are 0 and 2, which are 0 and 1 of the next. */
    ncclComm_t next;
    NCCL(ncclCommInitRank(&next, RANKS - 1, shared->ids[1], number / 2));
    try_out(&me, next, everybody(&me) & ~(1 << VICTIM), 5);
    NCCL(ncclCommDestroy(next));
    return 0;
}

static int kill_one(const struct moment *moment) {
    pid_t children[RANKS];
    share(RANKS);
    pthread_barrierattr_t between_processes;
    ending = mmap(NULL, sizeof *ending, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(ending != MAP_FAILED);
    MUST(!pthread_barrierattr_init(&between_processes));
    MUST(!pthread_barrierattr_setpshared(&between_processes, PTHREAD_PROCESS_SHARED));
    MUST(!pthread_barrier_init(&ending->survivors, &between_processes, RANKS - 1));
    for (int i = 0; i < RANKS; i++) {
        children[i] = fork();
        MUST(children[i] >= 0);
        if (children[i]) continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        return be_rank(i, moment);
    }
    const int status = status_of(children[VICTIM]);
    MUST(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    atomic_store(&ending->is_dead, 1);
    for (int i = 0; i < RANKS; i++) MUST(i == VICTIM || status_of(children[i]) == 0);
    printf("right=1\n");
    return 0;
}

int main(int argc, char **argv) {
    set_threshold();
    const int enough = exit_status(start(count_devices, RANKS));
    if (enough != 0) return enough;
    if (argc == 3 && strcmp(argv[1], "in-flight") == 0)
        for (size_t i = 0; i < sizeof ways_to_end / sizeof *ways_to_end; i++)
            if (strcmp(argv[2], ways_to_end[i].name) == 0) return end_in_flight(&ways_to_end[i]);
    if (argc == 3 && strcmp(argv[1], "killed") == 0)
        for (size_t i = 0; i < sizeof moments / sizeof *moments; i++)
            if (strcmp(argv[2], moments[i].name) == 0) return kill_one(&moments[i]);
    return 2;
}
