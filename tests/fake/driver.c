/* Calls every export of the library under test and compares what reaches the recording fake.
 *
 *   driver LIBRARY FAKE
 *
 * LIBRARY: libdime.so, or the fake itself (then nothing stands between the two, which tests this driver). FAKE: the
 * fake that LIBRARY is told to use, or - when it must find none. Prints a line for each thing that is wrong and, at the end, how many calls were
 * right; the exit status is 0 when nothing was wrong. */
#include "driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MEMORY_BYTES = 64 * 16 * 128 };
_Alignas(64) unsigned char driver_memory[MEMORY_BYTES];

struct by_value_id driver_id(int tag) {
    struct by_value_id id;
    for (int i = 0; i < 128; i++) id.bytes[i] = (char)(tag * 31 + i * 7 + 1);
    return id;
}

struct by_value_team driver_team(int tag) {
    struct by_value_team team = {0x61000000 + tag, -0x62000000 - tag, 0x63000000 + tag};
    return team;
}

void driver_put(struct record *record, const void *bytes, size_t size) {
    if (record->bytes_used + size > sizeof record->bytes) abort();
    memcpy(record->bytes + record->bytes_used, bytes, size);
    record->bytes_used += size;
}

int driver_same_text(const char *left, const char *right) {
    return left != NULL && strcmp(left, right) == 0;
}

int driver_is_text(const char *text) {
    return text != NULL && text[0] != 0;
}

/* For a driver without a fake: nothing can arrive. */
static void program_nothing(int returned) {
    (void)returned;
}

static int count_nothing(void) {
    return 0;
}

/* The first all-reduce of a communicator may ask about the communicator, and who says that a function is missing asks
 * for the version. Nothing else makes a call of its own. */
static int is_question_before(const char *called, int arrives, const char *arrived) {
    if (!arrives) return strcmp(arrived, "ncclGetVersion") == 0;
    static const char *const questions[] = {"ncclCommCount", "ncclCommUserRank", "ncclCommCuDevice",
                                            "ncclCommGetAsyncError"};
    if (strcmp(called, "ncclAllReduce") != 0) return 0;
    for (size_t i = 0; i < sizeof questions / sizeof questions[0]; i++)
        if (strcmp(arrived, questions[i]) == 0) return 1;
    return 0;
}

static void *open_or_exit(const char *path) {
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        printf("dlopen: %s\n", dlerror());
        exit(2);
    }
    return handle;
}

static void *find(void *handle, const char *name) {
    void *symbol = dlsym(handle, name);
    if (!symbol) {
        printf("dlsym: %s\n", dlerror());
        exit(2);
    }
    return symbol;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    void *fake = strcmp(argv[2], "-") == 0 ? NULL : open_or_exit(argv[2]);
    void *library = open_or_exit(argv[1]);
    void (*program)(int) = fake ? (void (*)(int))find(fake, "fake_program") : program_nothing;
    int (*record_count)(void) = fake ? (int (*)(void))find(fake, "fake_record_count") : count_nothing;
    const struct record *(*get_record)(int) =
        fake ? (const struct record *(*)(int))find(fake, "fake_record") : NULL;

    /* Whatever the library asks of the fake on first use is not part of any case. */
    int version = 0;
    ((int (*)(int *))find(library, "ncclGetVersion"))(&version);

    /* Results that NCCL has, results that it does not have (yet), and for the others any number. */
    static const int programmed[] = {0, 1, 4, 5, 7, 8, 9, 77, -5, 0x7fffffff, -0x7fffffff - 1};
    static unsigned char untouched[MEMORY_BYTES];
    int right = 0, wrong = 0;
    for (int c = 0; c < driver_case_count; c++) {
        const struct driver_case *this_case = &driver_cases[c];
        void *symbol = find(library, this_case->symbol);
        for (size_t p = 0; p < sizeof programmed / sizeof programmed[0]; p++) {
            struct record expected = {this_case->function, 0, {0}};
            const char *complaint = NULL;
            memset(driver_memory, 0, sizeof driver_memory);
            program(programmed[p]);
            if (!this_case->call(symbol, programmed[p], &expected)) complaint = "wrong return";
            int arrived = record_count();
            int matching = 0, others = 0;
            for (int i = 0; i < arrived; i++) {
                const struct record *record = get_record(i);
                if (strcmp(record->function, this_case->function) != 0) {
                    others += !is_question_before(this_case->function, this_case->arrives, record->function);
                } else if (record->bytes_used != expected.bytes_used ||
                           memcmp(record->bytes, expected.bytes, expected.bytes_used) != 0) {
                    complaint = "arguments changed";
                } else {
                    matching++;
                }
            }
            if (others) complaint = "another function was called";
            else if (!complaint && matching != this_case->arrives) complaint = "it did not arrive just as often as called";
            /* The version is the one thing that the fake writes, and the first argument's place is where. */
            if (strcmp(this_case->function, "ncclGetVersion") == 0) {
                void *place;
                memcpy(&place, expected.bytes, sizeof place);
                memset(place, 0, sizeof(int));
            }
            if (memcmp(driver_memory, untouched, sizeof driver_memory) != 0) complaint = "memory behind a pointer changed";
            if (complaint) {
                printf("%s, told to return %d: %s\n", this_case->symbol, programmed[p], complaint);
                wrong++;
            } else {
                right++;
            }
        }
    }
    printf("version=%d\nright=%d\nwrong=%d\n", version, right, wrong);
    return wrong != 0;
}
