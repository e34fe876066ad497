/* Asks the loader for libnccl.so.2 by that name alone, so that it is looked for as the loader does on behalf of this object.
 *
 * FUNCTION: the function that returns the version of what was found, or -1. CALLS: has it call this function of another library
 * instead. PROGRAM: adds a main that prints the version. */
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>

int FUNCTION(void);

#ifdef CALLS
int CALLS(void);

int FUNCTION(void) {
    int version = CALLS();
    /* Not the last act, so that the call is no jump. */
    return version == 0 ? -1 : version;
}
#else
int FUNCTION(void) {
    void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    int (*get_version)(int *) = library ? (int (*)(int *))dlsym(library, "ncclGetVersion") : NULL;
    int version = -1;
    return get_version && get_version(&version) == 0 ? version : -1;
}
#endif

#ifdef PROGRAM
int main(void) {
    printf("version=%d\n", FUNCTION());
    return 0;
}
#endif
