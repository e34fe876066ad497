#include "lock.h"

#include <algorithm>

#include "task.h"

namespace sim {

namespace {

// Never destroyed: engine threads may still run while the process exits.
std::mutex &driver_mutex() {
  static auto *mutex = new std::mutex;
  return *mutex;
}

}  // namespace

Lock::Lock() : held_(driver_mutex()) {}

void Lock::wait_for(const std::vector<std::shared_ptr<Task>> &tasks) {
  wait_until([&] { return std::all_of(tasks.begin(), tasks.end(), [](const auto &task) { return task->is_over(); }); });
}

std::condition_variable &Lock::task_is_over() {
  static auto *condition = new std::condition_variable;
  return *condition;
}

}  // namespace sim
