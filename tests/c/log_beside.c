/* Makes NCCL and libdime.so log, in turn or at once.
 *
 *   log_beside LIBRARY STEPS
 *
 * Each letter of STEPS is one of: d, a line of libdime.so, at TRACE; n, a line of NCCL; b, BOTH of each from two threads at once; i, a
 * line of NCCL that comes before a communicator; c, a call that a real NCCL refuses; x, the end of the process without any ceremony. */
#include <dlfcn.h>
#include <pthread.h>
#include <unistd.h>

#include "nccl_min.h"

enum { BOTH = 200 };
static void *library;
static pthread_barrier_t start;

/* Never looked at. */
static char communicator;

static void dime_line(void) {
    ncclResult_t (*all_reduce)(const void *, void *, size_t, int, int, ncclComm_t, void *) =
        (ncclResult_t(*)(const void *, void *, size_t, int, int, ncclComm_t, void *))dlsym(library, "ncclAllReduce");
    all_reduce(NULL, NULL, 1, ncclFloat, ncclSum, (ncclComm_t)&communicator, NULL);
}

static void nccl_line(void) {
    ncclResult_t (*broadcast)(const void *, void *, size_t, int, int, ncclComm_t, void *) =
        (ncclResult_t(*)(const void *, void *, size_t, int, int, ncclComm_t, void *))dlsym(library, "ncclBroadcast");
    broadcast(NULL, NULL, 1, ncclFloat, 0, (ncclComm_t)&communicator, NULL);
}

static void refused_call(void) {
    int count;
    ncclResult_t (*ask)(ncclComm_t, int *) = (ncclResult_t(*)(ncclComm_t, int *))dlsym(library, "ncclCommCount");
    ask(NULL, &count);
}

static void *dime_lines(void *unused) {
    pthread_barrier_wait(&start);
    for (int i = 0; i < BOTH; i++) dime_line();
    return unused;
}

int main(int argc, char **argv) {
    library = argc == 3 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!library) return 2;
    ncclResult_t (*make_id)(ncclUniqueId *) = (ncclResult_t(*)(ncclUniqueId *))dlsym(library, "ncclGetUniqueId");
    for (const char *step = argv[2]; *step; step++) {
        ncclUniqueId id;
        pthread_t thread;
        switch (*step) {
        case 'd': dime_line(); break;
        case 'n': nccl_line(); break;
        case 'c': refused_call(); break;
        case 'i': make_id(&id); break;
        case 'x': _exit(0);
        case 'b':
            pthread_barrier_init(&start, NULL, 2);
            if (pthread_create(&thread, NULL, dime_lines, NULL) != 0) return 2;
            pthread_barrier_wait(&start);
            for (int i = 0; i < BOTH; i++) nccl_line();
            pthread_join(thread, NULL);
            break;
        default: return 2;
        }
    }
    return 0;
}
