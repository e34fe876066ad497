#include "task.h"

#include "engine.h"

namespace sim {

void Task::run_after(const std::shared_ptr<Task> &earlier, Order order) {
  if (!earlier || earlier->is_over_) return;
  const bool may_start = order == Order::Programmatic && earlier->lets_dependents_start_;
  earlier->later_.push_back({shared_from_this(), may_start, order});
  unfinished_ += 1;
  if (!may_start) blockers_ += 1;
}

void Task::submit(Lock &lock) {
  number_ = engine_.enlist();
  if (operation_) operation_->launched();
  blockers_ -= 1;
  if (blockers_ != 0) return;
  if (operation_) engine_.make_ready(shared_from_this());
  else finish(lock);
}

void Task::start_if_ready(std::vector<std::shared_ptr<Task>> &without_operation) {
  if (blockers_ != 0) return;
  if (operation_) engine_.make_ready(shared_from_this());
  else without_operation.push_back(shared_from_this());
}

void Task::let_dependents_start() {
  if (lets_dependents_start_) return;
  lets_dependents_start_ = true;
  for (Later &later : later_) {
    if (later.order != Order::Programmatic) continue;
    later.may_start = true;
    later.task->blockers_ -= 1;
    // It is a kernel, so it has an operation.
    if (later.task->blockers_ == 0) later.task->engine_.make_ready(later.task);
  }
}

void Task::finish(Lock &lock) {
  // Tasks without an operation can be a long chain: a loop, no recursion.
  std::vector<std::shared_ptr<Task>> finished{shared_from_this()};
  while (!finished.empty()) {
    const std::shared_ptr<Task> task = std::move(finished.back());
    finished.pop_back();
    task->is_over_ = true;
    task->over_at_ = std::chrono::steady_clock::now();
    task->engine_.delist(task->number_);
    lock.drop_later(std::move(task->operation_));
    lock.drop_later(std::move(task->held_));
    for (Later &later : task->later_) {
      later.task->unfinished_ -= 1;
      if (later.may_start) continue;
      later.task->blockers_ -= 1;
      later.task->start_if_ready(finished);
    }
    task->later_.clear();
  }
  Lock::announce_task();
}

}  // namespace sim
