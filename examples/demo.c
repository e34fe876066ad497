/* What a program sees that is linked with libnccl.so.2 and gets Dime instead.
 *
 * It knows nothing but nccl.h. Without a GPU it makes the calls that need none and shows why an all-reduce cannot run.
 * With GPUs it sums small arrays over all of them (at most 8) and checks every element.
 * What Dime says about itself is asked for by name, so the same program also runs with the plain NCCL. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nccl.h"

enum { MAX_GPUS = 8 };

/* The few functions of the CUDA driver that the demo needs, looked up at run time so that it also starts without one. */
typedef unsigned long long device_address;
static struct {
    int (*init)(unsigned flags);
    int (*device_count)(int *count);
    int (*retain_context)(void **context, int device);
    int (*set_context)(void *context);
    int (*allocate)(device_address *address, size_t bytes);
    int (*upload)(device_address to, const void *from, size_t bytes);
    int (*download)(void *to, device_address from, size_t bytes);
    int (*create_stream)(void **stream, unsigned flags);
    int (*wait_stream)(void *stream);
} cuda;

/* Number of GPUs; 0 when there is no driver. */
static int find_gpus(void)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (!driver)
        return 0;
    struct {
        const char *name;
        void *place;
    } functions[] = {
        {"cuInit", &cuda.init},
        {"cuDeviceGetCount", &cuda.device_count},
        {"cuDevicePrimaryCtxRetain", &cuda.retain_context},
        {"cuCtxSetCurrent", &cuda.set_context},
        {"cuMemAlloc_v2", &cuda.allocate},
        {"cuMemcpyHtoD_v2", &cuda.upload},
        {"cuMemcpyDtoH_v2", &cuda.download},
        {"cuStreamCreate", &cuda.create_stream},
        {"cuStreamSynchronize", &cuda.wait_stream},
    };
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *address = dlsym(driver, functions[i].name);
        if (!address)
            return 0;
        memcpy(functions[i].place, &address, sizeof address);
    }
    int count = 0;
    if (cuda.init(0) || cuda.device_count(&count))
        return 0;
    return count < MAX_GPUS ? count : MAX_GPUS;
}

static void cuda_check(int error, const char *what)
{
    if (error) {
        printf("%s failed: CUDA error %d\n", what, error);
        exit(1);
    }
}

static void nccl_check(ncclResult_t result, const char *what)
{
    if (result != ncclSuccess) {
        printf("%s failed: %s: %s\n", what, ncclGetErrorString(result), ncclGetLastError(NULL));
        exit(1);
    }
}

/* Makes a call that is expected to fail here, and shows how. */
static void show(const char *what, ncclResult_t result)
{
    printf("  %-28s -> %d, %s", what, (int)result, ncclGetErrorString(result));
    if (result != ncclSuccess)
        printf(" (%s)", ncclGetLastError(NULL));
    printf("\n");
}

static void *ask_dime(const char *name)
{
    return dlsym(RTLD_DEFAULT, name);
}

static void say_who_answers(void)
{
    Dl_info info;
    if (dladdr((void *)ncclAllReduce, &info))
        printf("ncclAllReduce is answered by  %s\n", info.dli_fname);
    const char *(*version)(void) = (const char *(*)(void))ask_dime("dimeVersion");
    const char *(*real)(void) = (const char *(*)(void))ask_dime("dimeRealLibrary");
    if (version)
        printf("which is Dime                 %s\n", version());
    int code = 0;
    nccl_check(ncclGetVersion(&code), "ncclGetVersion");
    printf("in front of NCCL              %d.%d.%d\n", code / 10000, code / 100 % 100, code % 100);
    if (real && real())
        printf("which is                      %s\n", real());
}

static void say_counters(void)
{
    const char *(*name)(int) = (const char *(*)(int))ask_dime("dimeCounterName");
    uint64_t (*value)(int) = (uint64_t (*)(int))ask_dime("dimeCounterValue");
    if (!name || !value)
        return;
    printf("\nAll-reduces of this process, by kernel or by the reason to hand them to NCCL:\n");
    int any = 0;
    for (int i = 0; name(i); i++) {
        if (value(i)) {
            printf("  %-28s %llu\n", name(i), (unsigned long long)value(i));
            any = 1;
        }
    }
    if (!any)
        printf("  none\n");
}

static void without_gpus(void)
{
    printf("\nNo GPU here. Calls that need none, forwarded to NCCL:\n");
    ncclUniqueId id;
    show("ncclGetUniqueId", ncclGetUniqueId(&id));
    show("ncclGroupStart", ncclGroupStart());
    show("ncclGroupEnd", ncclGroupEnd());
    printf("Calls that need one, and what NCCL says:\n");
    ncclComm_t comm = NULL;
    show("ncclCommInitAll", ncclCommInitAll(&comm, 1, NULL));
    show("ncclAllReduce", ncclAllReduce(NULL, NULL, 1, ncclFloat, ncclSum, comm, NULL));
    printf("An all-reduce needs a communicator, and a communicator needs a GPU for each rank.\n");
}

/* Sums `count` floats over all GPUs and returns how many elements are wrong on any of them. */
static size_t sum(int gpus, ncclComm_t *comms, void **contexts, void **streams, size_t count)
{
    size_t bytes = count * sizeof(float), wrong = 0;
    float *host = malloc(bytes);
    device_address buffers[MAX_GPUS];
    for (int gpu = 0; gpu < gpus; gpu++) {
        for (size_t i = 0; i < count; i++)
            host[i] = (float)(i % 1000 + (size_t)gpu);
        cuda_check(cuda.set_context(contexts[gpu]), "cuCtxSetCurrent");
        cuda_check(cuda.allocate(&buffers[gpu], bytes), "cuMemAlloc");
        cuda_check(cuda.upload(buffers[gpu], host, bytes), "cuMemcpyHtoD");
    }
    nccl_check(ncclGroupStart(), "ncclGroupStart");
    for (int gpu = 0; gpu < gpus; gpu++) {
        void *buffer = (void *)(uintptr_t)buffers[gpu];
        nccl_check(ncclAllReduce(buffer, buffer, count, ncclFloat, ncclSum, comms[gpu], streams[gpu]), "ncclAllReduce");
    }
    nccl_check(ncclGroupEnd(), "ncclGroupEnd");
    for (int gpu = 0; gpu < gpus; gpu++) {
        cuda_check(cuda.set_context(contexts[gpu]), "cuCtxSetCurrent");
        cuda_check(cuda.wait_stream(streams[gpu]), "cuStreamSynchronize");
        memset(host, 0, bytes);
        cuda_check(cuda.download(host, buffers[gpu], bytes), "cuMemcpyDtoH");
        for (size_t i = 0; i < count; i++)
            wrong += host[i] != (float)((i % 1000) * (size_t)gpus + (size_t)(gpus * (gpus - 1) / 2));
    }
    free(host);
    return wrong;
}

static int with_gpus(int gpus)
{
    ncclComm_t comms[MAX_GPUS];
    void *contexts[MAX_GPUS], *streams[MAX_GPUS];
    nccl_check(ncclCommInitAll(comms, gpus, NULL), "ncclCommInitAll");
    for (int gpu = 0; gpu < gpus; gpu++) {
        cuda_check(cuda.retain_context(&contexts[gpu], gpu), "cuDevicePrimaryCtxRetain");
        cuda_check(cuda.set_context(contexts[gpu]), "cuCtxSetCurrent");
        cuda_check(cuda.create_stream(&streams[gpu], 1), "cuStreamCreate");
    }
    ncclResult_t (*explain)(ncclComm_t, size_t, ncclDataType_t, ncclRedOp_t, char *, size_t) =
        (ncclResult_t (*)(ncclComm_t, size_t, ncclDataType_t, ncclRedOp_t, char *, size_t))ask_dime("dimeExplain");

    printf("\nSums of float over %d GPU%s:\n", gpus, gpus == 1 ? "" : "s");
    static const size_t counts[] = {1, 1000, 32768, 1000000, 64000000};
    size_t wrong = 0;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        size_t wrong_here = sum(gpus, comms, contexts, streams, counts[i]);
        char how[200] = "forward: this is the plain NCCL";
        if (explain)
            explain(comms[0], counts[i], ncclFloat, ncclSum, how, sizeof how);
        printf("  %10zu elements  %s  %s\n", counts[i], wrong_here ? "WRONG" : "right", how);
        wrong += wrong_here;
    }
    for (int gpu = 0; gpu < gpus; gpu++)
        nccl_check(ncclCommDestroy(comms[gpu]), "ncclCommDestroy");
    return wrong != 0;
}

int main(void)
{
    say_who_answers();
    int gpus = find_gpus(), failed = 0;
    if (gpus)
        failed = with_gpus(gpus);
    else
        without_gpus();
    say_counters();
    return failed;
}
