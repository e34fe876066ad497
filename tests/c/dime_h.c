/* What the functions of dime.h answer, before and after the real NCCL was needed.
 *
 *   linked with libdime.so; DIME_NCCL_LIB names a fake */
#include "dime.h"

#include <stdio.h>
#include <string.h>

int main(void) {
    printf("version=%s\n", dimeVersion());
    printf("version-number=%d\n", dimeVersionNumber());
    const char *real = dimeRealLibrary();
    printf("real-before=%s\n", real ? real : "(null)");

    int version = 0;
    if (ncclGetVersion(&version) != ncclSuccess) return 1;
    real = dimeRealLibrary();
    printf("real-after=%s\n", real ? real : "(null)");

    int counters = 0, same_names = 0;
    while (dimeCounterName(counters)) counters++;
    for (int i = 0; i < counters; i++)
        for (int j = 0; j < i; j++) same_names += strcmp(dimeCounterName(i), dimeCounterName(j)) == 0;
    printf("counters=%d\nsame-names=%d\n", counters, same_names);
    for (int i = 0; i < counters; i++) printf("counter=%s\n", dimeCounterName(i));
    printf("past-the-last=%d %llu\n", dimeCounterName(counters) == NULL,
           (unsigned long long)(dimeCounterValue(counters) + dimeCounterValue(1 << 30)));
    printf("negative=%d %llu\n", dimeCounterName(-1) == NULL && dimeCounterName(-0x7fffffff - 1) == NULL,
           (unsigned long long)dimeCounterValue(-1));

    /* The fake does not look behind a handle. */
    ncclComm_t comm = (ncclComm_t)&version;
    ncclRedOp_t user_made = (ncclRedOp_t)77;
    uint64_t before[64] = {0};
    for (int i = 0; i < counters && i < 64; i++) before[i] = dimeCounterValue(i);
    for (int i = 0; i < 10; i++) ncclAllReduce(&version, &version, 1, ncclFloat, user_made, comm, NULL);
    for (int i = 0; i < counters && i < 64; i++) {
        uint64_t more = dimeCounterValue(i) - before[i];
        if (more) printf("moved=%s by %llu\n", dimeCounterName(i), (unsigned long long)more);
    }

    char text[256];
    memset(text, 'x', sizeof text);
    printf("explain=%d\n", (int)dimeExplain(comm, 1024, ncclFloat, user_made, text, sizeof text));
    text[sizeof text - 1] = 0;
    printf("explanation=%s\n", text);
    printf("explain-eligible=%d\n", (int)dimeExplain(comm, 1024, ncclFloat, ncclSum, text, sizeof text));
    printf("explanation-eligible=%s\n", text);
    dimeExplain(comm, 1024, ncclFloat, user_made, text, sizeof text);
    char cut[8];
    memset(cut, 'x', sizeof cut);
    printf("explain-cut=%d\n", (int)dimeExplain(comm, 1024, ncclFloat, user_made, cut, 6));
    printf("cut-length=%d\n", (int)strnlen(cut, sizeof cut));
    printf("cut-is-start=%d\nuntouched=%c%c\n", strncmp(cut, text, 5) == 0, cut[6], cut[7]);
    printf("explain-no-text=%d\n", (int)dimeExplain(comm, 1, ncclFloat, ncclSum, NULL, 10));
    printf("explain-no-room=%d\n", (int)dimeExplain(comm, 1, ncclFloat, ncclSum, cut, 0));
    printf("explain-no-communicator=%d\n", (int)dimeExplain(NULL, 1, ncclFloat, ncclSum, text, sizeof text));
    printf("suspend-no-communicator=%d\n", (int)dimeCommSuspend(NULL));
    printf("resume-no-communicator=%d\n", (int)dimeCommResume(NULL));
    /* It was never fast, so there is nothing to give back. */
    printf("suspend-of-nothing=%d %d\n", (int)dimeCommSuspend(comm), (int)dimeCommResume(comm));
    return 0;
}
