// What libcuda.so.1 promises, checked against the library as programs use it. Each test runs in a process of its own,
// because a process reads the simulator's variables once. No arguments: all tests; else those whose name contains the
// argument.
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cuda_api.h"
#include "polled.h"

namespace {

[[noreturn]] void stop(int line, const std::string &message) {
  fprintf(stderr, "    line %d: %s\n", line, message.c_str());
  _exit(1);
}

#define CHECK(condition) \
  do \
    if (!(condition)) stop(__LINE__, "not so: " #condition); \
  while (0)

std::string name_of(int code) {
  const char *name = nullptr;
  cuGetErrorName(CUresult(code), &name);
  return name ? name : std::to_string(code);
}

#define EXPECT(wanted, call) \
  do { \
    const int expect_got = (call); \
    if (expect_got != (wanted)) stop(__LINE__, #call " returned " + name_of(expect_got) + " instead of " #wanted); \
  } while (0)
#define DO(call) EXPECT(CUDA_SUCCESS, call)

// CUDA started, and the context of device 0 current.
CUcontext start(int device = 0) {
  CUcontext context;
  DO(cuInit(0));
  DO(cuDevicePrimaryCtxRetain(&context, device));
  DO(cuCtxSetCurrent(context));
  return context;
}

CUstream new_stream(unsigned flags = CU_STREAM_NON_BLOCKING) {
  CUstream stream;
  DO(cuStreamCreate(&stream, flags));
  return stream;
}

CUevent new_event(unsigned flags = CU_EVENT_DISABLE_TIMING) {
  CUevent event;
  DO(cuEventCreate(&event, flags));
  return event;
}

constexpr unsigned LIMIT_S = 60;  // for each test

void rest_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

// Waits for something that a callback does.
template <class Condition>
bool soon(Condition condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    rest_ms(1);
  }
  return false;
}

// Work that is over when somebody opens it.
struct Gate {
  struct State {
    std::atomic<bool> is_open{false};
    std::atomic<int> launched{0}, started{0}, destroyed{0};
  };
  State &state = *new State;  // never freed: the device may come to the work when the test is over
  std::atomic<bool> &is_open = state.is_open;
  std::atomic<int> &launched = state.launched, &started = state.started, &destroyed = state.destroyed;

  int put_into(CUstream stream) {
    const dimeSimPolled work = {
        [](void *data) { static_cast<State *>(data)->launched += 1; },
        [](void *data, int restart) -> int {
          auto *gate = static_cast<State *>(data);
          gate->started += restart;
          return gate->is_open;
        },
        [](void *data) { static_cast<State *>(data)->destroyed += 1; }, &state};
    return dimeSimLaunchPolled(stream, &work);
  }
};

// A device buffer of 32-bit words.
struct Words {
  explicit Words(size_t count) : count(count) { DO(cuMemAlloc_v2(&address, 4 * count)); }
  uint32_t operator[](size_t i) const {
    uint32_t value;
    memcpy(&value, reinterpret_cast<char *>(address) + 4 * i, 4);
    return value;
  }
  void set(uint32_t value, CUstream stream) { DO(cuMemsetD32Async(address, value, count, stream)); }

  const size_t count;
  CUdeviceptr address;
};

struct Test {
  const char *name;
  std::vector<const char *> variables;
  void (*run)();
  int ends_with;  // a signal that is the expected end
};

std::vector<Test> &tests() {
  static std::vector<Test> all;
  return all;
}

struct Adds {
  explicit Adds(const Test &test) { tests().push_back(test); }
};

// TEST(name) { ... }; with variables for the process; and with the signal that ends it.
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define ADD_TEST(number, signal, name, ...) \
  void JOIN(test_, number)(); \
  const Adds JOIN(adds_, number)(Test{name, __VA_ARGS__, JOIN(test_, number), signal}); \
  void JOIN(test_, number)()
#define TEST(name) ADD_TEST(__LINE__, 0, name, {})
#define TEST_IN(name, ...) ADD_TEST(__LINE__, 0, name, __VA_ARGS__)
#define TEST_ENDING(signal, name, ...) ADD_TEST(__LINE__, signal, name, __VA_ARGS__)

// Streams and events.

TEST("a stream is asynchronous and in order") {
  start();
  CUstream stream = new_stream();
  Words words(1000);
  Gate gate;
  words.set(1, stream);
  DO(gate.put_into(stream));
  words.set(2, stream);
  CHECK(soon([&] { return gate.started == 1; }));
  EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(stream));
  CHECK(words[999] == 1);
  gate.is_open = true;
  DO(cuStreamSynchronize(stream));
  DO(cuStreamQuery(stream));
  CHECK(words[0] == 2 && words[999] == 2 && gate.started == 1);
  CHECK(soon([&] { return gate.destroyed == 1; }));
}

TEST("streams do not wait for each other") {
  start();
  CUstream one = new_stream(), other = new_stream();
  Words words(1);
  Gate gate;
  DO(gate.put_into(one));
  words.set(7, other);
  DO(cuStreamSynchronize(other));
  CHECK(words[0] == 7);
  EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(one));
  gate.is_open = true;
  DO(cuStreamSynchronize(one));
}

TEST("the legacy default stream waits for blocking streams, and they for it") {
  start();
  CUstream blocking = new_stream(CU_STREAM_DEFAULT), free = new_stream(), later = new_stream(CU_STREAM_DEFAULT);
  Words words(3);
  words.set(0, free);
  DO(cuStreamSynchronize(free));
  Gate gate, elsewhere;
  DO(elsewhere.put_into(free));
  DO(gate.put_into(blocking));
  DO(cuMemsetD32Async(words.address, 1, 1, nullptr));
  DO(cuMemsetD32Async(words.address + 4, 1, 1, later));
  DO(cuMemsetD32Async(words.address + 8, 1, 1, CU_STREAM_PER_THREAD));
  rest_ms(20);
  CHECK(words[0] == 0 && words[1] == 0 && words[2] == 0);
  EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(CU_STREAM_LEGACY));
  gate.is_open = true;
  DO(cuStreamSynchronize(nullptr));
  DO(cuStreamSynchronize(later));
  DO(cuStreamSynchronize(CU_STREAM_PER_THREAD));
  CHECK(words[0] == 1 && words[1] == 1 && words[2] == 1);
  EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(free));
  elsewhere.is_open = true;
}

TEST("the legacy default stream waits for the work of a destroyed stream") {
  start();
  CUstream blocking = new_stream(CU_STREAM_DEFAULT);
  Gate gate;
  DO(gate.put_into(blocking));
  DO(cuStreamDestroy_v2(blocking));
  EXPECT(CUDA_ERROR_INVALID_HANDLE, cuStreamQuery(blocking));
  EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(nullptr));
  gate.is_open = true;
  DO(cuStreamSynchronize(nullptr));
  CHECK(gate.started == 1);
}

TEST("each thread has a default stream of its own") {
  CUcontext context = start();
  Gate gate;
  unsigned long long here = 0, there = 0;
  DO(gate.put_into(CU_STREAM_PER_THREAD));
  DO(cuStreamGetId(CU_STREAM_PER_THREAD, &here));
  std::thread([&] {
    DO(cuCtxSetCurrent(context));
    DO(cuStreamQuery(CU_STREAM_PER_THREAD));
    DO(cuStreamGetId(CU_STREAM_PER_THREAD, &there));
  }).join();
  CHECK(here != there);
  EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(CU_STREAM_PER_THREAD));
  gate.is_open = true;
}

TEST("a handle is used again, an id is not") {
  start();
  unsigned long long first, second;
  CUstream stream = new_stream();
  DO(cuStreamGetId(stream, &first));
  DO(cuStreamDestroy_v2(stream));
  CUstream again = new_stream();
  DO(cuStreamGetId(again, &second));
  CHECK(stream == again && first != second);
}

TEST("an event orders streams of two devices") {
  CUcontext other_context;
  start();
  CUstream here = new_stream();
  CUevent event = new_event();
  Words words(1);
  DO(cuDevicePrimaryCtxRetain(&other_context, 1));
  DO(cuCtxPushCurrent_v2(other_context));
  CUstream there = new_stream();
  EXPECT(CUDA_ERROR_INVALID_HANDLE, cuEventRecord(event, there));
  DO(cuCtxPopCurrent_v2(nullptr));
  Gate gate;
  words.set(1, here);
  DO(gate.put_into(here));
  DO(cuEventRecord(event, here));
  DO(cuStreamWaitEvent(there, event, 0));
  words.set(2, there);
  CHECK(soon([&] { return gate.started == 1; }));
  rest_ms(20);
  CHECK(words[0] == 1);
  EXPECT(CUDA_ERROR_NOT_READY, cuEventQuery(event));
  gate.is_open = true;
  DO(cuStreamSynchronize(there));
  CHECK(words[0] == 2);
  DO(cuEventQuery(event));
}

TEST("a wait is for the record before it, not for a later one") {
  start();
  CUstream one = new_stream(), other = new_stream();
  CUevent event = new_event();
  DO(cuEventQuery(event));
  DO(cuStreamWaitEvent(other, event, 0));
  Gate first, second;
  DO(first.put_into(one));
  DO(cuEventRecord(event, one));
  DO(cuStreamWaitEvent(other, event, 0));
  DO(second.put_into(one));
  DO(cuEventRecord(event, one));
  first.is_open = true;
  DO(cuStreamSynchronize(other));
  EXPECT(CUDA_ERROR_NOT_READY, cuEventQuery(event));
  DO(cuEventDestroy_v2(event));
  EXPECT(CUDA_ERROR_INVALID_HANDLE, cuEventQuery(event));
  second.is_open = true;
  DO(cuStreamSynchronize(one));
}

TEST("events tell the time between them") {
  start();
  CUstream stream = new_stream();
  CUevent begin = new_event(0), end = new_event(0), untimed = new_event();
  float ms = 0;
  EXPECT(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime(&ms, begin, end));
  Gate gate;
  DO(cuEventRecord(begin, stream));
  DO(gate.put_into(stream));
  DO(cuEventRecord(end, stream));
  DO(cuEventRecord(untimed, stream));
  EXPECT(CUDA_ERROR_NOT_READY, cuEventElapsedTime(&ms, begin, end));
  rest_ms(20);
  gate.is_open = true;
  DO(cuEventSynchronize(end));
  DO(cuEventElapsedTime(&ms, begin, end));
  CHECK(ms >= 20 && ms < 1000 * LIMIT_S);
  EXPECT(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime(&ms, begin, untimed));
}

TEST("a host function may block without stopping its device, and may not call CUDA") {
  start();
  static std::atomic<bool> may_return{false};
  static std::atomic<int> result{-1};
  CUstream stream = new_stream(), other = new_stream();
  Words words(2);
  words.set(0, stream);
  DO(cuLaunchHostFunc(
      stream,
      [](void *) {
        int count;
        result = cuDeviceGetCount(&count);
        while (!may_return) rest_ms(1);
      },
      nullptr));
  DO(cuMemsetD32Async(words.address, 1, 1, stream));
  DO(cuMemsetD32Async(words.address + 4, 1, 1, other));
  DO(cuStreamSynchronize(other));
  CHECK(words[0] == 0 && words[1] == 1);
  may_return = true;
  DO(cuStreamSynchronize(stream));
  CHECK(words[0] == 1 && result == CUDA_ERROR_NOT_PERMITTED);
}

TEST("pageable memory is staged, pinned memory is not") {
  start();
  CUstream stream = new_stream();
  Words words(1);
  uint32_t pageable = 5, *pinned;
  DO(cuMemHostAlloc(reinterpret_cast<void **>(&pinned), 4, CU_MEMHOSTALLOC_PORTABLE));
  Gate gate;
  DO(gate.put_into(stream));
  DO(cuMemcpyHtoDAsync_v2(words.address, &pageable, 4, stream));
  DO(cuMemcpyDtoHAsync_v2(pinned, words.address, 4, stream));
  EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(stream));
  pageable = 6;
  std::thread opens([&] {
    rest_ms(20);
    gate.is_open = true;
  });
  uint32_t got = 0;
  DO(cuMemcpyDtoHAsync_v2(&got, words.address, 4, stream));
  CHECK(got == 5 && *pinned == 5);
  opens.join();
}

TEST("many threads use many streams of all devices at once") {
  DO(cuInit(0));
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 8; ++thread)
    threads.emplace_back([thread] {
      CUcontext context;
      DO(cuDevicePrimaryCtxRetain(&context, thread % 4));
      DO(cuCtxSetCurrent(context));
      CUstream one = new_stream(CU_STREAM_DEFAULT), other = new_stream();
      CUevent event = new_event();
      Words words(64), copied(64);
      for (uint32_t i = 0; i < 100; ++i) {
        words.set(i, one);
        DO(cuEventRecord(event, one));
        DO(cuStreamWaitEvent(other, event, 0));
        DO(cuMemcpyDtoDAsync_v2(copied.address, words.address, 256, other));
        DO(cuEventRecord(event, other));
        DO(cuStreamWaitEvent(one, event, 0));
        if (i % 10 != 0) continue;
        uint32_t got;
        DO(cuMemcpyDtoHAsync_v2(&got, copied.address + 252, 4, other));
        CHECK(got == i);
      }
      DO(cuStreamSynchronize(one));
      DO(cuMemFree_v2(words.address));
      DO(cuMemFree_v2(copied.address));
      DO(cuStreamDestroy_v2(one));
      DO(cuStreamDestroy_v2(other));
      DO(cuEventDestroy_v2(event));
      DO(cuDevicePrimaryCtxRelease_v2(thread % 4));
    });
  for (std::thread &thread : threads) thread.join();
}

TEST("work in flight does not keep a process from ending") {
  start();
  Gate gate;
  DO(gate.put_into(new_stream()));
  CHECK(soon([&] { return gate.started == 1; }));
  exit(0);
}

// Capture and graphs.

CUgraphExec instantiate(CUgraph graph) {
  CUgraphExec executable;
  DO(cuGraphInstantiateWithFlags(&executable, graph, 0));
  return executable;
}

CUstreamCaptureStatus capture_status(CUstream stream) {
  CUstreamCaptureStatus status;
  DO(cuStreamIsCapturing(stream, &status));
  return status;
}

TEST("a capture runs nothing, its graph runs again and again") {
  start();
  CUstream stream = new_stream();
  Words words(1), copied(1);
  words.set(0, stream);
  DO(cuStreamSynchronize(stream));
  DO(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  EXPECT(CUDA_ERROR_ILLEGAL_STATE, cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  words.set(4, stream);
  DO(cuMemcpyDtoDAsync_v2(copied.address, words.address, 4, stream));
  words.set(5, stream);
  CUgraph graph;
  DO(cuStreamEndCapture(stream, &graph));
  rest_ms(10);
  CHECK(words[0] == 0);
  CUgraphExec executable = instantiate(graph);
  DO(cuGraphUpload(executable, stream));
  for (int i = 0; i < 3; ++i) {
    words.set(9, stream);
    copied.set(9, stream);
    DO(cuGraphLaunch(executable, stream));
    DO(cuStreamSynchronize(stream));
    CHECK(words[0] == 5 && copied[0] == 4);
  }
  DO(cuGraphDestroy(graph));
  DO(cuGraphLaunch(executable, stream));
  DO(cuGraphExecDestroy(executable));
  EXPECT(CUDA_ERROR_INVALID_HANDLE, cuGraphLaunch(executable, stream));
  DO(cuStreamSynchronize(stream));
  EXPECT(CUDA_ERROR_ILLEGAL_STATE, cuStreamEndCapture(stream, &graph));
}

TEST("a capture forks and joins through events, and both branches run at once") {
  start();
  CUstream stream = new_stream(), branch = new_stream();
  CUevent fork = new_event(), join = new_event();
  Gate one, other;
  Words words(1);
  words.set(0, stream);
  DO(cuStreamSynchronize(stream));
  DO(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
  words.set(1, stream);
  DO(cuEventRecord(fork, stream));
  DO(cuStreamWaitEvent(branch, fork, 0));
  CHECK(capture_status(branch) == CU_STREAM_CAPTURE_STATUS_ACTIVE);
  DO(one.put_into(stream));
  DO(other.put_into(branch));
  DO(cuEventRecord(join, branch));
  DO(cuStreamWaitEvent(stream, join, 0));
  words.set(2, stream);

  CUstreamCaptureStatus status;
  cuuint64_t id = 0, branch_id = 0;
  CUgraph captured_graph = nullptr;
  size_t count = 0;
  const CUgraphNode *nodes = nullptr;
  DO(cuStreamGetCaptureInfo_v2(stream, &status, &id, &captured_graph, &nodes, &count));
  DO(cuStreamGetCaptureInfo_v2(branch, &status, &branch_id, nullptr, nullptr, nullptr));
  CHECK(id != 0 && id == branch_id && count == 1 && nodes[0] != nullptr);
  CUgraph graph;
  DO(cuStreamEndCapture(stream, &graph));
  CHECK(graph == captured_graph && capture_status(branch) == CU_STREAM_CAPTURE_STATUS_NONE);

  CUgraphExec executable = instantiate(graph);
  for (int replay = 1; replay <= 3; ++replay) {
    one.is_open = other.is_open = false;
    DO(cuGraphLaunch(executable, stream));
    CHECK(soon([&] { return one.started == replay && other.started == replay; }));
    CHECK(words[0] == 1);
    one.is_open = true;
    EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(stream));
    other.is_open = true;
    DO(cuStreamSynchronize(stream));
    CHECK(words[0] == 2);
  }
  CHECK(one.destroyed == 0);
  DO(cuGraphExecDestroy(executable));
  DO(cuGraphDestroy(graph));
  CHECK(soon([&] { return one.destroyed == 1 && other.destroyed == 1; }));
}

TEST("launches of one executable graph are one after the other, and it may be destroyed meanwhile") {
  start();
  CUstream stream = new_stream(), other = new_stream();
  Gate gate;
  DO(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  DO(gate.put_into(stream));
  CUgraph graph;
  DO(cuStreamEndCapture(stream, &graph));
  CUgraphExec executable = instantiate(graph);
  DO(cuGraphLaunch(executable, stream));
  DO(cuGraphLaunch(executable, other));
  DO(cuGraphExecDestroy(executable));
  DO(cuGraphDestroy(graph));
  CHECK(soon([&] { return gate.started == 1; }));
  rest_ms(20);
  CHECK(gate.started == 1);
  gate.is_open = true;
  DO(cuStreamSynchronize(other));
  CHECK(gate.started == 2 && gate.launched == 2);
  CHECK(soon([&] { return gate.destroyed == 1; }));
}

TEST("an executable graph is updated with the same graph captured again") {
  start();
  CUstream stream = new_stream();
  Words words(1);
  auto capture = [&](uint32_t value, int times) {
    CUgraph graph;
    DO(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    for (int i = 0; i < times; ++i) words.set(value, stream);
    DO(cuStreamEndCapture(stream, &graph));
    return graph;
  };
  CUgraphExec executable = instantiate(capture(1, 1));
  CUgraphExecUpdateResultInfo info;
  DO(cuGraphExecUpdate_v2(executable, capture(2, 1), &info));
  DO(cuGraphLaunch(executable, stream));
  DO(cuStreamSynchronize(stream));
  CHECK(words[0] == 2);
  EXPECT(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, cuGraphExecUpdate_v2(executable, capture(3, 2), &info));
  CHECK(info.result == CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED);
}

CUgraphNode last_node(CUstream stream) {
  CUstreamCaptureStatus status;
  const CUgraphNode *nodes = nullptr;
  size_t count = 0;
  DO(cuStreamGetCaptureInfo_v2(stream, &status, nullptr, nullptr, &nodes, &count));
  CHECK(status == CU_STREAM_CAPTURE_STATUS_ACTIVE && count == 1);
  return nodes[0];
}

// The one that the stream's capture makes.
CUgraph graph_of(CUstream stream) {
  CUstreamCaptureStatus status;
  CUgraph graph = nullptr;
  DO(cuStreamGetCaptureInfo_v2(stream, &status, nullptr, &graph, nullptr, nullptr));
  return graph;
}

CUgraphNode record_behind(CUgraphNode node, CUgraph graph, CUevent event) {
  CUgraphNode record = nullptr;
  DO(cuGraphAddEventRecordNode(&record, graph, &node, 1, event));
  return record;
}

TEST("a graph waits for an event that another graph recorded before, on another stream") {
  start();
  CUstream stream = new_stream(), other = new_stream();
  CUevent event = new_event();
  Gate gate;
  Words words(1);
  words.set(0, stream);
  DO(cuStreamSynchronize(stream));
  CUgraph graph;
  DO(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
  DO(gate.put_into(stream));
  record_behind(last_node(stream), graph_of(stream), event);
  DO(cuStreamEndCapture(stream, &graph));
  CUgraphExec recording = instantiate(graph);
  auto capture_waiting = [&](uint32_t value) {
    DO(cuStreamBeginCapture_v2(other, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    DO(cuStreamWaitEvent(other, event, CU_EVENT_WAIT_EXTERNAL));
    CHECK(last_node(other) != nullptr);
    words.set(value, other);
    DO(cuStreamEndCapture(other, &graph));
    return graph;
  };
  CUgraphExec waiting = instantiate(capture_waiting(1));
  // Nothing was recorded yet; what is recorded later is not waited for.
  DO(cuGraphLaunch(waiting, other));
  DO(cuGraphLaunch(recording, stream));
  DO(cuStreamSynchronize(other));
  CHECK(words[0] == 1);
  for (uint32_t round = 2; round < 5; ++round) {
    // The same work captured again is as good.
    CUgraphExecUpdateResultInfo info;
    DO(cuGraphExecUpdate_v2(waiting, capture_waiting(round), &info));
    DO(cuGraphLaunch(waiting, other));
    rest_ms(10);
    CHECK(words[0] == round - 1);
    EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(other));
    gate.is_open = true;
    DO(cuStreamSynchronize(other));
    CHECK(words[0] == round);
    DO(cuStreamSynchronize(stream));
    gate.is_open = false;
    DO(cuGraphLaunch(recording, stream));
  }
  gate.is_open = true;
  DO(cuStreamSynchronize(stream));
  EXPECT(CUDA_SUCCESS, cuEventQuery(event));
}

TEST("what a node that records an event comes behind can be changed") {
  start();
  CUstream stream = new_stream(), branch = new_stream(), waiting = new_stream();
  CUevent event = new_event(), fork = new_event(), join = new_event();
  Gate one, other;
  CUgraph graph;
  DO(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
  DO(cuEventRecord(fork, stream));
  DO(cuStreamWaitEvent(branch, fork, 0));
  DO(one.put_into(stream));
  DO(other.put_into(branch));
  CUgraph captured = graph_of(stream);
  CUgraphNode first = last_node(stream), second = last_node(branch), record = record_behind(first, captured, event);
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuGraphAddDependencies(captured, &first, &record, 1));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuGraphRemoveDependencies(captured, &second, &record, 1));
  CUgraphNode unknown = CUgraphNode(&graph);
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuGraphAddDependencies(captured, &unknown, &record, 1));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuGraphAddDependencies(captured, &second, &unknown, 1));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuGraphAddEventRecordNode(&unknown, captured, &unknown, 1, event));
  DO(cuGraphRemoveDependencies(captured, &first, &record, 1));
  DO(cuGraphAddDependencies(captured, &second, &record, 1));
  DO(cuEventRecord(join, branch));
  DO(cuStreamWaitEvent(stream, join, 0));
  // A node that records is no part of what must be joined.
  DO(cuStreamEndCapture(stream, &graph));
  CHECK(graph == captured);

  DO(cuGraphLaunch(instantiate(graph), stream));
  DO(cuStreamWaitEvent(waiting, event, 0));
  CHECK(soon([&] { return one.started == 1 && other.started == 1; }));
  EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(waiting));
  other.is_open = true;
  DO(cuStreamSynchronize(waiting));
  EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(stream));
  one.is_open = true;
  DO(cuStreamSynchronize(stream));
}

TEST("an executable graph is not updated with one that records elsewhere") {
  start();
  CUstream stream = new_stream();
  CUevent event = new_event();
  Words words(1);
  auto capture = [&](int recorded_behind) {
    CUgraph graph;
    DO(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    for (int i = 0; i < 2; ++i) {
      words.set(uint32_t(i), stream);
      if (i == recorded_behind) record_behind(last_node(stream), graph_of(stream), event);
    }
    DO(cuStreamEndCapture(stream, &graph));
    return graph;
  };
  CUgraphExec executable = instantiate(capture(1));
  CUgraphExecUpdateResultInfo info;
  for (int elsewhere : {0, 2}) {
    EXPECT(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, cuGraphExecUpdate_v2(executable, capture(elsewhere), &info));
    CHECK(info.result == CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED);
  }
  DO(cuGraphExecUpdate_v2(executable, capture(1), &info));
}

TEST("a captured stream is put behind any node of its capture") {
  start();
  CUstream stream = new_stream(), branch = new_stream();
  CUevent fork = new_event(), join = new_event();
  Gate gate;
  Words words(1);
  words.set(0, stream);
  DO(cuStreamSynchronize(stream));
  DO(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
  DO(cuEventRecord(fork, stream));
  DO(cuStreamWaitEvent(branch, fork, 0));
  DO(gate.put_into(stream));
  CUgraphNode node = last_node(stream), unknown = CUgraphNode(&gate);
  constexpr unsigned ADD = CU_STREAM_ADD_CAPTURE_DEPENDENCIES;
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuStreamUpdateCaptureDependencies(branch, &unknown, 1, ADD));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuStreamUpdateCaptureDependencies(branch, nullptr, 1, ADD));
  EXPECT(CUDA_ERROR_ILLEGAL_STATE, cuStreamUpdateCaptureDependencies(new_stream(), &node, 1, ADD));
  DO(cuStreamUpdateCaptureDependencies(branch, &node, 1, ADD));
  words.set(1, branch);
  DO(cuEventRecord(join, branch));
  DO(cuStreamWaitEvent(stream, join, 0));
  CUgraph graph;
  DO(cuStreamEndCapture(stream, &graph));
  DO(cuGraphLaunch(instantiate(graph), stream));
  CHECK(soon([&] { return gate.started == 1; }));
  rest_ms(10);
  CHECK(words[0] == 0);
  gate.is_open = true;
  DO(cuStreamSynchronize(stream));
  CHECK(words[0] == 1);
}

TEST("a capture that is not joined, or is ended elsewhere, fails") {
  start();
  CUstream stream = new_stream(), branch = new_stream();
  CUevent event = new_event();
  Words words(1);
  CUgraph graph = nullptr;
  DO(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  words.set(1, stream);
  DO(cuEventRecord(event, stream));
  DO(cuStreamWaitEvent(branch, event, 0));
  words.set(1, branch);
  EXPECT(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, cuStreamEndCapture(stream, &graph));
  CHECK(!graph && capture_status(branch) == CU_STREAM_CAPTURE_STATUS_NONE);

  DO(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  DO(cuEventRecord(event, stream));
  DO(cuStreamWaitEvent(branch, event, 0));
  EXPECT(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, cuStreamEndCapture(branch, &graph));
  EXPECT(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &graph));

  DO(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  std::thread([&] { EXPECT(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, cuStreamEndCapture(stream, &graph)); }).join();
  DO(cuStreamEndCapture(stream, &graph));
  DO(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  std::thread([&] { DO(cuStreamEndCapture(stream, &graph)); }).join();
}

TEST("events do not cross the border of a capture") {
  start();
  CUstream stream = new_stream(), other = new_stream();
  CUevent inside = new_event(), outside = new_event();
  CUgraph graph;
  DO(cuEventRecord(outside, other));
  DO(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  DO(cuEventRecord(inside, stream));
  CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
  DO(cuThreadExchangeStreamCaptureMode(&mode));
  CHECK(mode == CU_STREAM_CAPTURE_MODE_GLOBAL);
  EXPECT(CUDA_ERROR_CAPTURED_EVENT, cuEventQuery(inside));
  EXPECT(CUDA_ERROR_CAPTURED_EVENT, cuEventSynchronize(inside));
  DO(cuEventQuery(outside));
  EXPECT(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, cuStreamWaitEvent(stream, outside, 0));
  EXPECT(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &graph));
  EXPECT(CUDA_ERROR_CAPTURED_EVENT, cuStreamWaitEvent(other, inside, 0));
  DO(cuEventRecord(inside, other));
  DO(cuStreamWaitEvent(stream, inside, 0));

  DO(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  DO(cuStreamBeginCapture_v2(other, CU_STREAM_CAPTURE_MODE_RELAXED));
  DO(cuEventRecord(inside, stream));
  EXPECT(CUDA_ERROR_STREAM_CAPTURE_MERGE, cuStreamWaitEvent(other, inside, 0));
  EXPECT(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &graph));
  EXPECT(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(other, &graph));
}

TEST("the legacy default stream has no part in captures") {
  start();
  CUstream blocking = new_stream(CU_STREAM_DEFAULT), free = new_stream();
  Words words(1);
  CUgraph graph;
  CUstreamCaptureStatus status;
  EXPECT(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuStreamBeginCapture_v2(nullptr, CU_STREAM_CAPTURE_MODE_RELAXED));
  DO(cuStreamBeginCapture_v2(free, CU_STREAM_CAPTURE_MODE_RELAXED));
  DO(cuStreamIsCapturing(nullptr, &status));
  words.set(1, nullptr);
  DO(cuStreamEndCapture(free, &graph));
  DO(cuStreamBeginCapture_v2(blocking, CU_STREAM_CAPTURE_MODE_RELAXED));
  EXPECT(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, cuStreamIsCapturing(nullptr, &status));
  CHECK(capture_status(blocking) == CU_STREAM_CAPTURE_STATUS_ACTIVE);
  EXPECT(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, cuMemsetD32Async(words.address, 2, 1, nullptr));
  CHECK(capture_status(blocking) == CU_STREAM_CAPTURE_STATUS_INVALIDATED);
  EXPECT(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuMemsetD32Async(words.address, 2, 1, blocking));
  EXPECT(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(blocking, &graph));
}

TEST("unsafe calls end captures as the modes of both threads say") {
  CUcontext context = start();
  CUstream stream = new_stream(), other = new_stream();
  CUgraph graph;
  auto allocate = [] {
    CUdeviceptr address;
    return int(cuMemAlloc_v2(&address, 4));
  };
  auto elsewhere = [&](CUstreamCaptureMode mode) {
    int result = -1;
    std::thread([&] {
      DO(cuCtxSetCurrent(context));
      DO(cuThreadExchangeStreamCaptureMode(&mode));
      result = allocate();
    }).join();
    return result;
  };
  constexpr auto GLOBAL = CU_STREAM_CAPTURE_MODE_GLOBAL, LOCAL = CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
                 RELAXED = CU_STREAM_CAPTURE_MODE_RELAXED;

  DO(cuStreamBeginCapture_v2(stream, GLOBAL));
  EXPECT(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, allocate());
  EXPECT(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &graph));

  DO(cuStreamBeginCapture_v2(stream, GLOBAL));
  DO(elsewhere(LOCAL));
  DO(elsewhere(RELAXED));
  CHECK(capture_status(stream) == CU_STREAM_CAPTURE_STATUS_ACTIVE);
  EXPECT(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, elsewhere(GLOBAL));
  EXPECT(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &graph));

  DO(cuStreamBeginCapture_v2(stream, LOCAL));
  DO(elsewhere(GLOBAL));
  EXPECT(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuStreamSynchronize(other));
  EXPECT(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &graph));

  DO(cuStreamBeginCapture_v2(stream, RELAXED));
  DO(allocate());
  DO(cuStreamSynchronize(other));
  DO(cuStreamEndCapture(stream, &graph));

  CUstreamCaptureMode mode = RELAXED;
  DO(cuThreadExchangeStreamCaptureMode(&mode));
  DO(cuStreamBeginCapture_v2(stream, GLOBAL));
  DO(allocate());
  EXPECT(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuStreamSynchronize(stream));
  EXPECT(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &graph));
}

TEST("a user object lives as long as a graph or an executable graph refers to it, or runs") {
  start();
  static std::atomic<int> destroyed{0};
  CUstream stream = new_stream();
  Gate gate;
  CUuserObject object;
  DO(cuUserObjectCreate(&object, nullptr, [](void *) { destroyed += 1; }, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
  CUgraph graph, same;
  CUstreamCaptureStatus status;
  DO(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  DO(gate.put_into(stream));
  DO(cuStreamGetCaptureInfo_v2(stream, &status, nullptr, &graph, nullptr, nullptr));
  DO(cuGraphRetainUserObject(graph, object, 1, CU_GRAPH_USER_OBJECT_MOVE));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuGraphDestroy(graph));
  DO(cuStreamEndCapture(stream, &same));
  CHECK(same == graph);
  CUgraphExec executable = instantiate(graph);
  DO(cuGraphDestroy(graph));
  DO(cuGraphLaunch(executable, stream));
  DO(cuGraphExecDestroy(executable));
  rest_ms(20);
  CHECK(destroyed == 0);
  gate.is_open = true;
  CHECK(soon([] { return destroyed == 1; }));

  DO(cuUserObjectCreate(&object, nullptr, [](void *) { destroyed += 1; }, 2, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
  DO(cuUserObjectRetain(object, 1));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuUserObjectRelease(object, 4));
  DO(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  DO(cuStreamEndCapture(stream, &graph));
  DO(cuGraphRetainUserObject(graph, object, 2, 0));
  DO(cuGraphReleaseUserObject(graph, object, 1));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuGraphReleaseUserObject(graph, object, 2));
  DO(cuUserObjectRelease(object, 3));
  rest_ms(10);
  CHECK(destroyed == 1);
  DO(cuGraphDestroy(graph));
  CHECK(soon([] { return destroyed == 2; }));
}

TEST("a capture that fails gives back what it held, also while an event remembers it") {
  start();
  CUstream stream = new_stream(), branch = new_stream();
  CUevent event = new_event();
  Gate gate;
  CUgraph graph;
  DO(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  DO(cuEventRecord(event, stream));
  DO(cuStreamWaitEvent(branch, event, 0));
  DO(gate.put_into(branch));
  DO(cuEventRecord(event, branch));
  EXPECT(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, cuStreamEndCapture(stream, &graph));
  CHECK(soon([&] { return gate.destroyed == 1; }));
  CHECK(gate.started == 0);
}

// Contexts, devices, errors.

TEST("nothing works before cuInit, and errors have names all the same") {
  int count;
  const char *text = nullptr;
  EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuDeviceGetCount(&count));
  DO(cuGetErrorName(CUDA_ERROR_OUT_OF_MEMORY, &text));
  CHECK(!strcmp(text, "CUDA_ERROR_OUT_OF_MEMORY"));
  DO(cuGetErrorString(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, &text));
  CHECK(text && *text);
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuGetErrorString(CUresult(12345), &text));
  CHECK(!text);
}

TEST("a child of fork has no CUDA") {
  start();
  Gate gate;
  DO(gate.put_into(new_stream()));
  const pid_t child = fork();
  if (child == 0) {
    int count;
    EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuDeviceGetCount(&count));
    EXPECT(CUDA_ERROR_NOT_INITIALIZED, cuInit(0));
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  gate.is_open = true;
}

TEST("contexts are a stack for each thread") {
  CUcontext first, second, current;
  DO(cuInit(0));
  DO(cuCtxGetCurrent(&current));
  CHECK(!current);
  CUstream stream;
  EXPECT(CUDA_ERROR_INVALID_CONTEXT, cuStreamCreate(&stream, 0));
  EXPECT(CUDA_ERROR_INVALID_CONTEXT, cuCtxPopCurrent_v2(&current));
  EXPECT(CUDA_ERROR_INVALID_DEVICE, cuDevicePrimaryCtxRetain(&first, 4));
  EXPECT(CUDA_ERROR_INVALID_CONTEXT, cuDevicePrimaryCtxRelease_v2(0));
  DO(cuDevicePrimaryCtxRetain(&first, 0));
  DO(cuDevicePrimaryCtxRetain(&second, 1));
  DO(cuCtxPushCurrent_v2(first));
  DO(cuCtxPushCurrent_v2(second));
  CUdevice device;
  DO(cuCtxGetDevice(&device));
  CHECK(device == 1);
  DO(cuCtxEnablePeerAccess(first, 0));
  EXPECT(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, cuCtxEnablePeerAccess(first, 0));
  EXPECT(CUDA_ERROR_INVALID_DEVICE, cuCtxEnablePeerAccess(second, 0));
  DO(cuCtxPopCurrent_v2(&current));
  CHECK(current == second);
  DO(cuCtxSetCurrent(nullptr));
  DO(cuCtxGetCurrent(&current));
  CHECK(!current);
  EXPECT(CUDA_ERROR_INVALID_CONTEXT, cuCtxSetCurrent(CUcontext(12345)));
}

TEST("with the last release of a context everything made in it goes, after its work") {
  CUcontext context = start(), again;
  DO(cuDevicePrimaryCtxRetain(&again, 0));
  CHECK(context == again);
  CUstream stream = new_stream();
  CUevent event = new_event();
  size_t free_before, free_after, total;
  DO(cuMemGetInfo_v2(&free_before, &total));
  Words words(1000);
  Gate gate;
  DO(gate.put_into(stream));
  DO(cuDevicePrimaryCtxRelease_v2(0));
  EXPECT(CUDA_ERROR_NOT_READY, cuStreamQuery(stream));
  std::thread opens([&] {
    rest_ms(20);
    gate.is_open = true;
  });
  DO(cuDevicePrimaryCtxRelease_v2(0));
  CHECK(gate.is_open);
  opens.join();
  EXPECT(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuStreamCreate(&stream, 0));
  start();
  EXPECT(CUDA_ERROR_INVALID_HANDLE, cuStreamQuery(stream));
  EXPECT(CUDA_ERROR_INVALID_HANDLE, cuEventQuery(event));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemFree_v2(words.address));
  DO(cuMemGetInfo_v2(&free_after, &total));
  CHECK(free_before == free_after);
}

TEST("garbage is refused, not followed") {
  start();
  char junk[64] = {};
  EXPECT(CUDA_ERROR_INVALID_HANDLE, cuStreamSynchronize(CUstream(junk)));
  EXPECT(CUDA_ERROR_INVALID_HANDLE, cuEventDestroy_v2(CUevent(junk)));
  EXPECT(CUDA_ERROR_INVALID_HANDLE, cuStreamQuery(CUstream(new_event())));
  EXPECT(CUDA_ERROR_INVALID_HANDLE, cuGraphLaunch(CUgraphExec(junk), nullptr));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemRelease(CUmemGenericAllocationHandle(junk)));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemRelease(0));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemFree_v2(CUdeviceptr(junk)));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemFreeHost(junk));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemsetD8Async(CUdeviceptr(junk), 0, 64, nullptr));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuStreamCreate(nullptr, 0));
  int value;
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuDeviceGetAttribute(&value, CUdevice_attribute(9999), 0));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuStreamWaitEvent(nullptr, new_event(), CU_EVENT_WAIT_EXTERNAL));
}

TEST_IN("devices are as many and as large as asked for",
        {"DIME_SIM_DEVICES=3", "DIME_SIM_SMS=8", "DIME_SIM_MEMORY_MIB=16"}) {
  start();
  int count, sms, major;
  DO(cuDeviceGetCount(&count));
  DO(cuDeviceGetAttribute(&sms, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 2));
  DO(cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 2));
  CHECK(count == 3 && sms == 8 && major == 9);
  CUdevice device;
  EXPECT(CUDA_ERROR_INVALID_DEVICE, cuDeviceGet(&device, 3));
  char name[64];
  DO(cuDeviceGetName(name, sizeof name, 1));
  CHECK(!strcmp(name, "NVIDIA H200"));
  CUuuid one, other;
  DO(cuDeviceGetUuid_v2(&one, 0));
  DO(cuDeviceGetUuid_v2(&other, 1));
  CHECK(memcmp(&one, &other, sizeof one) != 0);

  CUdeviceptr first, second;
  size_t free, total;
  DO(cuDeviceTotalMem_v2(&total, 0));
  CHECK(total == 16 << 20);
  DO(cuMemAlloc_v2(&first, 12 << 20));
  EXPECT(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&second, 5 << 20));
  EXPECT(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&second, SIZE_MAX));
  DO(cuMemGetInfo_v2(&free, &total));
  CHECK(free == 4 << 20);
  DO(cuMemFree_v2(first));
  DO(cuMemAlloc_v2(&second, 16 << 20));
}

TEST_IN("without a device cuInit fails", {"DIME_SIM_DEVICES=0"}) { EXPECT(CUDA_ERROR_NO_DEVICE, cuInit(0)); }

TEST_IN("CUDA_VISIBLE_DEVICES picks and renumbers", {"CUDA_VISIBLE_DEVICES=3,1,9,0"}) {
  DO(cuInit(0));
  int count, bus;
  DO(cuDeviceGetCount(&count));
  CHECK(count == 2);
  DO(cuDeviceGetAttribute(&bus, CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, 0));
  CHECK(bus == 4);
  DO(cuDeviceGetAttribute(&bus, CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, 1));
  CHECK(bus == 2);
}

TEST_IN("no device is visible when CUDA_VISIBLE_DEVICES is empty", {"CUDA_VISIBLE_DEVICES="}) {
  EXPECT(CUDA_ERROR_NO_DEVICE, cuInit(0));
}

// Writes a topology file and names it; it goes with the process that reads it.
void use_topology(const char *text) {
  const int descriptor = memfd_create("topology", 0);
  CHECK(descriptor >= 0 && write(descriptor, text, strlen(text)) == ssize_t(strlen(text)));
  setenv("DIME_SIM_TOPOLOGY", ("/proc/self/fd/" + std::to_string(descriptor)).c_str(), 1);
}

TEST("a topology file says what is uneven") {
  use_topology(
      "# two kinds\n"
      "device 1 name NVIDIA A100-SXM4-80GB  # the old one\n"
      "device 1 arch 80\n"
      "device 1 sms 108\n"
      "device 2 mig\n"
      "device 3 no_vmm\n"
      "device 0 uuid 81c665f0c1ea96ebc4ce56121c1310c6\n"
      "\n"
      "pair 0 1 pcie\n"
      "pair 0 2 none\n");
  start();
  char name[64];
  DO(cuDeviceGetName(name, sizeof name, 1));
  CHECK(!strcmp(name, "NVIDIA A100-SXM4-80GB"));
  DO(cuDeviceGetName(name, sizeof name, 2));
  CHECK(strstr(name, " MIG "));
  CUuuid uuid;
  DO(cuDeviceGetUuid_v2(&uuid, 0));
  CHECK(static_cast<unsigned char>(uuid.bytes[0]) == 0x81 && static_cast<unsigned char>(uuid.bytes[15]) == 0xc6);
  int value, access, atomics;
  DO(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 1));
  CHECK(value == 8);
  DO(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 1));
  CHECK(value == 108);
  DO(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 3));
  CHECK(value == 0);
  const int wanted[4][2] = {{0, 0}, {1, 0}, {0, 0}, {1, 1}};
  for (int peer = 1; peer < 4; ++peer) {
    DO(cuDeviceCanAccessPeer(&access, 0, peer));
    DO(cuDeviceGetP2PAttribute(&atomics, CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED, peer, 0));
    CHECK(access == wanted[peer][0] && atomics == wanted[peer][1]);
  }
  CUcontext far;
  DO(cuDevicePrimaryCtxRetain(&far, 2));
  EXPECT(CUDA_ERROR_PEER_ACCESS_UNSUPPORTED, cuCtxEnablePeerAccess(far, 0));
}

TEST_ENDING(SIGABRT, "a topology file that does not parse ends the process", {}) {
  use_topology("device 1 colour green\n");
  cuInit(0);
}
TEST_ENDING(SIGABRT, "a variable that does not parse ends the process", {"DIME_SIM_DEVICES=four"}) { cuInit(0); }

// Memory.

TEST_ENDING(SIGSEGV, "memory that was freed cannot be touched", {}) {
  start();
  Words words(1);
  words.set(1, nullptr);
  DO(cuStreamSynchronize(nullptr));
  CHECK(words[0] == 1);
  DO(cuMemFree_v2(words.address));
  *reinterpret_cast<volatile uint32_t *>(words.address) = 2;
}

TEST("cuMemFree waits for the device") {
  start();
  CUstream stream = new_stream();
  Words words(1), other(1);
  Gate gate;
  DO(gate.put_into(stream));
  words.set(1, stream);
  std::thread opens([&] {
    rest_ms(20);
    gate.is_open = true;
  });
  DO(cuMemFree_v2(other.address));
  CHECK(words[0] == 1);
  opens.join();
}

TEST("two thousand allocations are no problem") {
  start();
  std::vector<CUdeviceptr> addresses(2000);
  for (CUdeviceptr &address : addresses) DO(cuMemAlloc_v2(&address, 4));
  for (CUdeviceptr address : addresses) DO(cuMemFree_v2(address));
}

TEST("host memory has a device address") {
  start();
  uint32_t *host;
  CUdeviceptr address;
  DO(cuMemHostAlloc(reinterpret_cast<void **>(&host), 4, CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP));
  DO(cuMemHostGetDevicePointer_v2(&address, host, 0));
  DO(cuMemsetD32Async(address, 77, 1, nullptr));
  DO(cuStreamSynchronize(nullptr));
  CHECK(*host == 77);
  DO(cuMemFreeHost(host));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemHostGetDevicePointer_v2(&address, host, 0));
}

TEST("memory of the application is registered until the context ends") {
  start();
  constexpr size_t PAGE = 4096;
  void *page = mmap(nullptr, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  auto *host = static_cast<volatile uint32_t *>(page);
  CUdeviceptr address;
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemHostGetDevicePointer_v2(&address, page, 0));
  DO(cuMemHostRegister_v2(page, PAGE, CU_MEMHOSTREGISTER_DEVICEMAP));
  EXPECT(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, cuMemHostRegister_v2(page, 2 * PAGE, 0));
  DO(cuMemHostGetDevicePointer_v2(&address, page, 0));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemFreeHost(page));
  DO(cuMemsetD32Async(address, 78, 1, nullptr));
  DO(cuStreamSynchronize(nullptr));
  CHECK(host[0] == 78);
  CUcontext context;
  DO(cuDevicePrimaryCtxRelease_v2(0));
  host[0] = 79;
  DO(cuDevicePrimaryCtxRetain(&context, 0));
  DO(cuCtxSetCurrent(context));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemHostGetDevicePointer_v2(&address, page, 0));
  DO(cuMemHostRegister_v2(page, PAGE, CU_MEMHOSTREGISTER_DEVICEMAP));
}

constexpr size_t MIB = 1 << 20;
constexpr auto POSIX_FD = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;

CUmemAllocationProp properties_of(int device) {
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.requestedHandleTypes = POSIX_FD;
  properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  properties.location.id = device;
  return properties;
}

CUmemGenericAllocationHandle new_allocation(size_t bytes, int device = 0) {
  CUmemGenericAllocationHandle handle;
  const CUmemAllocationProp properties = properties_of(device);
  DO(cuMemCreate(&handle, bytes, &properties, 0));
  return handle;
}

void open_to(CUdeviceptr address, size_t bytes, int device) {
  CUmemAccessDesc access{};
  access.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  access.location.id = device;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  DO(cuMemSetAccess(address, bytes, &access, 1));
}

CUdeviceptr map_somewhere(CUmemGenericAllocationHandle handle, size_t bytes) {
  CUdeviceptr address;
  DO(cuMemAddressReserve(&address, bytes, 0, 0, 0));
  DO(cuMemMap(address, bytes, 0, handle, 0));
  open_to(address, bytes, 0);
  return address;
}

TEST("cuMemUnmap waits for the device") {
  start();
  CUmemGenericAllocationHandle handle = new_allocation(2 * MIB);
  const CUdeviceptr address = map_somewhere(handle, 2 * MIB);
  CUstream stream = new_stream();
  Words words(1);
  Gate gate;
  DO(gate.put_into(stream));
  words.set(1, stream);
  std::thread opens([&] {
    rest_ms(20);
    gate.is_open = true;
  });
  DO(cuMemUnmap(address, 2 * MIB));
  CHECK(words[0] == 1);
  opens.join();
  DO(cuMemAddressFree(address, 2 * MIB));
  DO(cuMemRelease(handle));
}

TEST("cuMemFreeHost waits for every device of the process") {
  start();
  void *host;
  DO(cuMemHostAlloc(&host, 4, CU_MEMHOSTALLOC_PORTABLE));
  CUcontext other, first;
  DO(cuCtxGetCurrent(&first));
  DO(cuDevicePrimaryCtxRetain(&other, 1));
  DO(cuCtxSetCurrent(other));
  CUstream stream = new_stream();
  Gate gate;
  DO(gate.put_into(stream));
  DO(cuCtxSetCurrent(first));
  std::atomic<bool> opens_now{false};
  std::thread opens([&] {
    rest_ms(20);
    opens_now = true;
    gate.is_open = true;
  });
  DO(cuMemFreeHost(host));
  CHECK(opens_now);
  opens.join();
}

TEST("an allocation lives until its last handle and mapping are gone") {
  start();
  size_t before, during, after, total, granularity;
  CUmemAllocationProp properties = properties_of(0);
  DO(cuMemGetAllocationGranularity(&granularity, &properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
  CHECK(granularity == 2 * MIB);
  DO(cuMemGetInfo_v2(&before, &total));
  CUmemGenericAllocationHandle handle = new_allocation(4 * MIB);
  const CUdeviceptr one = map_somewhere(handle, 4 * MIB), other = map_somewhere(handle, 4 * MIB);
  DO(cuMemRelease(handle));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemRelease(handle));
  DO(cuMemsetD8Async(one, 0x5a, 4 * MIB, nullptr));
  DO(cuStreamSynchronize(nullptr));
  CHECK(reinterpret_cast<unsigned char *>(other)[4 * MIB - 1] == 0x5a);
  DO(cuMemUnmap(one, 4 * MIB));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemsetD8Async(one, 1, 1, nullptr));
  DO(cuMemGetInfo_v2(&during, &total));
  CHECK(during == before - 4 * MIB);
  DO(cuMemUnmap(other, 4 * MIB));
  DO(cuMemAddressFree(one, 4 * MIB));
  DO(cuMemAddressFree(other, 4 * MIB));
  DO(cuMemGetInfo_v2(&after, &total));
  CHECK(after == before);
}

TEST("virtual memory management refuses what does not fit") {
  start();
  CUdeviceptr address, other;
  CUmemGenericAllocationHandle handle, none;
  CUmemAllocationProp properties = properties_of(0);
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemCreate(&none, MIB, &properties, 0));
  EXPECT(CUDA_ERROR_OUT_OF_MEMORY, cuMemCreate(&none, size_t(1) << 40, &properties, 0));
  properties.location.id = 17;
  EXPECT(CUDA_ERROR_INVALID_DEVICE, cuMemCreate(&none, 2 * MIB, &properties, 0));
  properties = properties_of(0);
  properties.requestedHandleTypes = CU_MEM_HANDLE_TYPE_FABRIC;
  EXPECT(CUDA_ERROR_NOT_SUPPORTED, cuMemCreate(&none, 2 * MIB, &properties, 0));
  properties.requestedHandleTypes = CU_MEM_HANDLE_TYPE_NONE;
  DO(cuMemCreate(&none, 2 * MIB, &properties, 0));
  int descriptor;
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemExportToShareableHandle(&descriptor, none, POSIX_FD, 0));

  EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemAddressReserve(&address, MIB, 0, 0, 0));
  DO(cuMemAddressReserve(&address, 8 * MIB, 16 * MIB, 0, 0));
  CHECK(address % (16 * MIB) == 0);
  handle = new_allocation(4 * MIB);
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemMap(address, 8 * MIB, 0, handle, 0));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemMap(address + 6 * MIB, 4 * MIB, 0, handle, 0));
  DO(cuMemMap(address + 2 * MIB, 4 * MIB, 0, handle, 0));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemMap(address + 4 * MIB, 4 * MIB, 0, handle, 0));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemMap(address, 4 * MIB, 0, handle, 0));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemsetD8Async(address + 2 * MIB, 1, 1, nullptr));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemUnmap(address + 2 * MIB, 2 * MIB));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemAddressFree(address, 8 * MIB));
  DO(cuMemUnmap(address + 2 * MIB, 4 * MIB));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemAddressFree(address, 4 * MIB));
  DO(cuMemAddressFree(address, 8 * MIB));
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemMap(address, 4 * MIB, 0, handle, 0));
  EXPECT(CUDA_ERROR_INVALID_VALUE,
         cuMemImportFromShareableHandle(&none, reinterpret_cast<void *>(STDERR_FILENO), POSIX_FD));
  DO(cuMemAddressReserve(&other, 2 * MIB, 0, 0, 0));
}

TEST_ENDING(SIGSEGV, "mapped memory cannot be touched before access is set", {}) {
  start();
  CUdeviceptr address;
  DO(cuMemAddressReserve(&address, 2 * MIB, 0, 0, 0));
  DO(cuMemMap(address, 2 * MIB, 0, new_allocation(2 * MIB), 0));
  *reinterpret_cast<volatile char *>(address) = 1;
}

// Two processes with a socket between them: `parent` and `child` run one of them each.
void in_two_processes(void (*parent)(int), void (*child)(int)) {
  int sockets[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    close(sockets[0]);
    child(sockets[1]);
    _exit(0);
  }
  close(sockets[1]);
  parent(sockets[0]);
  int status;
  waitpid(pid, &status, 0);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

template <class T>
void tell(int socket, const T &value) {
  CHECK(write(socket, &value, sizeof value) == ssize_t(sizeof value));
}

template <class T>
T hear(int socket) {
  T value;
  CHECK(read(socket, &value, sizeof value) == ssize_t(sizeof value));
  return value;
}

void send_descriptor(int socket, int descriptor) {
  char byte = 0;
  iovec data = {&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  CHECK(sendmsg(socket, &message, 0) == 1);
}

int receive_descriptor(int socket) {
  char byte;
  iovec data = {&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  CHECK(recvmsg(socket, &message, 0) == 1);
  int descriptor;
  memcpy(&descriptor, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof descriptor);
  return descriptor;
}

TEST("an allocation travels to another process as a descriptor, and outlives its maker there") {
  in_two_processes(
      [](int socket) {
        start(0);
        CUmemGenericAllocationHandle handle = new_allocation(2 * MIB);
        const CUdeviceptr address = map_somewhere(handle, 2 * MIB);
        int descriptor;
        DO(cuMemExportToShareableHandle(&descriptor, handle, POSIX_FD, 0));
        send_descriptor(socket, descriptor);
        close(descriptor);
        CHECK(hear<int>(socket) == 1);
        CHECK(*reinterpret_cast<uint32_t *>(address) == 0xabcd);
        DO(cuMemUnmap(address, 2 * MIB));
        DO(cuMemAddressFree(address, 2 * MIB));
        DO(cuMemRelease(handle));
        tell(socket, 2);
      },
      [](int socket) {
        start(1);
        const int descriptor = receive_descriptor(socket);
        CUmemGenericAllocationHandle handle;
        DO(cuMemImportFromShareableHandle(&handle, reinterpret_cast<void *>(intptr_t(descriptor)),
                                          POSIX_FD));
        close(descriptor);
        CUdeviceptr address;
        DO(cuMemAddressReserve(&address, 2 * MIB, 0, 0, 0));
        DO(cuMemMap(address, 2 * MIB, 0, handle, 0));
        DO(cuMemRelease(handle));
        open_to(address, 2 * MIB, 1);
        DO(cuMemsetD32Async(address, 0xabcd, 1, nullptr));
        DO(cuStreamSynchronize(nullptr));
        tell(socket, 1);
        CHECK(hear<int>(socket) == 2);
        CHECK(*reinterpret_cast<uint32_t *>(address) == 0xabcd);
      });
}

TEST("plain memory travels to another process as an IPC handle") {
  in_two_processes(
      [](int socket) {
        start(0);
        Words words(1000);
        CUipcMemHandle handle;
        CUdeviceptr own;
        EXPECT(CUDA_ERROR_INVALID_VALUE, cuIpcGetMemHandle(&handle, words.address + 4));
        DO(cuIpcGetMemHandle(&handle, words.address));
        EXPECT(CUDA_ERROR_INVALID_CONTEXT, cuIpcOpenMemHandle_v2(&own, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
        tell(socket, handle);
        CHECK(hear<int>(socket) == 1);
        CHECK(words[999] == 42);
        tell(socket, 1);
        CHECK(hear<int>(socket) == 2);
        DO(cuMemFree_v2(words.address));
        tell(socket, 3);
        CHECK(hear<int>(socket) == 4);
      },
      [](int socket) {
        start(1);
        const auto handle = hear<CUipcMemHandle>(socket);
        CUdeviceptr address, again;
        EXPECT(CUDA_ERROR_INVALID_VALUE, cuIpcOpenMemHandle_v2(&address, handle, 0));
        DO(cuIpcOpenMemHandle_v2(&address, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
        DO(cuIpcOpenMemHandle_v2(&again, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
        CHECK(address == again);
        EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemFree_v2(address));
        DO(cuMemsetD32Async(address, 42, 1000, nullptr));
        DO(cuStreamSynchronize(nullptr));
        tell(socket, 1);
        CHECK(hear<int>(socket) == 1);
        DO(cuIpcCloseMemHandle(address));
        DO(cuMemsetD32Async(address, 43, 1000, nullptr));
        DO(cuStreamSynchronize(nullptr));
        DO(cuIpcCloseMemHandle(address));
        EXPECT(CUDA_ERROR_INVALID_VALUE, cuIpcCloseMemHandle(address));
        tell(socket, 2);
        CHECK(hear<int>(socket) == 3);
        EXPECT(CUDA_ERROR_INVALID_HANDLE, cuIpcOpenMemHandle_v2(&address, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
        CUipcMemHandle junk{};
        EXPECT(CUDA_ERROR_INVALID_HANDLE, cuIpcOpenMemHandle_v2(&address, junk, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
        tell(socket, 4);
      });
}

TEST("a process ends that frees what another one has open") {
  in_two_processes(
      [](int socket) {
        start(0);
        Words words(1000);
        CUipcMemHandle handle;
        DO(cuIpcGetMemHandle(&handle, words.address));
        tell(socket, handle);
        CHECK(hear<int>(socket) == 1);
        // A fork would not have the driver, so this process itself sees its end coming.
        static int to_peer;
        to_peer = socket;
        signal(SIGABRT, [](int) {
          tell(to_peer, 2);
          _exit(0);
        });
        cuMemFree_v2(words.address);
        CHECK(!"the free went well");
      },
      [](int socket) {
        start(1);
        const auto handle = hear<CUipcMemHandle>(socket);
        CUdeviceptr address;
        DO(cuIpcOpenMemHandle_v2(&address, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
        tell(socket, 1);
        CHECK(hear<int>(socket) == 2);
      });
}

// Waits until a process has ended, and so closed everything: its socket may be closed before what it has open of others is.
void await_end_of(pid_t process) {
  const std::string path = "/proc/" + std::to_string(process) + "/stat";
  for (;;) {
    std::ifstream file(path);
    std::string line;
    if (!std::getline(file, line)) return;
    const size_t state = line.rfind(") ") + 2;
    if (line[state] == 'Z' || line[state] == 'X') return;
    usleep(1000);
  }
}

TEST("what a process had open that has gone may be freed") {
  in_two_processes(
      [](int socket) {
        start(0);
        Words words(1000);
        CUipcMemHandle handle;
        DO(cuIpcGetMemHandle(&handle, words.address));
        tell(socket, handle);
        await_end_of(hear<pid_t>(socket));
        DO(cuMemFree_v2(words.address));
      },
      [](int socket) {
        start(1);
        const auto handle = hear<CUipcMemHandle>(socket);
        CUdeviceptr address;
        DO(cuIpcOpenMemHandle_v2(&address, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
        tell(socket, getpid());
        fflush(nullptr);
        _exit(0);
      });
}

// Modules and launches.

const uint32_t FATBIN[4] = {0xBA55ED50};

CUfunction new_function(const char *name) {
  CUmodule module;
  CUfunction function;
  DO(cuModuleLoadData(&module, FATBIN));
  DO(cuModuleGetFunction(&function, module, name));
  DO(cuFuncLoad(function));
  return function;
}

CUlaunchConfig config_of(unsigned blocks, unsigned threads, CUstream stream) {
  CUlaunchConfig config{};
  config.gridDimX = blocks;
  config.gridDimY = config.gridDimZ = 1;
  config.blockDimX = threads;
  config.blockDimY = config.blockDimZ = 1;
  config.hStream = stream;
  return config;
}

TEST("kernels are found and run") {
  start();
  CUmodule module;
  const char text[8] = "no code";
  EXPECT(CUDA_ERROR_INVALID_IMAGE, cuModuleLoadData(&module, text));
  DO(cuModuleLoadData(&module, FATBIN));
  CUfunction none;
  EXPECT(CUDA_ERROR_NOT_FOUND, cuModuleGetFunction(&none, module, "no_such_kernel"));
  CUfunction write = new_function("dime_probe_write"), check = new_function("dime_probe_check");
  int version;
  DO(cuFuncGetAttribute(&version, CU_FUNC_ATTRIBUTE_BINARY_VERSION, write));
  CHECK(version == 90);

  CUstream stream = new_stream();
  uint64_t scratch, salt = 123, report;
  uint32_t from = 1, to = 0;
  DO(cuMemAlloc_v2(reinterpret_cast<CUdeviceptr *>(&scratch), 256 * MIB));
  Words wrong(8);  // a struct dime_probe_report
  report = wrong.address;
  void *parameters[] = {&scratch, &from, &to, &salt, &report};
  CUlaunchConfig config = config_of(16, 256, stream);
  wrong.set(0, stream);
  DO(cuLaunchKernelEx(&config, write, parameters, nullptr));
  DO(cuLaunchKernelEx(&config, check, parameters, nullptr));
  DO(cuStreamSynchronize(stream));
  CHECK(wrong[0] == 0);
  salt = 124;
  DO(cuLaunchKernelEx(&config, check, parameters, nullptr));
  salt = 123;
  DO(cuStreamSynchronize(stream));
  CHECK(wrong[0] != 0);
}

// How many words of the probe's pattern are wrong that device 0 stores into memory of device 1.
uint32_t wrong_words_from_0_to_1() {
  start();
  CUcontext own, peer;
  DO(cuCtxGetCurrent(&own));
  DO(cuDevicePrimaryCtxRetain(&peer, 1));
  CUfunction write = new_function("dime_probe_write");
  CUstream stream = new_stream();
  DO(cuCtxSetCurrent(peer));
  CUfunction check = new_function("dime_probe_check");
  CUstream peer_stream = new_stream();
  uint64_t scratch, salt = 123, report;
  uint32_t from = 0, to = 1;
  DO(cuMemAlloc_v2(reinterpret_cast<CUdeviceptr *>(&scratch), 64 * MIB));
  Words wrong(8);
  report = wrong.address;
  wrong.set(0, peer_stream);
  void *parameters[] = {&scratch, &from, &to, &salt, &report};
  CUlaunchConfig config = config_of(16, 256, stream);
  DO(cuCtxSetCurrent(own));
  DO(cuLaunchKernelEx(&config, write, parameters, nullptr));
  DO(cuStreamSynchronize(stream));
  DO(cuCtxSetCurrent(peer));
  config = config_of(16, 256, peer_stream);
  DO(cuLaunchKernelEx(&config, check, parameters, nullptr));
  DO(cuStreamSynchronize(peer_stream));
  return wrong[0];
}

// 224 packets of each kind, two words each, and a word in each of 16384 strides.
TEST("what crosses a link arrives as it was stored") { CHECK(wrong_words_from_0_to_1() == 0); }
TEST_IN("a bad link damages all stores in its direction", {"DIME_SIM_BAD_LINK=0:1"}) {
  CHECK(wrong_words_from_0_to_1() == 16384 + 3 * 2 * 224);
}
TEST_IN("a bad link may damage packets alone", {"DIME_SIM_BAD_LINK=0:1:packets"}) {
  CHECK(wrong_words_from_0_to_1() == 2 * 2 * 224);
}
TEST_IN("a bad link damages nothing else", {"DIME_SIM_BAD_LINK=1:0,0:2"}) { CHECK(wrong_words_from_0_to_1() == 0); }
TEST_ENDING(SIGABRT, "a link that is none ends the process", {"DIME_SIM_BAD_LINK=0-1"}) { wrong_words_from_0_to_1(); }

TEST("a launch that no GPU could do is refused") {
  CUcontext other;
  start();
  CUfunction function = new_function("dime_probe_write");
  uint64_t word = 0;
  void *parameters[] = {&word, &word, &word, &word};
  CUlaunchConfig config = config_of(0, 32, nullptr);
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuLaunchKernelEx(&config, function, parameters, nullptr));
  config = config_of(1, 0, nullptr);
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuLaunchKernelEx(&config, function, parameters, nullptr));
  config = config_of(1, 2048, nullptr);
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuLaunchKernelEx(&config, function, parameters, nullptr));
  config = config_of(1, 1024, nullptr);
  EXPECT(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, cuLaunchKernelEx(&config, function, parameters, nullptr));
  config = config_of(1, 32, nullptr);
  config.gridDimY = 2;
  EXPECT(CUDA_ERROR_NOT_SUPPORTED, cuLaunchKernelEx(&config, function, parameters, nullptr));
  config = config_of(1, 32, nullptr);
  EXPECT(CUDA_ERROR_INVALID_VALUE, cuLaunchKernelEx(&config, function, nullptr, nullptr));
  CUlaunchAttribute cooperative{};
  cooperative.id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
  config.attrs = &cooperative;
  config.numAttrs = 1;
  EXPECT(CUDA_ERROR_NOT_SUPPORTED, cuLaunchKernelEx(&config, function, parameters, nullptr));
  DO(cuDevicePrimaryCtxRetain(&other, 1));
  DO(cuCtxSetCurrent(other));
  config = config_of(1, 32, new_stream());
  EXPECT(CUDA_ERROR_INVALID_HANDLE, cuLaunchKernelEx(&config, function, parameters, nullptr));
}

// What the driver says of a function: architecture of its source, and of what runs.
void must_be_for(CUfunction function, int source, int machine) {
  int ptx_version = 0, binary_version = 0;
  DO(cuFuncGetAttribute(&ptx_version, CU_FUNC_ATTRIBUTE_PTX_VERSION, function));
  DO(cuFuncGetAttribute(&binary_version, CU_FUNC_ATTRIBUTE_BINARY_VERSION, function));
  CHECK(ptx_version == source && binary_version == machine);
}

TEST("PTX has the kernels that it names, for its own architecture") {
  start();
  CUmodule module;
  CUfunction function;
  DO(cuModuleLoadData(&module, ".version 8.0\n.target sm_75\n.visible .entry test_copy(...)"));
  DO(cuModuleGetFunction(&function, module, "test_copy"));
  must_be_for(function, 75, 90);
  EXPECT(CUDA_ERROR_NOT_FOUND, cuModuleGetFunction(&function, module, "test_write_late"));
  EXPECT(CUDA_ERROR_NO_BINARY_FOR_GPU, cuModuleLoadData(&module, ".version 8.0\n.target sm_100\n"));
  EXPECT(CUDA_ERROR_INVALID_PTX, cuModuleLoadData(&module, ".version 8.0\n"));
}

TEST("a fatbin has code for every device") {
  start();
  must_be_for(new_function("dime_probe_write"), 90, 90);
}

TEST_IN("a fatbin has code up to the architecture that is asked for", {"DIME_SIM_KERNELS_ARCH=89"}) {
  start();
  must_be_for(new_function("dime_probe_write"), 89, 90);
}

// The header of an ELF file of machine code.
std::array<unsigned char, 64> machine_code(unsigned char abi, uint32_t flags) {
  std::array<unsigned char, 64> elf{0x7f, 'E', 'L', 'F', 2, 1, 1, 51, abi};
  memcpy(&elf[48], &flags, sizeof flags);
  return elf;
}

TEST("machine code is for the devices of its major version") {
  start();
  CUmodule module;
  CUfunction function;
  const auto of_90 = machine_code(7, 0x005a055a), of_80 = machine_code(7, 0x00500550), of_100 = machine_code(8, 0x0a006402);
  DO(cuModuleLoadData(&module, of_90.data()));
  DO(cuModuleGetFunction(&function, module, "dime_probe_write"));
  must_be_for(function, 90, 90);
  EXPECT(CUDA_ERROR_NO_BINARY_FOR_GPU, cuModuleLoadData(&module, of_80.data()));
  EXPECT(CUDA_ERROR_NO_BINARY_FOR_GPU, cuModuleLoadData(&module, of_100.data()));
}

TEST_IN("a driver before CUDA 13 refuses machine code of its compilers", {"DIME_SIM_DRIVER_VERSION=12080"}) {
  start();
  int version = 0;
  DO(cuDriverGetVersion(&version));
  CHECK(version == 12080);
  CUmodule module;
  const auto old_abi = machine_code(7, 0x005a055a), new_abi = machine_code(8, 0x06005a02);
  DO(cuModuleLoadData(&module, old_abi.data()));
  EXPECT(CUDA_ERROR_INVALID_IMAGE, cuModuleLoadData(&module, new_abi.data()));
  DO(cuModuleLoadData(&module, "// made by a compiler\n.version 8.7\n.target sm_75\n"));
  EXPECT(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, cuModuleLoadData(&module, ".version 8.8\n.target sm_75\n"));
}

TEST("edges behind the event of a programmatic launch carry data, which a query must not lose") {
  start();
  CUstream stream = new_stream(), branch = new_stream();
  CUevent event = new_event();
  CUmodule module;
  CUfunction copy;
  Words words(2);
  DO(cuModuleLoadData(&module, ".version 8.0\n.target sm_90\n.visible .entry test_copy(...)"));
  DO(cuModuleGetFunction(&copy, module, "test_copy"));
  uint64_t from = words.address, to = words.address + 4;
  uint32_t count = 1;
  void *parameters[] = {&from, &to, &count};
  CUlaunchConfig config = config_of(1, 1, stream);
  CUlaunchAttribute attribute{};
  attribute.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT;
  attribute.value.programmaticEvent.event = event;
  config.attrs = &attribute;
  config.numAttrs = 1;
  words.set(7, stream);
  DO(cuMemsetD32Async(to, 0, 1, stream));
  DO(cuStreamSynchronize(stream));
  DO(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
  DO(cuLaunchKernelEx(&config, copy, parameters, nullptr));
  DO(cuStreamWaitEvent(branch, event, 0));
  CUstreamCaptureStatus status;
  const CUgraphNode *nodes = nullptr;
  const CUgraphEdgeData *edges = nullptr;
  size_t node_count = 0;
  EXPECT(CUDA_ERROR_LOSSY_QUERY, cuStreamGetCaptureInfo_v2(branch, &status, nullptr, nullptr, &nodes, &node_count));
  EXPECT(CUDA_ERROR_LOSSY_QUERY,
         cuStreamGetCaptureInfo_v3(branch, &status, nullptr, nullptr, &nodes, nullptr, &node_count));
  DO(cuStreamGetCaptureInfo_v2(branch, &status, nullptr, nullptr, nullptr, nullptr));
  DO(cuStreamGetCaptureInfo_v3(branch, &status, nullptr, nullptr, &nodes, &edges, &node_count));
  CHECK(node_count == 1 && nodes[0] == last_node(stream));
  CHECK(edges[0].from_port == CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC && edges[0].type == CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC);
  // Not behind the node in this way any more.
  CUgraphNode node = nodes[0];
  DO(cuStreamUpdateCaptureDependencies(branch, &node, 1, CU_STREAM_SET_CAPTURE_DEPENDENCIES));
  CHECK(last_node(branch) == node);
  CUgraphNodeType type;
  DO(cuGraphNodeGetType(node, &type));
  CHECK(type == CU_GRAPH_NODE_TYPE_KERNEL);
  CUgraph graph;
  DO(cuStreamEndCapture(stream, &graph));
  size_t all = 0;
  DO(cuGraphGetNodes(graph, nullptr, &all));
  CHECK(all == 1);
  CUgraphExec executable = instantiate(graph);
  DO(cuGraphLaunch(executable, stream));
  DO(cuStreamSynchronize(stream));
  CHECK(words[1] == 7);
}

// Faults.

TEST_IN("a call fails when asked to", {"DIME_SIM_FAULT=fail@cuStreamCreate:2,fail@cuMemAlloc:1:304"}) {
  start();
  CUstream stream;
  CUdeviceptr address;
  DO(cuStreamCreate(&stream, 0));
  EXPECT(CUDA_ERROR_OUT_OF_MEMORY, cuStreamCreate(&stream, 0));
  DO(cuStreamCreate(&stream, 0));
  EXPECT(304, cuMemAlloc_v2(&address, 4));
  DO(cuMemAlloc_v2(&address, 4));
}

TEST_IN("calls are delayed when asked to", {"DIME_SIM_FAULT=delay@cuStreamQuery:*:30"}) {
  start();
  CUstream stream = new_stream();
  const auto begin = std::chrono::steady_clock::now();
  DO(cuStreamQuery(stream));
  DO(cuStreamQuery(stream));
  CHECK(std::chrono::steady_clock::now() - begin >= std::chrono::milliseconds(60));
}

TEST_ENDING(SIGKILL, "a process kills itself when asked to", {"DIME_SIM_FAULT=kill@cuStreamQuery:3"}) {
  start();
  for (int i = 0; i < 3; ++i) DO(cuStreamQuery(nullptr));
}
TEST_ENDING(SIGABRT, "a fault at an unknown place ends the process", {"DIME_SIM_FAULT=fail@cuMemCraete:1"}) {
  cuInit(0);
}
TEST_ENDING(SIGABRT, "a fault without a passing ends the process", {"DIME_SIM_FAULT=fail@cuMemCreate"}) { cuInit(0); }
TEST_ENDING(SIGABRT, "an unknown fault ends the process", {"DIME_SIM_FAULT=break@cuMemCreate:1"}) { cuInit(0); }

// Whether it went as it should.
bool run(const Test &test) {
  const pid_t pid = fork();
  if (pid == 0) {
    for (const char *variable : test.variables) putenv(const_cast<char *>(variable));
    // What it says when it is meant to end badly is not for the reader.
    if (test.ends_with == SIGABRT && !freopen("/dev/null", "w", stderr)) _exit(1);
    signal(SIGALRM, SIG_DFL);
    alarm(LIMIT_S);
    test.run();
    _exit(0);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) fprintf(stderr, "    it hangs\n");
  else if (WIFSIGNALED(status) && WTERMSIG(status) != test.ends_with)
    fprintf(stderr, "    it ended with signal %d\n", WTERMSIG(status));
  if (test.ends_with != 0) return WIFSIGNALED(status) && WTERMSIG(status) == test.ends_with;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

int main(int count, char **arguments) {
  int done = 0, wrong = 0;
  for (const Test &test : tests()) {
    if (count > 1 && !strstr(test.name, arguments[1])) continue;
    const bool is_right = run(test);
    printf("%s  %s\n", is_right ? "ok   " : "WRONG", test.name);
    fflush(stdout);
    done += 1;
    wrong += !is_right;
  }
  printf("%d of %d tests of the simulated driver are right\n", done - wrong, done);
  return wrong != 0 || done == 0;
}
