/* Kernels as an application has them, in PTX, which runs on GPUs of compute capability 9.0 and newer; the simulated node has their forms for
 * the CPU (sim/gpu/application_kernels.cpp). One thread each. And launches of them with the attributes of programmatic dependent
 * launch. */
#ifndef APPLICATION_KERNELS_H
#define APPLICATION_KERNELS_H

#include "chain.h"

static const char application_kernels[] =
    ".version 8.0\n"
    ".target sm_90\n"
    ".address_size 64\n"
    /* Lets its dependents start at once, waits until the word at `gate` is not 0, and only then writes `value` to each word. */
    ".visible .entry test_write_late(.param .u64 words, .param .u32 count, .param .u32 value, .param .u64 gate)\n"
    "{\n"
    "  .reg .pred %done;\n"
    "  .reg .b32 %count, %value, %state;\n"
    "  .reg .b64 %word, %gate;\n"
    "  ld.param.u64 %word, [words];\n"
    "  ld.param.u32 %count, [count];\n"
    "  ld.param.u32 %value, [value];\n"
    "  ld.param.u64 %gate, [gate];\n"
    "  cvta.to.global.u64 %word, %word;\n"
    "  cvta.to.global.u64 %gate, %gate;\n"
    "  griddepcontrol.launch_dependents;\n"
    "closed:\n"
    "  ld.relaxed.sys.global.u32 %state, [%gate];\n"
    "  setp.eq.u32 %done, %state, 0;\n"
    "  @%done bra closed;\n"
    "next:\n"
    "  setp.eq.u32 %done, %count, 0;\n"
    "  @%done bra end;\n"
    "  st.global.u32 [%word], %value;\n"
    "  add.u64 %word, %word, 4;\n"
    "  sub.u32 %count, %count, 1;\n"
    "  bra next;\n"
    "end:\n"
    "  ret;\n"
    "}\n"
    /* Does not wait for what is before it in the stream. */
    ".visible .entry test_copy(.param .u64 from, .param .u64 to, .param .u32 count)\n"
    "{\n"
    "  .reg .pred %done;\n"
    "  .reg .b32 %count, %value;\n"
    "  .reg .b64 %from, %to;\n"
    "  ld.param.u64 %from, [from];\n"
    "  ld.param.u64 %to, [to];\n"
    "  ld.param.u32 %count, [count];\n"
    "  cvta.to.global.u64 %from, %from;\n"
    "  cvta.to.global.u64 %to, %to;\n"
    "next:\n"
    "  setp.eq.u32 %done, %count, 0;\n"
    "  @%done bra end;\n"
    "  ld.volatile.global.u32 %value, [%from];\n"
    "  st.global.u32 [%to], %value;\n"
    "  add.u64 %from, %from, 4;\n"
    "  add.u64 %to, %to, 4;\n"
    "  sub.u32 %count, %count, 1;\n"
    "  bra next;\n"
    "end:\n"
    "  ret;\n"
    "}\n";

enum { PROGRAMMATIC_STREAM_SERIALIZATION = 6, PROGRAMMATIC_EVENT = 7 };

/* As the driver has them. */
struct launch_attribute {
    unsigned id;
    char pad[4];
    union {
        int is_allowed;
        struct {
            void *event;
            int flags, at_block_start;
        } programmatic_event;
        char size[64];
    } value;
};

struct launch_config {
    unsigned grid[3], block[3], shared_bytes;
    void *stream;
    struct launch_attribute *attributes;
    unsigned attribute_count;
};

struct application_kernels {
    void *write_late, *copy;
    int (*launch)(const struct launch_config *config, void *function, void **parameters, void **extra);
};

/* In the rank's context. Where the GPU is too old for them it says so and ends the process. */
static inline struct application_kernels load_kernels(void) {
    static struct {
        int (*load)(void **module, const void *image);
        int (*function)(void **function, void *module, const char *name);
        int (*launch)(const struct launch_config *config, void *function, void **parameters, void **extra);
    } driver;
    void *library = dlopen("libcuda.so.1", RTLD_NOW), *module;
    const struct {
        const char *name;
        void *place;
    } functions[] = {
        {"cuModuleLoadData", &driver.load}, {"cuModuleGetFunction", &driver.function}, {"cuLaunchKernelEx", &driver.launch}};
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *address = dlsym(library, functions[i].name);
        MUST(address != NULL);
        memcpy(functions[i].place, &address, sizeof address);
    }
    if (driver.load(&module, application_kernels)) {
        printf("skipped=a GPU of compute capability 9.0 is needed\n");
        fflush(stdout);
        _exit(NOT_ENOUGH_GPUS);
    }
    struct application_kernels kernels = {.launch = driver.launch};
    MUST(!driver.function(&kernels.write_late, module, "test_write_late"));
    MUST(!driver.function(&kernels.copy, module, "test_copy"));
    return kernels;
}

static inline void launch_kernel(const struct application_kernels *kernels, void *function, void *stream,
                                 struct launch_attribute *attribute, void **parameters) {
    const struct launch_config config = {
        .grid = {1, 1, 1}, .block = {1, 1, 1}, .stream = stream, .attributes = attribute, .attribute_count = attribute != NULL};
    MUST(!kernels->launch(&config, function, parameters, NULL));
}

static inline void write_late(const struct application_kernels *kernels, void *stream, struct launch_attribute *attribute,
                              device_address words, unsigned count, float value, device_address gate) {
    void *parameters[] = {&words, &count, &value, &gate};
    launch_kernel(kernels, kernels->write_late, stream, attribute, parameters);
}

static inline void copy_early(const struct application_kernels *kernels, void *stream, device_address from, device_address to,
                              unsigned count) {
    struct launch_attribute attribute = {.id = PROGRAMMATIC_STREAM_SERIALIZATION, .value.is_allowed = 1};
    void *parameters[] = {&from, &to, &count};
    launch_kernel(kernels, kernels->copy, stream, &attribute, parameters);
}

#endif
