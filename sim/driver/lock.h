// The lock of everything the driver keeps: tables, streams, tasks, captures. One is enough, since nothing slow happens
// under it: kernels, copies and the application's functions run without.
#ifndef DIME_SIM_DRIVER_LOCK_H
#define DIME_SIM_DRIVER_LOCK_H

#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

namespace sim {

class Task;

class Lock {
 public:
  Lock();

  // Keeps an object until the lock is given up: its destructor may call functions of the application.
  void drop_later(std::shared_ptr<const void> object) { dropped_.push_back(std::move(object)); }

  // Gives the lock up until the condition, which some task makes true, holds.
  template <class Condition>
  void wait_until(Condition condition) {
    task_is_over().wait(held_, condition);
  }
  // Gives the lock up until all of these are over.
  void wait_for(const std::vector<std::shared_ptr<Task>> &tasks);
  // Somebody who waits for tasks should look again. The lock is held.
  static void announce_task() { task_is_over().notify_all(); }

  std::unique_lock<std::mutex> &held() { return held_; }

 private:
  static std::condition_variable &task_is_over();

  std::vector<std::shared_ptr<const void>> dropped_;
  std::unique_lock<std::mutex> held_;  // the last member: given up before the objects are dropped
};

}  // namespace sim

#endif
