// An event: the task it was last recorded as, or what of a capture was before it.
#ifndef DIME_SIM_DRIVER_EVENT_H
#define DIME_SIM_DRIVER_EVENT_H

#include <memory>
#include <vector>

#include "capture.h"
#include "context.h"
#include "task.h"

namespace sim {

class Event {
 public:
  Event(Context &context, bool has_timing) : context(context), has_timing(has_timing) {}

  Context &context;
  const bool has_timing;

  void record(Lock &lock, Stream &stream);
  // As the kernel that was put into the stream last, when it lets its dependents start. Outside of captures: when it is over, which is
  // as good.
  void record_kernel(Lock &lock, Stream &stream);
  // What is put into the stream from now on runs behind the latest record.
  void make_wait(Lock &lock, Stream &stream);

  // A graph that was launched records it.
  void record_as(std::shared_ptr<Task> task) {
    capture_.reset();
    captured_after_ = {};
    recorded_ = std::move(task);
  }
  // As a graph sees it: what a capture recorded is nothing yet.
  const std::shared_ptr<Task> &latest() const { return recorded_; }

  // Null: never recorded. Fails for an event of a capture.
  const std::shared_ptr<Task> &recorded() const;

 private:
  void bring_into_capture(Stream &stream);

  std::shared_ptr<Task> recorded_;
  std::shared_ptr<Capture> capture_;
  Capture::Frontier captured_after_;
};

}  // namespace sim

#endif
