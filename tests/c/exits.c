/* All-reduces, forks and ways to end a process, in the order of the arguments.
 *
 *   exits LIBRARY ACTION...
 *
 *   all-reduce   one, on a communicator that whatever answers in LIBRARY takes as it is
 *   fork         the actions behind it up to `join` are a child's, which ends by exit
 *   join         the end of the child's actions; the parent waits for it
 *   _exit        ends the process without exit
 *   kill         ends it by SIGTERM
 *   exec         does the next action in a new program, which this process becomes
 *
 * Prints pid=PID for the first process and child=PID for each child. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef int (*all_reduce_t)(const void *, void *, size_t, int, int, void *, void *);

static all_reduce_t all_reduce;

static void do_all_reduce(void) {
    static char communicator[64], buffer[64];
    enum { FLOAT32 = 7, SUM = 0 };
    int code = all_reduce(buffer, buffer, 4, FLOAT32, SUM, communicator, NULL);
    if (code) {
        printf("all-reduce=%d\n", code);
        exit(1);
    }
}

/* Returns where the parent goes on. A child does not return. */
static int do_fork(int argc, char **argv, int at, int (*act)(int, char **, int)) {
    fflush(stdout);
    pid_t child = fork();
    if (child < 0) exit(2);
    if (child == 0) {
        while (at < argc && strcmp(argv[at], "join")) at = act(argc, argv, at);
        exit(0);
    }
    printf("child=%d\n", (int)child);
    int status;
    if (waitpid(child, &status, 0) != child || status) exit(2);
    while (at < argc && strcmp(argv[at], "join")) at++;
    return at + 1;
}

/* Does the action at `at`; returns where the next one is. */
static int act(int argc, char **argv, int at) {
    const char *action = argv[at++];
    if (!strcmp(action, "all-reduce")) do_all_reduce();
    else if (!strcmp(action, "fork")) at = do_fork(argc, argv, at, act);
    else if (!strcmp(action, "_exit")) fflush(stdout), _exit(0);
    else if (!strcmp(action, "kill")) fflush(stdout), raise(SIGTERM);
    else if (!strcmp(action, "exec") && at < argc) {
        fflush(stdout);
        execl(argv[0], argv[0], argv[1], argv[at], (char *)NULL);
        exit(2);
    } else exit(2);
    return at;
}

int main(int argc, char **argv) {
    void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    all_reduce = library ? (all_reduce_t)dlsym(library, "ncclAllReduce") : NULL;
    if (!all_reduce) return 2;
    printf("pid=%d\n", (int)getpid());
    for (int at = 2; at < argc;) at = act(argc, argv, at);
    return 0;
}
