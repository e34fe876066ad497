/* Runs the loops of forwarded_calls.h, for a profiler to count the instructions of each.
 *
 *   cost LIBRARY TIMES */
#include "forwarded_calls.h"

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    open_and_warm_up(argv[1]);
    long times = atol(argv[2]);
    for (int i = 0; i < FORWARDED_CALLS; i++) {
        forwarded_calls[i].loop(times);
        printf("%s=%d\n", forwarded_calls[i].name, forwarded_calls[i].calls_each_time);
    }
    return 0;
}
