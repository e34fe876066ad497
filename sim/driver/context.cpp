#include "context.h"

#include "device.h"
#include "driver.h"
#include "failure.h"
#include "memory.h"
#include "stream.h"

namespace sim {

void Context::retain() {
  if (retained_++ != 0) return;
  static uint64_t last_id = 0;
  id_ = ++last_id;
  legacy_stream_ = std::make_shared<Stream>(*this, Stream::Kind::Legacy);
}

void Context::release(Lock &lock) {
  require(retained_ != 0, CUDA_ERROR_INVALID_CONTEXT);
  if (--retained_ == 0) reset(lock);
}

void Context::reset(Lock &lock) {
  device.engine.synchronize(lock);
  Driver &driver = Driver::instance();
  auto is_here = [this](const auto &object) { return &object.context == this; };
  for (auto &stream : driver.streams.remove_if(is_here)) stream->abandon_capture(lock);
  for (auto &event : driver.events.remove_if(is_here)) lock.drop_later(std::move(event));
  driver.functions.remove_if(is_here);
  driver.modules.remove_if(is_here);
  driver.memory.free_all_of(*this);
  legacy_stream_.reset();
  streams_of_threads_.clear();
  blocking_streams_.clear();
  peers.clear();
}

std::shared_ptr<Stream> Context::stream_of_thread() {
  auto &stream = streams_of_threads_[std::this_thread::get_id()];
  if (!stream) stream = create_stream(true);
  return stream;
}

std::shared_ptr<Stream> Context::create_stream(bool is_blocking) {
  auto stream = std::make_shared<Stream>(*this, is_blocking ? Stream::Kind::Blocking : Stream::Kind::NonBlocking);
  if (is_blocking) blocking_streams_.push_back(stream);
  return stream;
}

std::vector<std::shared_ptr<Stream>> Context::blocking_streams() {
  std::vector<std::shared_ptr<Stream>> streams;
  std::erase_if(blocking_streams_, [](const auto &stream) { return stream.expired(); });
  for (const auto &stream : blocking_streams_) streams.push_back(stream.lock());
  return streams;
}

std::vector<Context *> &context_stack() {
  thread_local std::vector<Context *> stack;
  return stack;
}

Context &current_context() {
  require(!context_stack().empty(), CUDA_ERROR_INVALID_CONTEXT);
  Context &context = *context_stack().back();
  require(context.is_active(), CUDA_ERROR_CONTEXT_IS_DESTROYED);
  return context;
}

}  // namespace sim
