// What griddepcontrol.wait waits for: the launch before this one only, or every earlier launch of the stream.
//
//   nvcc -arch=sm_90 -std=c++17 -O3 -Ltarget/nvcc/nvidia/cu13/lib -o target/dependent_launch tests/gpu/dependent_launch.cu
//   target/dependent_launch [ROUNDS]
//
// A stage of run_gpu_test.sh. It needs no Dime and no NCCL, and one GPU of compute capability 9.0 or newer.
//
// Three kernels are launched in one stream, eagerly and as a replayed graph that was captured from it:
//
//   A  lets its dependents start at once, spins for 2 ms, then writes a word;
//   B  stands between A and C, in one of several forms, and takes no time (some variants have no B, or two);
//   C  is launched with programmatic stream serialization and reads the word, behind griddepcontrol.wait or (the controls) without it.
//
// Each variant is one line: in how many rounds C began while A ran ("early"), and in how many C missed what A writes ("stale").
//
// What follows:
// - A control with stale 0: no launch starts early here, so the other lines say nothing about the wait. Exit code 2.
// - Stale 0 in every variant with the wait: the wait covers every earlier launch of the stream. docs/kernels.md and
//   kernels/backend/grid.h rely on that: captured calls read their epoch right behind it. Exit code 0.
// - "direct" stale: the wait does not cover the launch before. No launch of Dime's may have the attribute. Exit code 1.
// - Only "returns", "returns-twice" or "triggers" stale (B has the attribute and no wait): the wait covers the launch before only,
//   and B is over while A runs. A chain of Dime's launches stays right, since each executes the wait; a kernel of the application
//   between two of them breaks it. Captured launches then need to go without the attribute behind anything that is not Dime's, or
//   trigger_dependents has to move to the end of the kernel. An eager launch also waits for its ticket (kernels/device/epoch.h), so only
//   what it reads before that is in question. Exit code 1.
// - "waits", "triggers-and-waits" or "waits-and-triggers" stale (B executes the wait): a chain of kernels that all wait is not in
//   order either. trigger_dependents has to go. Exit code 1.
// - "plain" stale (B without the attribute): a launch without the attribute does not keep later ones back. trigger_dependents has to go.
//   Exit code 1.
// - Anything else went wrong: exit code 3.
#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace {

const uint64_t SPIN_NS = 2000000;

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::printf("FAIL: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(3);
}
#define CHECK(call) check(call, #call)

// What one round leaves, in device memory.
struct Round {
  uint32_t word;     // written by A at its end
  uint32_t seen;     // the word as C read it
  uint64_t a_ended;  // times of the GPU's global clock
  uint64_t c_began;
};

__device__ uint64_t now_ns() {
  uint64_t time;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(time)::"memory");
  return time;
}
__device__ void wait_for_stream() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
__device__ void let_dependents_start() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

__global__ void kernel_a(volatile Round* round) {
  let_dependents_start();
  const uint64_t begin = now_ns();
  while (now_ns() - begin < SPIN_NS) {
  }
  round->a_ended = now_ns();
  round->word = 1;
}

__global__ void b_returns() {}
__global__ void b_triggers() { let_dependents_start(); }
__global__ void b_waits() { wait_for_stream(); }
__global__ void b_triggers_and_waits() {
  let_dependents_start();
  wait_for_stream();
}
// As Dime's kernels do it: the wait first.
__global__ void b_waits_and_triggers() {
  wait_for_stream();
  let_dependents_start();
}

__global__ void c_waits(volatile Round* round) {
  round->c_began = now_ns();
  wait_for_stream();
  round->seen = round->word;
}
__global__ void c_does_not_wait(volatile Round* round) {
  round->c_began = now_ns();
  round->seen = round->word;
}

using Between = void (*)();

struct Variant {
  const char* name;
  Between between;        // B, or null
  int repeats;            // how many of it
  bool between_is_early;  // B has the launch attribute
  bool is_control;        // C executes no wait
};

const Variant VARIANTS[] = {
    {"control-direct", nullptr, 0, false, true},
    {"control-returns", b_returns, 1, true, true},
    {"direct", nullptr, 0, false, false},
    {"returns", b_returns, 1, true, false},
    {"returns-twice", b_returns, 2, true, false},
    {"triggers", b_triggers, 1, true, false},
    {"waits", b_waits, 1, true, false},
    {"triggers-and-waits", b_triggers_and_waits, 1, true, false},
    {"waits-and-triggers", b_waits_and_triggers, 1, true, false},
    {"plain", b_returns, 1, false, false},
};

template <typename... Parameters>
void launch(void (*kernel)(Parameters...), bool is_early, cudaStream_t stream, Parameters... parameters) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(1);
  config.blockDim = dim3(1);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = is_early ? 1 : 0;
  CHECK(cudaLaunchKernelEx(&config, kernel, parameters...));
}

void launch_all(const Variant& variant, volatile Round* round, cudaStream_t stream) {
  launch(kernel_a, false, stream, round);
  for (int i = 0; i < variant.repeats; i++) launch(variant.between, variant.between_is_early, stream);
  launch(variant.is_control ? c_does_not_wait : c_waits, true, stream, round);
}

// Runs a variant and prints its line. In how many rounds the word was missed.
int run(const Variant& variant, bool in_graph, int rounds, Round* device, cudaStream_t stream) {
  cudaGraphExec_t graph = nullptr;
  if (in_graph) {
    cudaGraph_t captured;
    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    launch_all(variant, device, stream);
    CHECK(cudaStreamEndCapture(stream, &captured));
    CHECK(cudaGraphInstantiate(&graph, captured, 0));
    CHECK(cudaGraphDestroy(captured));
  }
  int early = 0, stale = 0;
  // Round 0 only warms up: the first launch of a function may wait for the GPU.
  for (int i = 0; i <= rounds; i++) {
    CHECK(cudaMemset(device, 0, sizeof(Round)));
    CHECK(cudaDeviceSynchronize());
    if (in_graph) {
      CHECK(cudaGraphLaunch(graph, stream));
    } else {
      launch_all(variant, device, stream);
    }
    CHECK(cudaStreamSynchronize(stream));
    CHECK(cudaDeviceSynchronize());
    Round round;
    CHECK(cudaMemcpy(&round, device, sizeof(round), cudaMemcpyDeviceToHost));
    if (i == 0) continue;
    early += round.c_began < round.a_ended;
    stale += round.seen != 1;
  }
  if (graph != nullptr) CHECK(cudaGraphExecDestroy(graph));
  std::printf("%s %s: rounds %d, early %d, stale %d\n", in_graph ? "graph" : "eager", variant.name, rounds, early, stale);
  std::fflush(stdout);
  return stale;
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 100;
  if (rounds < 1) {
    std::printf("FAIL: ROUNDS is not a positive number\n");
    return 3;
  }
  cudaDeviceProp properties;
  CHECK(cudaGetDeviceProperties(&properties, 0));
  int driver = 0;
  CHECK(cudaDriverGetVersion(&driver));
  std::printf("%s, compute capability %d.%d, driver %d\n", properties.name, properties.major, properties.minor, driver);
  cudaStream_t stream;
  CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  Round* device;
  CHECK(cudaMalloc(&device, sizeof(Round)));

  bool is_telling = true, is_covered = true;
  for (const bool in_graph : {false, true}) {
    for (const Variant& variant : VARIANTS) {
      const int stale = run(variant, in_graph, rounds, device, stream);
      if (variant.is_control) is_telling &= stale > 0;
      if (!variant.is_control) is_covered &= stale == 0;
    }
  }
  if (!is_covered) {
    std::printf("FAIL: griddepcontrol.wait does not cover every earlier launch of the stream\n");
    return 1;
  }
  if (!is_telling) {
    std::printf("FAIL: a control saw no early start, so this run says nothing\n");
    return 2;
  }
  std::printf("PASS: griddepcontrol.wait covers every earlier launch of the stream\n");
  return 0;
}
