/* Calls functions that an NCCL 2.18 lacks from many threads of several processes at once.
 *
 *   warn_from_threads LIBRARY */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 8, THREADS = 8 };
static pthread_barrier_t start;
static void *library;

static const char *const functions[] = {
    "ncclCommResume", "ncclSetEncryption", "ncclMemFree", "ncclGroupSimulateEnd", "ncclParamDumpAll",
};

static void *call_all(void *unused) {
    (void)unused;
    pthread_barrier_wait(&start);
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        int (*function)(void *) = (int (*)(void *))dlsym(library, functions[i]);
        if (function) function(NULL);
    }
    return NULL;
}

static int call_from_threads(void) {
    pthread_t threads[THREADS];
    pthread_barrier_init(&start, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, call_all, NULL) != 0) return 2;
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    return 0;
}

int main(int argc, char **argv) {
    library = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!library) return 2;
    for (int i = 0; i < PROCESSES; i++) {
        if (fork() == 0) return call_from_threads();
    }
    int failed = 0, status;
    while (wait(&status) > 0) failed |= status;
    return failed != 0;
}
