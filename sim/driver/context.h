// The primary context of a device, and which context is current on a thread.
#ifndef DIME_SIM_DRIVER_CONTEXT_H
#define DIME_SIM_DRIVER_CONTEXT_H

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "cuda_api.h"
#include "lock.h"

namespace sim {

class Device;
class Stream;

class Context {
 public:
  explicit Context(Device &device) : device(device) {}

  Device &device;
  CUcontext handle = nullptr;
  std::set<const Context *> peers;  // whose memory it enabled access to

  bool is_active() const { return retained_ != 0; }
  // Another one each time that it becomes active.
  uint64_t id() const { return id_; }
  void retain();
  // With the last release everything made in the context goes, after its work.
  void release(Lock &lock);

  const std::shared_ptr<Stream> &legacy_stream() const { return legacy_stream_; }
  // CU_STREAM_PER_THREAD of the calling thread.
  std::shared_ptr<Stream> stream_of_thread();
  std::shared_ptr<Stream> create_stream(bool is_blocking);
  // The streams that synchronise with the legacy default stream.
  std::vector<std::shared_ptr<Stream>> blocking_streams();

 private:
  void reset(Lock &lock);

  uint32_t retained_ = 0;
  uint64_t id_ = 0;
  std::shared_ptr<Stream> legacy_stream_;
  std::map<std::thread::id, std::shared_ptr<Stream>> streams_of_threads_;
  std::vector<std::weak_ptr<Stream>> blocking_streams_;
};

// The stack of current contexts of the calling thread; the last is current.
std::vector<Context *> &context_stack();
// Fails when there is none, or it is not active.
Context &current_context();

}  // namespace sim

#endif
