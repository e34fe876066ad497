#include "joint_streams.h"

#include <cstdint>

#include "failure.h"

// cuda.h declares only the newest form, which older drivers do not have.
extern "C" CUresult CUDAAPI cuStreamGetCaptureInfo_v2(CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id,
                                                      CUgraph *graph, const CUgraphNode **dependencies, size_t *count);

namespace sim {

namespace {

// The capture that a stream is in, or 0.
uint64_t capture_of(CUstream stream) {
  CUstreamCaptureStatus status;
  cuuint64_t id = 0;
  check_driver(cuStreamGetCaptureInfo_v2(stream, &status, &id, nullptr, nullptr, nullptr), "cuStreamGetCaptureInfo");
  return status == CU_STREAM_CAPTURE_STATUS_ACTIVE ? id : 0;
}

}  // namespace

void require_same_capture(const std::vector<CUstream> &streams) {
  const uint64_t capture = capture_of(streams[0]);
  for (CUstream stream : streams)
    if (capture_of(stream) != capture)
      fail(ncclInvalidUsage, "the streams of one group are in different captures, or some in none");
}

JointStreams::JointStreams() { check_driver(cuEventCreate(&event_, CU_EVENT_DISABLE_TIMING), "cuEventCreate"); }

JointStreams::~JointStreams() { cuEventDestroy(event_); }

void JointStreams::join(const std::vector<CUstream> &streams) {
  for (size_t i = 1; i < streams.size(); ++i) {
    record(streams[i]);
    make_wait(streams[0]);
  }
}

void JointStreams::fork(const std::vector<CUstream> &streams) {
  if (streams.size() == 1) return;
  record(streams[0]);
  for (size_t i = 1; i < streams.size(); ++i) make_wait(streams[i]);
}

void JointStreams::record(CUstream stream) { check_driver(cuEventRecord(event_, stream), "cuEventRecord"); }

void JointStreams::make_wait(CUstream stream) {
  check_driver(cuStreamWaitEvent(stream, event_, 0), "cuStreamWaitEvent");
}

}  // namespace sim
