#include "stream.h"

#include <algorithm>

#include "device.h"
#include "driver.h"
#include "failure.h"

namespace sim {

namespace {

uint64_t next_id() {
  static uint64_t last = 0;  // under the lock
  return ++last;
}

}  // namespace

Stream::Stream(Context &context, Kind kind) : context(context), kind(kind), id(next_id()) {}

void Stream::require_open() {
  if (capture_) {
    require(capture_->is_valid(), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    return;
  }
  if (kind != Kind::Legacy) return;
  bool any = false;
  for (const auto &stream : context.blocking_streams()) {
    if (!stream->capture_) continue;
    stream->capture_->invalidate();
    any = true;
  }
  require(!any, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
}

void Stream::enqueue(Lock &lock, std::shared_ptr<const Operation> operation, Order order) {
  require_open();
  if (capture_) {
    // What the driver makes of other work behind such an edge is not known.
    if (frontier_.is_annotated() && !operation->is_kernel())
      fail_not_simulated("a captured stream", "work behind a programmatic event", id, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    if (!frontier_is_own_) order = Order::Full;
    const Capture::Node node = capture_->graph().add(context.device.engine, std::move(operation), frontier_, order);
    set_own(node);
  } else {
    append(lock, std::make_shared<Task>(context.device.engine, std::move(operation)), order);
  }
}

void Stream::enqueue_wait(std::shared_ptr<Event> event) {
  require(capture_ != nullptr);
  require_open();
  if (frontier_.is_annotated())
    fail_not_simulated("cuStreamWaitEvent", "a wait behind a programmatic event", id, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  set_own(capture_->graph().add_wait(context.device.engine, std::move(event), frontier_.nodes));
}

void Stream::set_own(Capture::Node node) {
  frontier_ = {};
  frontier_.add(node);
  frontier_is_own_ = true;
}

void Stream::append(Lock &lock, const std::shared_ptr<Task> &task, Order order) {
  const bool is_behind_kernel = last_ && last_->is_kernel();
  task->run_after(last_, is_behind_kernel ? order : Order::Full);
  if (kind == Kind::Legacy) {
    for (const auto &stream : context.blocking_streams()) task->run_after(stream->last_);
    for (const auto &earlier : of_retired_) task->run_after(earlier);
    of_retired_.clear();
  } else if (kind == Kind::Blocking) {
    task->run_after(context.legacy_stream()->last_);
  }
  last_ = task;
  task->submit(lock);
}

std::vector<std::shared_ptr<Task>> Stream::unfinished() {
  std::vector<std::shared_ptr<Task>> tasks{last_};
  if (kind == Kind::Legacy) {
    for (const auto &stream : context.blocking_streams()) tasks.push_back(stream->last_);
    tasks.insert(tasks.end(), of_retired_.begin(), of_retired_.end());
  }
  std::erase_if(tasks, [](const auto &task) { return !task || task->is_over(); });
  return tasks;
}

void Stream::retire() {
  if (kind != Kind::Blocking || !last_ || last_->is_over()) return;
  auto &kept = context.legacy_stream()->of_retired_;
  std::erase_if(kept, [](const auto &task) { return task->is_over(); });
  kept.push_back(last_);
}

void Stream::join_capture(std::shared_ptr<Capture> capture, const Capture::Frontier &joined) {
  if (!capture_) {
    capture->streams.push_back(weak_from_this());
    capture_ = std::move(capture);
  }
  for (size_t i = 0; i < joined.nodes.size(); ++i) {
    const auto &known = frontier_.nodes;
    if (std::find(known.begin(), known.end(), joined.nodes[i]) != known.end()) continue;
    frontier_.add(joined.nodes[i], joined.edges[i]);
    frontier_is_own_ = false;
  }
}

void Stream::set_frontier(Capture::Frontier frontier) {
  frontier_ = std::move(frontier);
  frontier_is_own_ = false;
}

void Stream::leave_capture() {
  capture_.reset();
  set_frontier({});
}

void Stream::abandon_capture(Lock &lock) {
  if (!capture_) return;
  capture_->invalidate();
  if (capture_->origin == this) lock.drop_later(capture_->abandon());
}

std::shared_ptr<Stream> find_stream(CUstream handle) {
  if (!handle || handle == CU_STREAM_LEGACY) return current_context().legacy_stream();
  if (handle == CU_STREAM_PER_THREAD) return current_context().stream_of_thread();
  auto stream = Driver::instance().streams.find(handle);
  require(stream != nullptr, CUDA_ERROR_INVALID_HANDLE);
  return stream;
}

}  // namespace sim
