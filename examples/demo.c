/* All-reduces over the GPUs of this machine, with a process for each GPU, as an application does them: it includes nccl.h and is
 * linked with libnccl.so.2. It runs the same with Dime and with the plain NCCL; the functions of dime.h are looked up by name
 * (see `explain`).
 *
 * The parent starts the ranks before anything touches CUDA and prints what they report. */

#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cuda_driver.h"
#include "nccl.h"

enum { MAX_GPUS = 8, SIZES = 5 };
static const size_t counts[SIZES] = {1, 1000, 32768, 262144, 8000000};

/* What a rank reports about one size. Shorter than PIPE_BUF, so a pipe does not mix it with another rank's. */
struct report {
    int size;
    size_t wrong;
    double us;
    char how[160];
};

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

static void system_check(int failed, const char *what)
{
    if (failed) {
        perror(what);
        exit(1);
    }
}

/* Says which kernel of Dime sums `count` floats, or why NCCL does. */
static void explain(ncclComm_t comm, size_t count, char *how, size_t bytes)
{
    typedef ncclResult_t (*explanation)(ncclComm_t, size_t, ncclDataType_t, ncclRedOp_t, char *, size_t);
    explanation dime_explain = (explanation)dlsym(RTLD_DEFAULT, "dimeExplain");
    if (dime_explain)
        nccl_check(dime_explain(comm, count, ncclFloat, ncclSum, how, bytes), "dimeExplain");
    else
        snprintf(how, bytes, "forward: this is the plain NCCL");
}

static void say_who_answers(void)
{
    const char *(*dime_version)(void) = (const char *(*)(void))dlsym(RTLD_DEFAULT, "dimeVersion");
    const char *(*real_library)(void) = (const char *(*)(void))dlsym(RTLD_DEFAULT, "dimeRealLibrary");
    Dl_info info;
    int version = 0;
    nccl_check(ncclGetVersion(&version), "ncclGetVersion");
    if (dladdr((void *)ncclAllReduce, &info))
        printf("ncclAllReduce is answered by  %s\n", info.dli_fname);
    if (dime_version)
        printf("which is Dime                 %s\n", dime_version());
    printf("in front of NCCL              %d.%d.%d\n", version / 10000, version / 100 % 100, version % 100);
    if (real_library && real_library())
        printf("which is                      %s\n", real_library());
    if (cuda.is_simulated)
        printf("\nThe GPUs are simulated: the kernels run on the CPU, and times would mean nothing.\n");
    fflush(stdout);
}

static double now_us(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e6 + time.tv_nsec * 1e-3;
}

/* Microseconds of one all-reduce, the mean of many in a row. */
static double measure(device_address input, device_address output, size_t count, ncclComm_t comm, void *stream)
{
    enum { CALLS = 100 };
    double begin = now_us();
    for (int i = 0; i < CALLS; i++)
        nccl_check(ncclAllReduce((void *)input, (void *)output, count, ncclFloat, ncclSum, comm, stream),
                   "ncclAllReduce");
    cuda_check(cuda.wait_stream(stream), "cuStreamSynchronize");
    return (now_us() - begin) / CALLS;
}

/* Sums `counts[size]` floats over all ranks and checks every one of them. */
static struct report sum(int size, int rank, int ranks, ncclComm_t comm, void *stream)
{
    struct report report = {.size = size};
    size_t count = counts[size], bytes = count * sizeof(float);
    float *host = malloc(bytes);
    device_address input, output;
    for (size_t i = 0; i < count; i++)
        host[i] = (float)(i % 1000 + (size_t)rank);
    cuda_check(cuda.allocate(&input, bytes), "cuMemAlloc");
    cuda_check(cuda.allocate(&output, bytes), "cuMemAlloc");
    cuda_check(cuda.upload(input, host, bytes, stream), "cuMemcpyHtoDAsync");
    nccl_check(ncclAllReduce((void *)input, (void *)output, count, ncclFloat, ncclSum, comm, stream), "ncclAllReduce");
    cuda_check(cuda.download(host, output, bytes, stream), "cuMemcpyDtoHAsync");
    cuda_check(cuda.wait_stream(stream), "cuStreamSynchronize");
    for (size_t i = 0; i < count; i++)
        report.wrong += host[i] != (float)((i % 1000) * (size_t)ranks + (size_t)(ranks * (ranks - 1) / 2));
    free(host);
    if (!cuda.is_simulated)
        report.us = measure(input, output, count, comm, stream);
    explain(comm, count, report.how, sizeof report.how);
    return report;
}

/* One rank, in a process of its own. Rank 0 makes the id of the communicator and passes it to the others. */
static void be_rank(int rank, int ranks, const int ids[2], int reports)
{
    void *stream;
    ncclComm_t comm;
    ncclUniqueId id;
    cuda_check(!find_cuda() || cuda.init(0), "cuInit");
    cuda_check(open_device(rank, &stream), "opening the GPU");
    if (rank == 0) {
        say_who_answers();
        nccl_check(ncclGetUniqueId(&id), "ncclGetUniqueId");
        for (int other = 1; other < ranks; other++)
            system_check(write(ids[1], &id, sizeof id) != sizeof id, "passing the id");
    } else {
        system_check(read(ids[0], &id, sizeof id) != sizeof id, "getting the id");
    }
    nccl_check(ncclCommInitRank(&comm, ranks, id, rank), "ncclCommInitRank");
    for (int size = 0; size < SIZES; size++) {
        struct report report = sum(size, rank, ranks, comm, stream);
        system_check(write(reports, &report, sizeof report) != sizeof report, "reporting");
    }
    nccl_check(ncclCommDestroy(comm), "ncclCommDestroy");
}

/* In a process of its own: the parent of the ranks must not have touched CUDA. */
static int count_gpus(void)
{
    pid_t child = fork();
    if (child == 0) {
        int count = 0;
        if (!find_cuda() || cuda.init(0) || cuda.device_count(&count))
            _exit(0);
        _exit(count < MAX_GPUS ? count : MAX_GPUS);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

/* Whether a rank has failed. The other ranks would wait for it without end. */
static int has_failed_rank(void)
{
    int status = 0;
    while (waitpid(-1, &status, WNOHANG) > 0) {
        if (status)
            return 1;
    }
    return 0;
}

/* Prints a line for each size that all ranks have reported. Returns how many lines came. */
static int print_reports(int reports, int ranks, size_t *wrong)
{
    struct report report;
    int lines = 0, reported[SIZES] = {0};
    size_t wrong_of[SIZES] = {0};
    double us[SIZES] = {0};
    while (lines < SIZES && !has_failed_rank()) {
        struct pollfd waiting = {.fd = reports, .events = POLLIN};
        if (poll(&waiting, 1, 100) <= 0 || read(reports, &report, sizeof report) != sizeof report)
            continue;
        int size = report.size;
        wrong_of[size] += report.wrong;
        us[size] = report.us > us[size] ? report.us : us[size];
        if (++reported[size] < ranks)
            continue;
        char time[32] = "-";
        if (us[size] > 0)
            snprintf(time, sizeof time, "%.1f us", us[size]);
        if (lines == 0) {
            printf("\nSums of float over %d GPUs, a process for each:\n\n", ranks);
            printf("%10s %10s  %-6s %9s  %s\n", "elements", "bytes", "result", "time", "by");
        }
        printf("%10zu %10zu  %-6s %9s  %s\n", counts[size], counts[size] * sizeof(float),
               wrong_of[size] ? "WRONG" : "right", time, report.how);
        fflush(stdout);
        *wrong += wrong_of[size];
        lines++;
    }
    return lines;
}

int main(void)
{
    int ids[2], reports[2], ranks = count_gpus(), status = 0;
    if (ranks < 2) {
        printf("Two GPUs are needed, %d here. `make demo` simulates them then.\n", ranks);
        return 2;
    }
    system_check(pipe(ids) || pipe(reports), "pipe");
    for (int rank = 0; rank < ranks; rank++) {
        pid_t child = fork();
        system_check(child < 0, "fork");
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            be_rank(rank, ranks, ids, reports[1]);
            exit(0);
        }
    }
    size_t wrong = 0;
    int complete = print_reports(reports[0], ranks, &wrong) == SIZES;
    while (complete && wait(&status) > 0)
        complete = status == 0;
    if (!complete)
        printf("A rank failed.\n");
    return !complete || wrong;
}
