#include "capture.h"

#include "driver.h"
#include "failure.h"
#include "stream.h"

namespace sim {

namespace {

uint64_t next_id() {
  static uint64_t last = 0;  // under the lock
  return ++last;
}

}  // namespace

Capture::Capture(const Stream &origin, CUstreamCaptureMode mode)
    : id(next_id()),
      mode(mode),
      origin(&origin),
      graph_(std::make_shared<Graph>()),
      graph_handle_(Driver::instance().graphs.add(graph_)) {}

void Capture::begin(Stream &stream, CUstreamCaptureMode mode) {
  require(stream.kind != Stream::Kind::Legacy, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  require(!stream.capture(), CUDA_ERROR_ILLEGAL_STATE);
  auto capture = std::make_shared<Capture>(stream, mode);
  Driver::instance().captures.push_back(capture);
  stream.join_capture(capture, {});
}

CUgraph Capture::end_in(Stream &stream, Lock &lock) {
  const std::shared_ptr<Capture> capture = stream.capture();
  require(capture != nullptr, CUDA_ERROR_ILLEGAL_STATE);
  require(capture->mode == CU_STREAM_CAPTURE_MODE_RELAXED || capture->thread == std::this_thread::get_id(),
          CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
  if (capture->origin != &stream) {
    capture->invalidate();
    fail(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
  }
  const bool is_joined = capture->graph().all_lead_to(stream.frontier().nodes);
  if (capture->is_valid_ && is_joined) {
    capture->end()->complete();
    return capture->graph_handle_;
  }
  lock.drop_later(capture->abandon());
  fail(capture->is_valid_ ? CUDA_ERROR_STREAM_CAPTURE_UNJOINED : CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
}

std::shared_ptr<Graph> Capture::end() {
  const auto self = shared_from_this();  // the streams' references go
  is_over_ = true;
  for (const auto &weak : streams)
    if (auto stream = weak.lock()) stream->leave_capture();
  std::erase(Driver::instance().captures, self);
  return std::move(graph_);
}

std::shared_ptr<Graph> Capture::abandon() {
  const auto self = shared_from_this();
  Driver::instance().graphs.remove(graph_handle_);
  return end();
}

CUstreamCaptureMode &capture_mode_of_thread() {
  thread_local CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  return mode;
}

void require_no_capture() {
  const CUstreamCaptureMode mode = capture_mode_of_thread();
  if (mode == CU_STREAM_CAPTURE_MODE_RELAXED) return;
  bool any = false;
  for (const auto &capture : Driver::instance().captures) {
    const bool is_own = capture->thread == std::this_thread::get_id();
    const bool both_global = mode == CU_STREAM_CAPTURE_MODE_GLOBAL && capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
    const bool forbids = is_own ? capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED : both_global;
    if (!forbids) continue;
    capture->invalidate();
    any = true;
  }
  require(!any, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
}

}  // namespace sim
