// What the tests of the CPU NCCL stand on: checks, memory and streams, elements of all types, and ranks as threads,
// as one thread and as processes.
#ifndef DIME_SIM_NCCL_TEST_SUPPORT_H
#define DIME_SIM_NCCL_TEST_SUPPORT_H

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <nccl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace test {

[[noreturn]] inline void fail_check(const char *file, int line, const std::string &text) {
  fprintf(stderr, "%s:%d: %s\n", file, line, text.c_str());
  _exit(1);
}

#define CHECK(condition) ((condition) ? void() : fail_check(__FILE__, __LINE__, "not so: " #condition))
#define CHECK_EQUAL(got, want)                                                                              \
  do {                                                                                                      \
    const auto got_ = (got);                                                                                \
    const auto want_ = (want);                                                                              \
    if (got_ != want_)                                                                                      \
      fail_check(__FILE__, __LINE__, #got " is " + std::to_string(got_) + ", not " + std::to_string(want_)); \
  } while (false)
#define CUDA(call)                                                                                   \
  do {                                                                                               \
    const CUresult result_ = (call);                                                                 \
    if (result_ != CUDA_SUCCESS) fail_check(__FILE__, __LINE__, #call " gave " + std::to_string(result_)); \
  } while (false)
#define NCCL(call)                                                                                            \
  do {                                                                                                        \
    const ncclResult_t result_ = (call);                                                                      \
    if (result_ != ncclSuccess)                                                                               \
      fail_check(__FILE__, __LINE__, #call " gave " + std::to_string(result_) + ": " + ncclGetLastError(nullptr)); \
  } while (false)

// ---- Devices, memory and streams ------------------------------------------------------------------------------------

inline void use_device(int device) {
  CUDA(cuInit(0));
  CUcontext context;
  CUDA(cuDevicePrimaryCtxRetain(&context, device));
  CUDA(cuCtxSetCurrent(context));
}

struct Stream {
  Stream() { CUDA(cuStreamCreate(&handle, CU_STREAM_NON_BLOCKING)); }
  ~Stream() { CUDA(cuStreamDestroy(handle)); }
  Stream(const Stream &) = delete;
  void wait() const { CUDA(cuStreamSynchronize(handle)); }
  operator CUstream() const { return handle; }
  CUstream handle;
};

struct Memory {
  explicit Memory(size_t bytes) : bytes(bytes) { CUDA(cuMemAlloc(&address, bytes ? bytes : 1)); }
  explicit Memory(const std::vector<char> &content) : Memory(content.size()) { upload(content); }
  ~Memory() { CUDA(cuMemFree(address)); }
  Memory(const Memory &) = delete;
  void upload(const std::vector<char> &content) {
    if (!content.empty()) CUDA(cuMemcpyHtoD(address, content.data(), content.size()));
  }
  std::vector<char> download() const {
    std::vector<char> content(bytes);
    if (bytes) CUDA(cuMemcpyDtoH(content.data(), address, bytes));
    return content;
  }
  template <class T>
  T *at(size_t index) const { return reinterpret_cast<T *>(address) + index; }
  void *all() const { return reinterpret_cast<void *>(address); }
  CUdeviceptr address;
  size_t bytes;
};

// ---- Elements -------------------------------------------------------------------------------------------------------

constexpr ncclDataType_t TYPES[] = {ncclInt8,    ncclUint8,      ncclInt32,     ncclUint32,
                                    ncclInt64,   ncclUint64,     ncclFloat16,   ncclFloat32,
                                    ncclFloat64, ncclBfloat16,   ncclFloat8e4m3, ncclFloat8e5m2};
constexpr size_t BYTES[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};

template <class T>
void put_as(char *place, T value) {
  memcpy(place, &value, sizeof value);
}

template <class T>
T get_as(const char *place) {
  T value;
  memcpy(&value, place, sizeof value);
  return value;
}

inline void put(ncclDataType_t type, char *place, double value) {
  switch (type) {
    case ncclInt8: return put_as(place, int8_t(value));
    case ncclUint8: return put_as(place, uint8_t(value));
    case ncclInt32: return put_as(place, int32_t(value));
    case ncclUint32: return put_as(place, uint32_t(value));
    case ncclInt64: return put_as(place, int64_t(value));
    case ncclUint64: return put_as(place, uint64_t(value));
    case ncclFloat16: return put_as(place, __float2half_rn(float(value)));
    case ncclFloat32: return put_as(place, float(value));
    case ncclFloat64: return put_as(place, value);
    case ncclBfloat16: return put_as(place, __float2bfloat16_rn(float(value)));
    case ncclFloat8e4m3: return put_as(place, __nv_cvt_float_to_fp8(float(value), __NV_SATFINITE, __NV_E4M3));
    case ncclFloat8e5m2: return put_as(place, __nv_cvt_float_to_fp8(float(value), __NV_SATFINITE, __NV_E5M2));
    default: abort();
  }
}

inline double get(ncclDataType_t type, const char *place) {
  const auto float8 = [&](__nv_fp8_interpretation_t kind) {
    return __half2float(__half(__nv_cvt_fp8_to_halfraw(get_as<__nv_fp8_storage_t>(place), kind)));
  };
  switch (type) {
    case ncclInt8: return get_as<int8_t>(place);
    case ncclUint8: return get_as<uint8_t>(place);
    case ncclInt32: return get_as<int32_t>(place);
    case ncclUint32: return get_as<uint32_t>(place);
    case ncclInt64: return double(get_as<int64_t>(place));
    case ncclUint64: return double(get_as<uint64_t>(place));
    case ncclFloat16: return __half2float(get_as<__half>(place));
    case ncclFloat32: return get_as<float>(place);
    case ncclFloat64: return get_as<double>(place);
    case ncclBfloat16: return __bfloat162float(get_as<__nv_bfloat16>(place));
    case ncclFloat8e4m3: return float8(__NV_E4M3);
    case ncclFloat8e5m2: return float8(__NV_E5M2);
    default: abort();
  }
}

inline std::vector<char> elements(ncclDataType_t type, size_t count, const std::function<double(size_t)> &value) {
  std::vector<char> content(count * BYTES[type]);
  for (size_t i = 0; i < count; ++i) put(type, &content[i * BYTES[type]], value(i));
  return content;
}

inline void check_elements(const char *what, ncclDataType_t type, const std::vector<char> &got, size_t first,
                           size_t count, const std::function<double(size_t)> &want) {
  for (size_t i = 0; i < count; ++i) {
    const double value = get(type, &got[(first + i) * BYTES[type]]);
    if (value != want(i))
      fail_check(__FILE__, __LINE__, std::string(what) + ", type " + std::to_string(type) + ", element " +
                                         std::to_string(first + i) + " is " + std::to_string(value) + ", not " +
                                         std::to_string(want(i)));
  }
}

// ---- Ranks ----------------------------------------------------------------------------------------------------------

// What the processes of a test share.
struct Shared {
  std::atomic<int> id_is_there;
  ncclUniqueId id;
  std::atomic<int> arrived;
};

inline Shared *new_shared() {
  void *memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  return static_cast<Shared *>(memory);
}

inline void nap() { std::this_thread::sleep_for(std::chrono::milliseconds(1)); }

inline ncclUniqueId agree_on_id(Shared &shared, int rank) {
  if (rank == 0) {
    NCCL(ncclGetUniqueId(&shared.id));
    shared.id_is_there = 1;
  }
  while (!shared.id_is_there) nap();
  return shared.id;
}

inline void barrier(Shared &shared, int ranks) {
  const int ticket = shared.arrived++;
  while (shared.arrived < (ticket / ranks + 1) * ranks) nap();
}

// One rank or, where one thread drives all, all of them.
struct Seat {
  std::vector<int> ranks;
  int total;
  Shared *shared;
  std::vector<ncclComm_t> comms;  // of `ranks`

  void connect() {
    comms.resize(ranks.size());
    const ncclUniqueId id = agree_on_id(*shared, ranks[0]);
    NCCL(ncclGroupStart());
    for (size_t i = 0; i < ranks.size(); ++i) {
      use_device(ranks[i]);
      NCCL(ncclCommInitRank(&comms[i], total, id, ranks[i]));
    }
    NCCL(ncclGroupEnd());
  }
  void disconnect() {
    for (ncclComm_t comm : comms) NCCL(ncclCommDestroy(comm));
  }
};

inline void as_threads(int ranks, const std::function<void(Seat &)> &body) {
  Shared *shared = new_shared();
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      Seat seat{{rank}, ranks, shared, {}};
      body(seat);
    });
  for (auto &thread : threads) thread.join();
  munmap(shared, sizeof *shared);
}

inline void as_one_thread(int ranks, const std::function<void(Seat &)> &body) {
  Shared *shared = new_shared();
  Seat seat{{}, ranks, shared, {}};
  for (int rank = 0; rank < ranks; ++rank) seat.ranks.push_back(rank);
  body(seat);
  munmap(shared, sizeof *shared);
}

// The caller must not have used CUDA before.
inline void as_processes(int ranks, const std::function<void(Seat &)> &body) {
  Shared *shared = new_shared();
  std::vector<pid_t> children;
  for (int rank = 0; rank < ranks; ++rank) {
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      Seat seat{{rank}, ranks, shared, {}};
      body(seat);
      _exit(0);
    }
    children.push_back(child);
  }
  for (pid_t child : children) {
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
  }
  munmap(shared, sizeof *shared);
}

}  // namespace test

#endif
