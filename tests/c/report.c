/* Says which NCCL answers in a process, and how.
 *
 *   report [--map LIBRARY]... [--global] [--fork before|after] [--threads N] [LIBRARY]
 *
 * --map: libraries to have in the process before. LIBRARY: opened by this name, RTLD_LOCAL unless --global is given.
 * Without it, the functions are those that the process already has (a linked or a preloaded library). --fork: makes the
 * calls in a child, which is made before or after the first call in the parent. --threads: makes the first call from
 * that many threads at once. Output: key=value lines. */
#define _GNU_SOURCE
#include "nccl_min.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void *library = RTLD_DEFAULT;

/* Keeps a linked library in the list of needed ones. */
#ifdef LINKED
void *keeps_the_library_needed(void);
void *keeps_the_library_needed(void) {
    return (void *)ncclGetVersion;
}
#endif

static void *find(const char *name) {
    void *symbol = dlsym(library, name);
    if (!symbol) {
        printf("lacking=%s\n", name);
        exit(3);
    }
    return symbol;
}
#define NCCL(name) ((__typeof__(name) *)find(#name))

static pthread_barrier_t start;
static int wrong_in_threads;

static void *first_call(void *unused) {
    (void)unused;
    int version = 0;
    pthread_barrier_wait(&start);
    if (NCCL(ncclGetVersion)(&version) != 0 || version == 0) __atomic_fetch_add(&wrong_in_threads, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void call_from_threads(int count) {
    pthread_t *threads = calloc((size_t)count, sizeof *threads);
    pthread_barrier_init(&start, NULL, (unsigned)count);
    for (int i = 0; i < count; i++) pthread_create(&threads[i], NULL, first_call, NULL);
    for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
    free(threads);
    printf("wrong-in-threads=%d\n", wrong_in_threads);
}

static void report(void) {
    int version = 0, count = 0;
    ncclComm_t comms[1] = {NULL};
    ncclUniqueId id;
    memset(&id, 0, sizeof id);
    printf("pid=%d\n", (int)getpid());
    printf("version-result=%d\n", NCCL(ncclGetVersion)(&version));
    printf("version=%d\n", version);
    const char *(*real)(void) = (const char *(*)(void))dlsym(library, "dimeRealLibrary");
    const char *path = real ? real() : "(not dime)";
    printf("real=%s\n", path ? path : "(null)");
    Dl_info info;
    printf("answered-by=%s\n", dladdr(find("ncclGetVersion"), &info) ? info.dli_fname : "(unknown)");
    printf("unique-id=%d\n", NCCL(ncclGetUniqueId)(&id));
    printf("group-start=%d\n", NCCL(ncclGroupStart)());
    printf("group-end=%d\n", NCCL(ncclGroupEnd)());
    printf("comm-count=%d\n", NCCL(ncclCommCount)(NULL, &count));
    printf("init-all=%d\n", NCCL(ncclCommInitAll)(comms, 1, NULL));
    const char *text = NCCL(ncclGetErrorString)(2);
    printf("error-string=%s\n", text ? text : "(null)");
    text = NCCL(ncclGetLastError)(NULL);
    printf("last-error=");
    for (const char *c = text ? text : "(null)"; *c; c++) printf(*c == '\n' ? " | " : "%c", *c);
    printf("\n");
    printf("end=reached\n");
}

static void *open_or_exit(const char *name, int flags) {
    void *handle = dlopen(name, flags);
    if (!handle) {
        printf("dlopen=%s\n", dlerror());
        exit(3);
    }
    return handle;
}

int main(int argc, char **argv) {
    int flags = RTLD_NOW | RTLD_LOCAL, threads = 0;
    const char *fork_when = "never";
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--map") == 0 && i + 1 < argc) {
            open_or_exit(argv[++i], RTLD_NOW | RTLD_LOCAL);
        } else if (strcmp(argv[i], "--global") == 0) {
            flags = RTLD_NOW | RTLD_GLOBAL;
        } else if (strcmp(argv[i], "--fork") == 0 && i + 1 < argc) {
            fork_when = argv[++i];
        } else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc) {
            threads = atoi(argv[++i]);
        } else {
            library = open_or_exit(argv[i], flags);
        }
    }
    if (threads) call_from_threads(threads);
    if (strcmp(fork_when, "never") != 0) {
        if (strcmp(fork_when, "after") == 0) {
            int version = 0;
            printf("parent-version-result=%d\n", NCCL(ncclGetVersion)(&version));
        }
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            report();
            exit(0);
        }
        int status = -1;
        waitpid(child, &status, 0);
        printf("child-status=%d\n", status);
        return status != 0;
    }
    report();
    return 0;
}
