#include "recorder.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { RECORD_LIMIT = 4096 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct record records[RECORD_LIMIT];
static int record_count;
static int returned_number;

void fake_program(int returned) {
    pthread_mutex_lock(&lock);
    record_count = 0;
    returned_number = returned;
    pthread_mutex_unlock(&lock);
}

int fake_record_count(void) {
    pthread_mutex_lock(&lock);
    int count = record_count;
    pthread_mutex_unlock(&lock);
    return count;
}

const struct record *fake_record(int index) {
    return &records[index];
}

int fake_returned(void) {
    return returned_number;
}

struct record *fake_begin(const char *function) {
    pthread_mutex_lock(&lock);
    if (record_count == RECORD_LIMIT) abort();
    struct record *record = &records[record_count++];
    pthread_mutex_unlock(&lock);
    record->function = function;
    record->bytes_used = 0;
    return record;
}

void fake_put(struct record *record, const void *bytes, size_t size) {
    if (record->bytes_used + size > sizeof record->bytes) abort();
    memcpy(record->bytes + record->bytes_used, bytes, size);
    record->bytes_used += size;
}

int fake_end(struct record *record) {
#ifdef FAKE_OWN_CALLS
    fake_own_calls(record->function);
#else
    (void)record;
#endif
    return returned_number;
}
