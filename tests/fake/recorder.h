/* The recording fake NCCL: what its generated functions and its drivers share.
 *
 * Each fake function copies the bytes of its arguments, in order, into a record and returns what the test asked for.
 * It never dereferences an argument, except ncclGetVersion, which must answer. */
#ifndef DIME_TESTS_RECORDER_H
#define DIME_TESTS_RECORDER_H

#include <stddef.h>

/* Stand-ins with the layout of NCCL's structs that pass by value. */
struct by_value_id {
    char bytes[128];
};
struct by_value_team {
    int rank_count, rank, stride;
};
struct by_value_multimem {
    void *base;
};

struct record {
    const char *function;
    size_t bytes_used;
    unsigned char bytes[256];
};

/* Forgets all records and sets what functions return from now on: results and ints this number, teams three in a row
 * from it on, strings the fake's own text of the function. */
void fake_program(int returned);
/* How many calls arrived since fake_program, on any thread, and each of them. */
int fake_record_count(void);
const struct record *fake_record(int index);

/* For the generated functions. */
struct record *fake_begin(const char *function);
void fake_put(struct record *record, const void *bytes, size_t size);
/* Ends a record; gives the number to return. Runs the fake's own calls first when it was built with them. */
int fake_end(struct record *record);

/* The number that fake_program set. */
int fake_returned(void);

/* Built into the variant that calls public functions of its own while it is inside one of them. */
void fake_own_calls(const char *function);

#endif
