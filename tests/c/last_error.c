/* What ncclGetLastError says around calls to functions that the loaded NCCL lacks.
 *
 *   last_error LIBRARY FAKE        FAKE: the recording fake that LIBRARY uses */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

static const char *(*last_error)(void *);

static void *ask_from_a_thread(void *unused) {
    (void)unused;
    printf("other-thread=%s\n", last_error(NULL));
    return NULL;
}

int main(int argc, char **argv) {
    void *library = argc == 3 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    void *fake = argc == 3 ? dlopen(argv[2], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!library || !fake) return 2;
    void (*program)(int) = (void (*)(int))dlsym(fake, "fake_program");
    last_error = (const char *(*)(void *))dlsym(library, "ncclGetLastError");
    int (*window_register)(void *, void *, size_t, void **, int) =
        (int (*)(void *, void *, size_t, void **, int))dlsym(library, "ncclCommWindowRegister");
    int (*set_encryption)(const void *) = (int (*)(const void *))dlsym(library, "pncclSetEncryption");
    int (*comm_count)(void *, int *) = (int (*)(void *, int *))dlsym(library, "ncclCommCount");
    void *window = NULL;
    int count;

    printf("before=%s\n", last_error(NULL));
    printf("window=%d\n", window_register(NULL, NULL, 0, &window, 0));
    printf("after=%s\n", last_error(NULL));
    set_encryption(NULL);
    printf("after-another=%s\n", last_error(NULL));
    program(0);
    comm_count(NULL, &count);
    printf("after-success=%s\n", last_error(NULL));
    pthread_t thread;
    if (pthread_create(&thread, NULL, ask_from_a_thread, NULL) != 0) return 2;
    pthread_join(thread, NULL);
    program(4);
    comm_count(NULL, &count);
    printf("after-failure-of-nccl=%s\n", last_error(NULL));
    return 0;
}
