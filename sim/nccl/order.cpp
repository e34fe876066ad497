#include "order.h"

#include "failure.h"

// cuda.h declares only the newest form, which older drivers do not have.
extern "C" CUresult CUDAAPI cuStreamGetCaptureInfo_v2(CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id,
                                                      CUgraph *graph, const CUgraphNode **dependencies, size_t *count);

namespace sim {

uint64_t capture_of(CUstream stream) {
  CUstreamCaptureStatus status;
  cuuint64_t id = 0;
  check_driver(cuStreamGetCaptureInfo_v2(stream, &status, &id, nullptr, nullptr, nullptr), "cuStreamGetCaptureInfo");
  if (status == CU_STREAM_CAPTURE_STATUS_INVALIDATED)
    fail(ncclInvalidUsage, "the stream's capture has been invalidated");
  return status == CU_STREAM_CAPTURE_STATUS_ACTIVE ? id : 0;
}

Order::Event::Event() { check_driver(cuEventCreate(&event_, CU_EVENT_DISABLE_TIMING), "cuEventCreate"); }

Order::Event::~Event() { cuEventDestroy(event_); }

void Order::Event::record(CUstream stream) { check_driver(cuEventRecord(event_, stream), "cuEventRecord"); }

void Order::Event::make_wait(CUstream stream) {
  check_driver(cuStreamWaitEvent(stream, event_, 0), "cuStreamWaitEvent");
}

void Order::before(uint64_t capture, const std::vector<CUstream> &streams) {
  Event &event = capture ? captured_ : outside_;
  if (capture ? capture_ == capture : outside_is_recorded_) event.make_wait(streams[0]);
  for (size_t i = 1; i < streams.size(); ++i) {
    event.record(streams[i]);
    event.make_wait(streams[0]);
  }
}

void Order::after(uint64_t capture, const std::vector<CUstream> &streams) {
  Event &event = capture ? captured_ : outside_;
  event.record(streams[0]);
  if (capture) {
    capture_ = capture;
  } else {
    outside_is_recorded_ = true;
  }
  for (size_t i = 1; i < streams.size(); ++i) event.make_wait(streams[i]);
}

}  // namespace sim
