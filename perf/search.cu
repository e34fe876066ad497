// The search behind src/route/tables.rs: times every kernel with many grids, block sizes and tiles, and
// prints the best of each.
//
// Build and run (make search does both):
//
//   nvcc -arch=native -Ikernels -std=c++20 -O3 -o target/search perf/search.cu
//   target/search GPUS [FIRST_GPU] [BYTES_FROM BYTES_TO]
//
// One process, with a thread for each GPU. Each configuration runs a bf16 sum, out of place, as a CUDA graph
// of 50 launches (16 from 4 MiB on), which all ranks replay 12 times, each replay started together. A rank's
// time is the median of its replays without the first 2; a configuration's time is the smallest of the
// ranks'. Results are compared with the exact sum of small integers, and a configuration with a wrong result
// is not listed.
#include <cuda_runtime.h>

#include <algorithm>
#include <barrier>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "../kernels/instances.cu"

namespace {

#define CHECK(call)                                                                                  \
  do {                                                                                               \
    cudaError_t error = (call);                                                                      \
    if (error != cudaSuccess) {                                                                      \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, cudaGetErrorString(error));            \
      std::_Exit(1);                                                                                 \
    }                                                                                                \
  } while (0)

#define NUMBER(name, ...) KERNEL_##name,
enum Kernel { DIME_KERNELS(NUMBER, ) KERNELS };
struct Facts {
  const char *name;
  size_t packet_bytes;
  int exchanges;
};
#define FACTS(name, packet_bytes, exchanges, ...) {#name, packet_bytes, exchanges},
const Facts FACTS_OF[KERNELS] = {DIME_KERNELS(FACTS, )};
const size_t LARGEST_BYTES = 16u << 20;
const int REPLAYS = 12, DROPPED = 2;

struct Configuration {
  size_t bytes;
  int kernel, blocks, threads, tile_log2, stages;
  double us;
  long wrong;
};

struct Gpu {
  char *scratch, *input, *output;
  cudaStream_t stream;
  std::vector<uint16_t> values;  // the input's content
  double us;
};

int ranks, first_gpu;
std::vector<Gpu> gpus;
std::vector<Configuration> configurations;
dime_mailbox *mailbox;
std::mutex counting;

const void *function(int kernel) {
#define ADDRESS(name, packet_bytes, exchanges, carries_integers, has_pair_form, suffix) \
  (const void *)dime_##name##_sum_bf16_##suffix,
#define OF_RANKS(suffix)                                                     \
  {                                                                          \
    const void *const all[KERNELS] = {DIME_KERNELS(ADDRESS, suffix)};        \
    return all[kernel];                                                      \
  }
  if (ranks == 2) OF_RANKS(2)
  if (ranks == 4) OF_RANKS(4)
  if (ranks == 8) OF_RANKS(8)
  OF_RANKS(n)
}

bool is_two_shot(int kernel) { return FACTS_OF[kernel].exchanges == 2; }
bool is_ll(int kernel) { return FACTS_OF[kernel].packet_bytes == 8; }

size_t packets(int kernel, size_t bytes) {
  return (bytes + FACTS_OF[kernel].packet_bytes - 1) / FACTS_OF[kernel].packet_bytes;
}

size_t chunk_packets(int kernel, size_t bytes) {
  return is_two_shot(kernel) ? (packets(kernel, bytes) + ranks - 1) / ranks : packets(kernel, bytes);
}

bool fits(int kernel, size_t bytes) {
  size_t slots = chunk_packets(kernel, bytes) * (ranks - 1) * (is_two_shot(kernel) ? 2 : 1);
  return slots * 16 <= (is_ll(kernel) ? DIME_LL_BYTES : DIME_DATA_BYTES);
}

// Adds the configurations to try for a size and a kernel: not every grid for every size.
void list(size_t bytes, int kernel) {
  for (int threads : {128, 256, 512})
    for (int most_blocks : {16, 32, 48, 64, 96, 128}) {
      if (kernel == KERNEL_two_shot_bulk) {
        if (most_blocks >= 48 && threads >= 256)
          for (int stages : {1, 2, 4}) configurations.push_back({bytes, kernel, most_blocks, threads, 0, stages, 0, 0});
        continue;
      }
      // The one-shots of two ranks have no tiles: a block takes one packet for each of its threads at a time.
      const bool is_pair = ranks == 2 && !is_two_shot(kernel);
      for (int tile_log2 = 4; tile_log2 <= 10 && 1 << tile_log2 <= 4 * threads; ++tile_log2) {
        if (is_pair && 1 << tile_log2 != threads) continue;
        size_t tiles = (chunk_packets(kernel, bytes) + (1u << tile_log2) - 1) >> tile_log2;
        if (tiles > size_t(most_blocks) * 16 && !is_pair) continue;
        Configuration one = {bytes, kernel, int(std::min<size_t>(tiles, most_blocks)), threads, tile_log2, 1, 0, 0};
        bool known = std::any_of(configurations.begin(), configurations.end(), [&](const Configuration &other) {
          return other.bytes == bytes && other.kernel == kernel && other.blocks == one.blocks &&
                 other.threads == threads && other.tile_log2 == tile_log2;
        });
        if (!known) configurations.push_back(one);
      }
    }
}

void launch(int rank, const Configuration &one) {
  dime_args args = {};
  args.input = uint64_t(gpus[rank].input);
  args.output = uint64_t(gpus[rank].output);
  args.bytes = one.bytes;
  for (int peer = 0; peer < ranks; ++peer) args.inbox[peer] = uint64_t(gpus[peer].scratch);
  args.mailbox = uint64_t(mailbox);
  args.packets = uint32_t(packets(one.kernel, one.bytes));
  args.chunk_packets = uint32_t(chunk_packets(one.kernel, one.bytes));
  args.rank = uint8_t(rank);
  args.ranks = uint8_t(ranks);
  args.type = DIME_BFLOAT16;
  args.op = DIME_SUM;
  args.tile_log2 = uint8_t(one.tile_log2);
  args.stages = uint8_t(one.stages);
  args.triggers_dependents = one.blocks <= 64;  // a small launch on 132 SMs, as in src/route/
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = one.blocks;
  config.blockDim = one.threads;
  config.stream = gpus[rank].stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  void *parameters[] = {&args};
  CHECK(cudaLaunchKernelExC(&config, function(one.kernel), parameters));
}

float as_float(uint16_t bf16) {
  uint32_t bits = uint32_t(bf16) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

long count_wrong(int rank, const Configuration &one) {
  std::vector<uint16_t> result(one.bytes / 2);
  CHECK(cudaMemcpy(result.data(), gpus[rank].output, one.bytes, cudaMemcpyDeviceToHost));
  const size_t step = result.size() > 100000 ? 97 : 1;
  long wrong = 0;
  for (size_t i = 0; i < result.size(); i += step) {
    float sum = 0;
    for (const Gpu &gpu : gpus) sum += as_float(gpu.values[i]);
    wrong += as_float(result[i]) != sum;
  }
  return wrong;
}

void work(int rank, std::barrier<> &together) {
  CHECK(cudaSetDevice(first_gpu + rank));
  Gpu &gpu = gpus[rank];
  cudaEvent_t begin, end;
  CHECK(cudaEventCreate(&begin));
  CHECK(cudaEventCreate(&end));
  for (Configuration &one : configurations) {
    const int operations = one.bytes >= (4u << 20) ? 16 : 50;
    CHECK(cudaMemsetAsync(gpu.output, 0xee, one.bytes, gpu.stream));
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    CHECK(cudaStreamBeginCapture(gpu.stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < operations; ++i) launch(rank, one);
    CHECK(cudaStreamEndCapture(gpu.stream, &graph));
    CHECK(cudaGraphInstantiate(&executable, graph, 0));
    CHECK(cudaGraphUpload(executable, gpu.stream));
    CHECK(cudaStreamSynchronize(gpu.stream));
    std::vector<float> times;
    for (int replay = 0; replay < REPLAYS; ++replay) {
      together.arrive_and_wait();
      CHECK(cudaEventRecord(begin, gpu.stream));
      CHECK(cudaGraphLaunch(executable, gpu.stream));
      CHECK(cudaEventRecord(end, gpu.stream));
      CHECK(cudaStreamSynchronize(gpu.stream));
      float ms;
      CHECK(cudaEventElapsedTime(&ms, begin, end));
      if (replay >= DROPPED) times.push_back(ms * 1000 / operations);
    }
    std::sort(times.begin(), times.end());
    gpu.us = times[times.size() / 2];
    const long wrong = count_wrong(rank, one);
    {
      std::lock_guard<std::mutex> lock(counting);
      one.wrong += wrong;
    }
    CHECK(cudaGraphExecDestroy(executable));
    CHECK(cudaGraphDestroy(graph));
    together.arrive_and_wait();
    if (rank == 0) {
      one.us = gpu.us;
      for (const Gpu &other : gpus) one.us = std::min(one.us, other.us);
    }
    together.arrive_and_wait();
  }
}

void prepare(int rank) {
  Gpu &gpu = gpus[rank];
  CHECK(cudaSetDevice(first_gpu + rank));
  for (int peer = 0; peer < ranks; ++peer)
    if (peer != rank) CHECK(cudaDeviceEnablePeerAccess(first_gpu + peer, 0));
  CHECK(cudaMalloc(&gpu.scratch, DIME_LANE_BYTES));
  CHECK(cudaMemset(gpu.scratch, 0xff, DIME_LANE_BYTES));
  for (int parity = 0; parity < DIME_PARITIES; ++parity)
    CHECK(cudaMemset(gpu.scratch + size_t(parity) * DIME_PARITY_BYTES + DIME_LL_OFFSET, 0, DIME_PARITY_BYTES - DIME_LL_OFFSET));
  const std::vector<uint32_t> epochs(DIME_MAX_BLOCKS, 1);
  CHECK(cudaMemcpy(gpu.scratch + DIME_EPOCH_OFFSET, epochs.data(), 4 * epochs.size(), cudaMemcpyHostToDevice));
  CHECK(cudaMalloc(&gpu.input, LARGEST_BYTES));
  CHECK(cudaMalloc(&gpu.output, LARGEST_BYTES));
  uint32_t seed = 12345u + 77777u * uint32_t(rank);
  gpu.values.resize(LARGEST_BYTES / 2);
  for (uint16_t &value : gpu.values) {
    seed = seed * 1664525u + 1013904223u;
    const float number = float(int((seed >> 20) % 33) - 16);
    uint32_t bits;
    std::memcpy(&bits, &number, 4);
    value = uint16_t(bits >> 16);
  }
  CHECK(cudaMemcpy(gpu.input, gpu.values.data(), LARGEST_BYTES, cudaMemcpyHostToDevice));
  CHECK(cudaStreamCreateWithFlags(&gpu.stream, cudaStreamNonBlocking));
  CHECK(cudaDeviceSynchronize());
  for (int kernel = 0; kernel < KERNELS; ++kernel) {
    cudaFuncAttributes attributes;
    CHECK(cudaFuncGetAttributes(&attributes, function(kernel)));  // loads the function
  }
}

}  // namespace

int main(int argc, char **argv) {
  if (argc < 2 || (ranks = std::atoi(argv[1])) < 2 || ranks > DIME_MAX_RANKS) {
    std::fprintf(stderr, "usage: %s GPUS (2 to 8) [FIRST_GPU] [BYTES_FROM BYTES_TO]\n", argv[0]);
    return 2;
  }
  first_gpu = argc > 2 ? std::atoi(argv[2]) : 0;
  const size_t from = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 256;
  const size_t to = std::min<size_t>(argc > 4 ? std::strtoull(argv[4], nullptr, 10) : 8u << 20, LARGEST_BYTES);
  gpus.resize(ranks);
  for (int rank = 0; rank < ranks; ++rank) prepare(rank);
  CHECK(cudaHostAlloc(&mailbox, sizeof *mailbox, cudaHostAllocPortable | cudaHostAllocMapped));
  *mailbox = {};
  for (size_t bytes = from; bytes <= to; bytes *= 2)
    for (int kernel = 0; kernel < KERNELS; ++kernel)
      if (fits(kernel, bytes)) list(bytes, kernel);

  std::barrier<> together(ranks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) threads.emplace_back([&, rank] { work(rank, together); });
  for (std::thread &thread : threads) thread.join();

  long wrong = 0;
  std::printf("gpus bytes kernel blocks threads tile stages us\n");
  std::stable_sort(configurations.begin(), configurations.end(), [](const Configuration &a, const Configuration &b) {
    return a.bytes != b.bytes ? a.bytes < b.bytes : a.kernel != b.kernel ? a.kernel < b.kernel : a.us < b.us;
  });
  int shown = 0;
  for (size_t i = 0; i < configurations.size(); ++i) {
    const Configuration &one = configurations[i];
    if (i == 0 || one.bytes != configurations[i - 1].bytes || one.kernel != configurations[i - 1].kernel) shown = 0;
    if (one.wrong != 0) {
      ++wrong;
    } else if (shown++ < 5) {
      std::printf("%d %zu %s %d %d %d %d %.3f\n", ranks, one.bytes, FACTS_OF[one.kernel].name, one.blocks, one.threads,
                  1 << one.tile_log2, one.stages, one.us);
    }
  }
  std::printf("%zu configurations, %ld with wrong results\n", configurations.size(), wrong);
  return wrong != 0;
}
