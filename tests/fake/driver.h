/* The driver of the recording fake: what its generated cases and its main share. */
#ifndef DIME_TESTS_DRIVER_H
#define DIME_TESTS_DRIVER_H

#include "recorder.h"

/* Where all pointer arguments point. */
extern unsigned char driver_memory[];

struct by_value_id driver_id(int tag);
struct by_value_team driver_team(int tag);
void driver_put(struct record *record, const void *bytes, size_t size);
int driver_same_text(const char *left, const char *right);
int driver_is_text(const char *text);

struct driver_case {
    const char *symbol;   /* the export to call */
    const char *function; /* the function of the fake that it must reach */
    /* Calls the export, writes down the arguments used, and says whether what came back is right. */
    int (*call)(void *symbol, int programmed, struct record *expected);
    int arrives; /* the fake has the function, and the call must reach it */
};

extern const struct driver_case driver_cases[];
extern const int driver_case_count;

#endif
