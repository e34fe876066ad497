#include "event.h"

#include "device.h"
#include "failure.h"
#include "stream.h"

namespace sim {

void Event::record(Lock &lock, Stream &stream) {
  stream.require_open();
  lock.drop_later(std::move(capture_));
  recorded_.reset();
  captured_after_ = {};
  if (stream.capture()) {
    capture_ = stream.capture();
    captured_after_ = stream.frontier();
  } else {
    recorded_ = std::make_shared<Task>(stream.context.device.engine, nullptr);
    stream.append(lock, recorded_);
  }
}

void Event::record_kernel(Lock &lock, Stream &stream) {
  record(lock, stream);
  if (!capture_) return;
  for (CUgraphEdgeData &edge : captured_after_.edges) {
    edge.from_port = CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC;
    edge.type = CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC;
  }
}

void Event::make_wait(Lock &lock, Stream &stream) {
  if (capture_) {
    bring_into_capture(stream);
    return;
  }
  if (!recorded_) return;
  if (stream.capture()) {
    stream.capture()->invalidate();
    fail(CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
  }
  stream.require_open();
  auto wait = std::make_shared<Task>(stream.context.device.engine, nullptr);
  wait->run_after(recorded_);
  stream.append(lock, wait);
}

void Event::bring_into_capture(Stream &stream) {
  require(!capture_->is_over(), CUDA_ERROR_CAPTURED_EVENT);
  if (stream.kind == Stream::Kind::Legacy) {
    capture_->invalidate();
    fail(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
  }
  if (stream.capture() && stream.capture() != capture_) {
    capture_->invalidate();
    stream.capture()->invalidate();
    fail(CUDA_ERROR_STREAM_CAPTURE_MERGE);
  }
  require(capture_->is_valid(), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  stream.join_capture(capture_, captured_after_);
}

const std::shared_ptr<Task> &Event::recorded() const {
  require(!capture_, CUDA_ERROR_CAPTURED_EVENT);
  return recorded_;
}

}  // namespace sim
