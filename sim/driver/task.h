// A piece of work that was enqueued, and what it comes after. Streams, events and graphs are all made of this: a stream
// is its last task, an event is the task it was recorded as, a graph's launch is a task for each node.
//
// A task is over when its operation is and all that it comes after: so what is behind it is behind those, too.
// Everything here is under the lock.
#ifndef DIME_SIM_DRIVER_TASK_H
#define DIME_SIM_DRIVER_TASK_H

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "lock.h"
#include "operation.h"

namespace sim {

class Engine;

// How a task comes after another one.
enum class Order {
  Full,
  // A kernel that may start as soon as the one before it lets it, and waits for its end by itself.
  Programmatic,
};

class Task : public std::enable_shared_from_this<Task> {
 public:
  // Without an operation it is only a place in the order.
  Task(Engine &engine, std::shared_ptr<const Operation> operation)
      : engine_(engine), operation_(std::move(operation)), is_kernel_(operation_ && operation_->is_kernel()) {}

  // Only before it is submitted. Null and tasks that are over change nothing.
  void run_after(const std::shared_ptr<Task> &earlier, Order order = Order::Full);
  // Is kept until this is over.
  void hold(std::shared_ptr<const void> object) { held_ = std::move(object); }
  void submit(Lock &lock);

  bool is_over() const { return is_over_; }
  bool is_kernel() const { return is_kernel_; }
  std::chrono::steady_clock::time_point over_at() const { return over_at_; }

  // The engine's side.
  const std::shared_ptr<const Operation> &operation() const { return operation_; }
  bool earlier_are_over() const { return unfinished_ == 0; }
  void let_dependents_start();
  void finish(Lock &lock);

 private:
  struct Later {
    std::shared_ptr<Task> task;
    bool may_start;  // this edge does not keep it from starting any more
    Order order;
  };

  void start_if_ready(std::vector<std::shared_ptr<Task>> &without_operation);

  Engine &engine_;
  std::shared_ptr<const Operation> operation_;
  const bool is_kernel_;
  std::shared_ptr<const void> held_;
  std::vector<Later> later_;
  uint32_t blockers_ = 1;  // edges that keep it from starting, and one until it is submitted
  uint32_t unfinished_ = 0;
  uint64_t number_ = 0;
  bool lets_dependents_start_ = false;
  bool is_over_ = false;
  std::chrono::steady_clock::time_point over_at_;
};

}  // namespace sim

#endif
