/* Ranks of one communicator, a process for each. One of them is not allowed a system call any more, from some moment on:
 *
 *   denied LIBDIME LIBNCCL RANKS RANK WHEN WHAT [ERRNO] [--without RANK] [--late RANK]
 *
 * WHEN: never, before (the communicator is made), within (while it is made, by another thread), after. WHAT: a system call, which then fails
 * with ERRNO (a seccomp filter); scope (connections to abstract sockets of other processes, by Landlock); descriptors (new ones);
 * user (it becomes another one). --without: this rank uses LIBNCCL alone. --late: this rank comes to the first all-reduce LATE_MS after the
 * others.
 *
 * All do small all-reduces and check every element. Output: `rank-R=LINE`, what dimeExplain says to rank R; `ms=N`, how long the
 * slowest first all-reduce took; `call-ms=N`, how long the slowest call of a rank that is not late; and right=1 when every call succeeded with the right result. Where the kernel lacks what WHAT needs it
 * says `skipped=...` and ends with 77. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "gpus.h"
#include "nccl.h"

enum { MAX_RANKS = 8, COUNT = 700, ROUNDS = 3, LATE_MS = 800, SKIPPED = 77 };

static struct {
    ncclUniqueId id;
    pthread_barrier_t all;
    double first_ms[MAX_RANKS], call_ms[MAX_RANKS];
} *shared;

static struct {
    ncclResult_t (*get_id)(ncclUniqueId *id);
    ncclResult_t (*init)(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank);
    ncclResult_t (*all_reduce)(const void *in, void *out, size_t count, int type, int op, ncclComm_t comm, void *stream);
    ncclResult_t (*destroy)(ncclComm_t comm);
    /* Of libdime.so only. */
    ncclResult_t (*explain)(ncclComm_t comm, size_t count, int type, int op, char *text, size_t bytes);
} nccl;

static struct {
    int ranks, rank, without, late, error;
    const char *when, *what;
} options;

static void must(int ok, const char *what) {
    if (ok) return;
    fprintf(stderr, "failed=%s (errno %d)\n", what, errno);
    _exit(1);
}

static double now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e3 + time.tv_nsec * 1e-6;
}

static void open_library(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    must(library != NULL, path);
    struct {
        const char *name;
        void *place;
    } functions[] = {
        {"ncclGetUniqueId", &nccl.get_id}, {"ncclCommInitRank", &nccl.init},   {"ncclAllReduce", &nccl.all_reduce},
        {"ncclCommDestroy", &nccl.destroy}, {"dimeExplain", &nccl.explain},
    };
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *address = dlsym(library, functions[i].name);
        must(address != NULL || strncmp(functions[i].name, "nccl", 4) != 0, functions[i].name);
        memcpy(functions[i].place, &address, sizeof address);
    }
}

/* ---- What is denied ---- */

static const struct {
    const char *name;
    int number;
} calls[] = {
    {"socket", SYS_socket},         {"bind", SYS_bind},       {"listen", SYS_listen},   {"connect", SYS_connect},
    {"accept4", SYS_accept4},       {"sendmsg", SYS_sendmsg}, {"recvmsg", SYS_recvmsg}, {"sendto", SYS_sendto},
    {"recvfrom", SYS_recvfrom},     {"poll", SYS_poll},       {"fcntl", SYS_fcntl},     {"getrandom", SYS_getrandom},
    {"getsockopt", SYS_getsockopt}, {"shutdown", SYS_shutdown}, {"openat", SYS_openat},
};

static int number_of(const char *name) {
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (!strcmp(calls[i].name, name)) return calls[i].number;
    return -1;
}

/* In all threads of the process. */
static void deny_call(int number, int error) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ((unsigned)error & SECCOMP_RET_DATA)),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "PR_SET_NO_NEW_PRIVS");
    must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0, "seccomp");
}

/* Only in this thread and those that it makes. */
static void scope_abstract_sockets(void) {
    enum { CREATE_RULESET = 444, RESTRICT_SELF = 446, SCOPE_ABSTRACT_SOCKETS = 1 };
    struct {
        uint64_t handled_files, handled_ports, scoped;
    } rules = {0, 0, SCOPE_ABSTRACT_SOCKETS};
    const long ruleset = syscall(CREATE_RULESET, &rules, sizeof rules, 0);
    must(ruleset >= 0, "landlock_create_ruleset");
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "PR_SET_NO_NEW_PRIVS");
    must(syscall(RESTRICT_SELF, ruleset, 0) == 0, "landlock_restrict_self");
    close((int)ruleset);
}

static int can_scope(void) {
    enum { CREATE_RULESET = 444, VERSION = 1, FIRST_WITH_SCOPES = 6 };
    return syscall(CREATE_RULESET, NULL, 0, VERSION) >= FIRST_WITH_SCOPES;
}

static void deny_descriptors(void) {
    const int next = dup(0);
    struct rlimit limit = {.rlim_cur = (rlim_t)next, .rlim_max = (rlim_t)next};
    close(next);
    must(next >= 0 && setrlimit(RLIMIT_NOFILE, &limit) == 0, "RLIMIT_NOFILE");
}

static void deny(void) {
    if (!strcmp(options.what, "scope")) scope_abstract_sockets();
    else if (!strcmp(options.what, "descriptors")) deny_descriptors();
    else if (!strcmp(options.what, "user")) must(setresuid(12345, 12345, 0) == 0, "setresuid");
    else deny_call(number_of(options.what), options.error);
}

static void *deny_soon(void *unused) {
    usleep(150000);
    deny();
    return unused;
}

/* ---- A rank ---- */

static void sum(int rank, int round, ncclComm_t comm, device_address buffer, void *stream) {
    float host[COUNT];
    for (int i = 0; i < COUNT; i++) host[i] = (float)(rank + 1 + i % 10 + round);
    must(!cuda.upload(buffer, host, sizeof host, stream) && !cuda.wait_stream(stream), "upload");
    void *data = (void *)(size_t)buffer;
    const double begin_ms = now_ms();
    must(nccl.all_reduce(data, data, COUNT, ncclFloat, ncclSum, comm, stream) == ncclSuccess, "ncclAllReduce");
    if (round == 0) shared->call_ms[rank] = now_ms() - begin_ms;
    must(!cuda.wait_stream(stream), "cuStreamSynchronize");
    if (round == 0) shared->first_ms[rank] = now_ms() - begin_ms;
    must(!cuda.download(host, buffer, sizeof host, stream) && !cuda.wait_stream(stream), "download");
    for (int i = 0; i < COUNT; i++) {
        float expected = 0;
        for (int member = 0; member < options.ranks; member++) expected += (float)(member + 1 + i % 10 + round);
        must(host[i] == expected, "a result");
    }
}

static void run_rank(int rank) {
    const int is_denied = rank == options.rank;
    void *stream;
    device_address buffer;
    must(find_cuda() && !cuda.init(0) && !open_device(gpu_of(rank), &stream), "opening a device");
    must(!cuda.allocate(&buffer, COUNT * sizeof(float)), "cuMemAlloc");
    if (rank == 0) must(nccl.get_id(&shared->id) == ncclSuccess, "ncclGetUniqueId");
    pthread_barrier_wait(&shared->all);
    ncclComm_t comm;
    pthread_t denier;
    const int is_within = !strcmp(options.when, "within");
    if (is_denied && !strcmp(options.when, "before")) deny();
    if (is_denied && is_within) must(!pthread_create(&denier, NULL, deny_soon, NULL), "pthread_create");
    /* All others come late, so it happens while the denied one waits for them in NCCL. */
    if (!is_denied && is_within) usleep(400000);
    must(nccl.init(&comm, options.ranks, shared->id, rank) == ncclSuccess, "ncclCommInitRank");
    if (is_denied && is_within) pthread_join(denier, NULL);
    pthread_barrier_wait(&shared->all);
    if (is_denied && !strcmp(options.when, "after")) deny();
    if (rank == options.late) usleep(LATE_MS * 1000);
    for (int round = 0; round < ROUNDS; round++) sum(rank, round, comm, buffer, stream);
    char text[200], line[260];
    if (nccl.explain) {
        must(nccl.explain(comm, COUNT, ncclFloat, ncclSum, text, sizeof text) == ncclSuccess, "dimeExplain");
        const int bytes = snprintf(line, sizeof line, "rank-%d=%s\n", rank, text);
        must(write(STDOUT_FILENO, line, (size_t)bytes) == bytes, "write");
    }
    must(nccl.destroy(comm) == ncclSuccess, "ncclCommDestroy");
    _exit(0);
}

int main(int argc, char **argv) {
    must(argc >= 7, "usage: denied LIBDIME LIBNCCL RANKS RANK WHEN WHAT [ERRNO] [--without RANK]");
    options.ranks = atoi(argv[3]);
    options.rank = atoi(argv[4]);
    options.when = argv[5];
    options.what = argv[6];
    options.without = options.late = -1;
    for (int i = 7; i < argc; i++) {
        if (!strcmp(argv[i], "--without")) options.without = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--late")) options.late = atoi(argv[++i]);
        else options.error = atoi(argv[i]);
    }
    must(options.ranks >= 2 && options.ranks <= MAX_RANKS, "2 to 8 ranks");
    if (!strcmp(options.what, "scope") && !can_scope()) {
        printf("skipped=this kernel's Landlock has no scopes\n");
        return SKIPPED;
    }
    if (!strcmp(options.what, "user") && geteuid() != 0) {
        printf("skipped=only root may become another user\n");
        return SKIPPED;
    }
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(shared != MAP_FAILED, "mmap");
    pthread_barrierattr_t between_processes;
    pthread_barrierattr_init(&between_processes);
    pthread_barrierattr_setpshared(&between_processes, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&shared->all, &between_processes, (unsigned)options.ranks);
    for (int rank = 0; rank < options.ranks; rank++) {
        if (fork() != 0) continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        open_library(argv[rank == options.without ? 2 : 1]);
        run_rank(rank);
    }
    for (int left = options.ranks, status; left > 0; left--)
        must(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0, "a rank");
    double slowest_ms = 0, slowest_call_ms = 0;
    for (int rank = 0; rank < options.ranks; rank++) {
        if (shared->first_ms[rank] > slowest_ms) slowest_ms = shared->first_ms[rank];
        if (rank != options.late && shared->call_ms[rank] > slowest_call_ms) slowest_call_ms = shared->call_ms[rank];
    }
    printf("ms=%.0f\ncall-ms=%.0f\nright=1\n", slowest_ms, slowest_call_ms);
    return 0;
}
