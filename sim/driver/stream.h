// A stream: its last task; while it is captured, the last nodes that were captured of it.
#ifndef DIME_SIM_DRIVER_STREAM_H
#define DIME_SIM_DRIVER_STREAM_H

#include <cstddef>
#include <memory>
#include <vector>

#include "capture.h"
#include "context.h"
#include "operation.h"
#include "task.h"

namespace sim {

class Event;

class Stream : public std::enable_shared_from_this<Stream> {
 public:
  enum class Kind { Legacy, Blocking, NonBlocking };

  Stream(Context &context, Kind kind);

  Context &context;
  const Kind kind;
  const uint64_t id;  // no other stream's of this process, ever

  // Fails, as any work put into the stream now would, when its capture is invalid or it is the legacy default stream
  // while a stream is captured that synchronises with it.
  void require_open();
  // Runs the operation behind what is in the stream, or adds it to the capture. Does not fail once the stream is open.
  void enqueue(Lock &lock, std::shared_ptr<const Operation> operation, Order order = Order::Full);
  // In a capture: a node that waits, in every launch of the graph, for what the event was recorded as last.
  void enqueue_wait(std::shared_ptr<Event> event);
  // The same for a task that is made outside; not while the stream is captured.
  void append(Lock &lock, const std::shared_ptr<Task> &task, Order order = Order::Full);
  // The task that was put into it last; not while it is captured. Null: none.
  const std::shared_ptr<Task> &last() const { return last_; }
  // What a host that waits for the stream waits for.
  std::vector<std::shared_ptr<Task>> unfinished();

  // The handle is gone, its work goes on.
  void retire();

  // Null: not captured.
  const std::shared_ptr<Capture> &capture() const { return capture_; }
  // What is captured of the stream next is behind this.
  const Capture::Frontier &frontier() const { return frontier_; }
  // What is captured of the stream from now on is behind these nodes, too.
  void join_capture(std::shared_ptr<Capture> capture, const Capture::Frontier &nodes);
  // What is captured of the stream from now on is behind these nodes.
  void set_frontier(Capture::Frontier frontier);
  void leave_capture();
  // The stream is destroyed while it is captured.
  void abandon_capture(Lock &lock);

 private:
  void set_own(Capture::Node node);

  std::shared_ptr<Task> last_;
  std::vector<std::shared_ptr<Task>> of_retired_;  // the legacy stream's: work of blocking streams that are destroyed
  std::shared_ptr<Capture> capture_;
  Capture::Frontier frontier_;
  bool frontier_is_own_ = false;  // not another stream's, by an event
};

// Of a handle, the special ones included.
std::shared_ptr<Stream> find_stream(CUstream handle);

}  // namespace sim

#endif
