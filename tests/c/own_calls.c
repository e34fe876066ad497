/* Calls the two functions in which the fake calls its own public functions (tests/fake/own_calls.c).
 *
 *   own_calls FAKE        with LD_PRELOAD naming the library that answers ncclX
 *
 * Prints how many of the fake's own calls came back wrong, and in which order all calls arrived at the fake. */
#define _GNU_SOURCE
#include "recorder.h"

#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv) {
    int (*all_gather)(void *, void *, size_t, int, void *, void *) =
        (int (*)(void *, void *, size_t, int, void *, void *))dlsym(RTLD_DEFAULT, "ncclAllGather");
    int (*finalize)(void *) = (int (*)(void *))dlsym(RTLD_DEFAULT, "ncclCommFinalize");
    int (*get_version)(int *) = (int (*)(int *))dlsym(RTLD_DEFAULT, "ncclGetVersion");
    void *fake = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!all_gather || !finalize || !get_version || !fake) return 2;
    void (*program)(int) = (void (*)(int))dlsym(fake, "fake_program");
    int (*record_count)(void) = (int (*)(void))dlsym(fake, "fake_record_count");
    const struct record *(*get_record)(int) = (const struct record *(*)(int))dlsym(fake, "fake_record");
    int *failures = dlsym(fake, "fake_own_call_failures");
    int *count = dlsym(fake, "fake_own_call_count");
    char place[64];
    int version;

    void *(*address_seen_by_fake)(void) = (void *(*)(void))dlsym(fake, "fake_own_call_address");
    Dl_info front;
    if (!dladdr(dlsym(RTLD_DEFAULT, "ncclGetVersion"), &front)) return 2;
    fprintf(stderr, "front=%s\n", front.dli_fname);
    printf("own-calls-arrive-in-front=%d\n", address_seen_by_fake() == dlsym(RTLD_DEFAULT, "ncclGetVersion"));

    get_version(&version); /* lets the library find the fake before the counting begins */
    static const int results[] = {0, 77, 5};
    for (int i = 0; i < 3; i++) {
        program(results[i]);
        int from_gather = all_gather(place, place, 1, 7, place, NULL);
        int from_finalize = finalize(place);
        printf("results=%d %d\n", from_gather, from_finalize);
        /* Its own calls and the two from here, in the order of arrival. */
        for (int r = 0; r < record_count(); r++) printf("arrived=%s\n", get_record(r)->function);
    }
    printf("failures=%d\nown-calls=%d\n", *failures, *count);
    return 0;
}
