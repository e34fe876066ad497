// What makes a device work: one thread that starts the tasks whose turn has come, runs the device's Processor and looks
// after everything that is under way. It starts with the first work, and never keeps the process from ending.
#ifndef DIME_SIM_DRIVER_ENGINE_H
#define DIME_SIM_DRIVER_ENGINE_H

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <vector>

#include "lock.h"
#include "task.h"

namespace sim {

class Engine {
 public:
  Engine(uint32_t host_number, uint32_t sms) : host_number_(host_number), sms_(sms) {}

  // All under the lock. A task's life: enlisted, made ready, started and delisted by the engine.
  uint64_t enlist();
  void delist(uint64_t number) { unfinished_.erase(number); }
  void make_ready(std::shared_ptr<Task> task);
  // Until everything that is enqueued now is over.
  void synchronize(Lock &lock);

  // Wakes the engine; from any thread, without the lock.
  void wake();

 private:
  struct Running {
    std::shared_ptr<Task> task;
    std::unique_ptr<Execution> execution;  // null: over
    bool earlier_are_over;
  };

  void run();
  static bool finish_what_is_over(Lock &lock, std::vector<Running> &running);
  // Rests the longer the more rounds nothing moved.
  void rest(Lock &lock);

  const uint32_t host_number_, sms_;
  bool has_thread_ = false;
  std::deque<std::shared_ptr<Task>> ready_;
  std::set<uint64_t> unfinished_;
  uint64_t last_number_ = 0;
  bool is_woken_ = false;
  uint32_t rounds_at_rest_ = 0;
  std::condition_variable woken_;
};

}  // namespace sim

#endif
