/* Ranks whose setup tests a link that may damage what crosses it: the caller says which one in DIME_SIM_BAD_LINK. All
 * all-reduces are forwarded, and right. */
#include "situation.h"

static void forwards(struct rank *me) {
    ncclComm_t comm = communicator_of_all(me);
    for (int step = 0; step < 4; step++) sum(me, comm, everybody(me), step, SMALL);
    must_be("forward: the test pattern that a peer wrote", comm, SMALL);
    NCCL(ncclCommDestroy(comm));
}

#define OF(ranks_, way_, name_) {.name = name_, .run = forwards, .way = way_, .ranks = ranks_, .uncounted = 1}

static const struct situation situations[] = {
    OF(2, PROCESSES, "processes-2"), OF(3, PROCESSES, "processes-3"), OF(4, PROCESSES, "processes-4"),
    OF(2, THREADS, "threads-2"),     OF(3, THREADS, "threads-3"),     OF(4, THREADS, "threads-4"),
};

int main(int argc, char **argv) {
    return run_situation(argc, argv, situations, sizeof situations / sizeof *situations);
}
