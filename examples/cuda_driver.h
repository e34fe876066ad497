/* The few functions of the CUDA driver that a program without the CUDA toolkit needs to feed an all-reduce: looked up at
 * run time, so that it also starts where there is no driver. */
#ifndef CUDA_DRIVER_H
#define CUDA_DRIVER_H

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

typedef unsigned long long device_address;

static struct {
    int (*init)(unsigned flags);
    int (*device_count)(int *count);
    int (*retain_context)(void **context, int device);
    int (*set_context)(void *context);
    int (*allocate)(device_address *address, size_t bytes);
    int (*upload)(device_address to, const void *from, size_t bytes, void *stream);
    int (*download)(void *to, device_address from, size_t bytes, void *stream);
    int (*create_stream)(void **stream, unsigned flags);
    int (*wait_stream)(void *stream);
    /* Kernels run on the CPU, slowly. */
    int is_simulated;
} cuda;

/* 1: the functions are there. */
static int find_cuda(void)
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
        {"cuMemcpyHtoDAsync_v2", &cuda.upload},
        {"cuMemcpyDtoHAsync_v2", &cuda.download},
        {"cuStreamCreate", &cuda.create_stream},
        {"cuStreamSynchronize", &cuda.wait_stream},
    };
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *address = dlsym(driver, functions[i].name);
        if (!address)
            return 0;
        memcpy(functions[i].place, &address, sizeof address);
    }
    cuda.is_simulated = dlsym(driver, "dimeSimLaunchPolled") != NULL;
    return 1;
}

/* Makes a device current on this thread and a stream on it. Returns the driver's error, or 0. */
static int open_device(int device, void **stream)
{
    const unsigned non_blocking = 1;
    void *context = NULL;
    int error = cuda.retain_context(&context, device);
    if (!error)
        error = cuda.set_context(context);
    return error ? error : cuda.create_stream(stream, non_blocking);
}

#endif
