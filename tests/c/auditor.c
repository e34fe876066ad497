/* An auditor of the loader (LD_AUDIT) that answers each search for libnccl.so.2 with the file that STAND_IN names. */
#define _GNU_SOURCE
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

unsigned int la_version(unsigned int version) {
    return version;
}

char *la_objsearch(const char *name, uintptr_t *cookie, unsigned int flag) {
    (void)cookie;
    (void)flag;
    const char *file = strrchr(name, '/');
    if (strcmp(file ? file + 1 : name, "libnccl.so.2") == 0) return getenv("STAND_IN");
    return (char *)name;
}
