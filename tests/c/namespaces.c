/* Ranks in namespaces of their own: one or two of three enter new ones, each by itself.
 *
 *   namespaces KIND
 *
 * Prints verdict=, what an all-reduce then is, and slowest-ms=, the longest that a rank took to its first one. Ends with 0 when that was
 * not long, all results are right and all ranks alike, with NOT_POSSIBLE where such a namespace cannot be made, else with 1. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <time.h>

#include "situation.h"

/* A setup that waits for what does not come takes 30 s. */
enum { RANKS = 3, NOT_POSSIBLE = 78, AT_ONCE_MS = 10000 };

static const struct kind {
    const char *name;
    int flags;
    /* What /proc becomes: its own before CUDA starts, which reads it; none behind the making of the communicator, since the libraries
     * need it to start. */
    enum { KEEP_PROC, OWN_PROC, NO_PROC } proc;
    int is_unmapped;
} kinds[] = {
    {"net", CLONE_NEWNET, KEEP_PROC, 0},
    {"uts-and-ipc", CLONE_NEWUTS | CLONE_NEWIPC, KEEP_PROC, 0},
    {"pid", CLONE_NEWPID, KEEP_PROC, 0},
    {"pid-with-its-proc", CLONE_NEWPID | CLONE_NEWNS, OWN_PROC, 0},
    {"no-proc", CLONE_NEWNS, NO_PROC, 0},
    {"user", CLONE_NEWUSER, KEEP_PROC, 0},
    {"user-without-a-map", CLONE_NEWUSER, KEEP_PROC, 1},
};

static const struct kind *kind;

/* What each rank says. */
static struct told {
    char text[RANKS][160];
    double ms[RANKS];
} *told;

static int put(const char *path, const char *text) {
    const int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0) return 0;
    const int is_written = write(file, text, strlen(text)) == (ssize_t)strlen(text);
    close(file);
    return is_written;
}

/* As root inside, which only that user is. */
static int map_root(unsigned user, unsigned group) {
    char users[32], groups[32];
    snprintf(users, sizeof users, "0 %u 1", user);
    snprintf(groups, sizeof groups, "0 %u 1", group);
    return put("/proc/self/setgroups", "deny") && put("/proc/self/uid_map", users) && put("/proc/self/gid_map", groups);
}

/* Who is not root may make other namespaces inside a new one of users. */
static int become_root(void) {
    const unsigned user = geteuid(), group = getegid();
    if (user == 0 || kind->flags & CLONE_NEWUSER) return 1;
    return unshare(CLONE_NEWUSER) == 0 && map_root(user, group);
}

/* Whether a rank is one of those that enter. The simulated NCCL has all ranks open a file of rank 0's below /proc, which is not found
 * from outside of its namespace of processes, and not allowed from inside of another one of users. */
static int enters(int rank) {
    return kind->flags & CLONE_NEWUSER ? rank == 0 : rank > 0;
}

/* 1: the process is in new namespaces. For a new one of processes that is a child; its parent waits for it. */
static int enter(void) {
    const unsigned user = geteuid(), group = getegid();
    if (unshare(kind->flags) != 0) return 0;
    if (kind->flags & CLONE_NEWUSER && !kind->is_unmapped && !map_root(user, group)) return 0;
    if (kind->flags & CLONE_NEWNS && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) return 0;
    if (kind->flags & CLONE_NEWPID) {
        const pid_t child = fork();
        if (child > 0) _exit(exit_status(child));
        if (child < 0) return 0;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
    return 1;
}

/* The simulated NCCL finds its peers by the /proc of all. */
static int own_proc(int has_communicator) {
    if (kind->proc != OWN_PROC || has_communicator != cuda.is_simulated) return 1;
    return mount("proc", "/proc", "proc", 0, NULL) == 0;
}

static int lose_proc(void) {
    return kind->proc != NO_PROC || mount("none", "/proc", "tmpfs", 0, NULL) == 0;
}

static void not_possible(const char *why) {
    printf("not-possible=%s: %s\n", kind->name, why);
    fflush(stdout);
    _exit(NOT_POSSIBLE);
}

/* Whether the machine permits it, and whether CUDA and NCCL alone start there. */
static void try_to_enter(int nothing) {
    (void)nothing;
    ncclUniqueId id;
    MUST(find_cuda());
    if (!become_root() || !enter() || !own_proc(0)) not_possible(strerror(errno));
    if (cuda.init(0)) not_possible("CUDA does not start there");
    if (ncclGetUniqueId(&id) != ncclSuccess) not_possible("NCCL finds no network there");
    if (!own_proc(1) || !lose_proc()) not_possible(strerror(errno));
}

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

static void be_rank(int number) {
    MUST(find_cuda());
    if (enters(number)) MUST(enter() && own_proc(0));
    find_driver();
    const struct rank me = open_rank(number, RANKS);
    const int all = everybody(&me);
    const double begin = now_ms();
    const ncclComm_t comm = communicator_of_all(&me);
    if (enters(number)) MUST(own_proc(1) && lose_proc());
    sum(&me, comm, all, 0, SMALL);
    told->ms[number] = now_ms() - begin;
    NCCL(dimeExplain(comm, SMALL, ncclFloat, ncclSum, told->text[number], sizeof told->text[number]));
    sum(&me, comm, all, 1, LARGE);
    sum(&me, comm, all, 2, SMALL);
    NCCL(ncclCommDestroy(comm));
}

int main(int argc, char **argv) {
    for (size_t i = 0; argc == 2 && i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(argv[1], kinds[i].name) == 0) kind = &kinds[i];
    if (!kind) return 2;
    set_threshold();
    const int enough = exit_status(start(count_devices, RANKS));
    if (enough != 0) return enough;
    const int is_possible = exit_status(start(try_to_enter, 0));
    if (is_possible != 0) return is_possible;
    MUST(become_root());
    told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(told != MAP_FAILED);
    share(RANKS);
    if (run_each(RANKS, be_rank)) return 1;
    double slowest_ms = 0;
    for (int i = 0; i < RANKS; i++) {
        MUST(strcmp(told->text[i], told->text[0]) == 0);
        if (told->ms[i] > slowest_ms) slowest_ms = told->ms[i];
    }
    printf("verdict=%s\nslowest-ms=%.0f\n", told->text[0], slowest_ms);
    MUST(slowest_ms < AT_ONCE_MS);
    return 0;
}
