#include "engine.h"

#include <sched.h>
#include <sim/gpu/processor.h>
#include <sim/gpu/random.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "bad_link.h"
#include "threads.h"
#include "variables.h"

namespace sim {

namespace {

// Devices of one run differ, and a device of a seed is the same in every process.
uint64_t weak_seed(uint32_t host_number) {
  const uint64_t seed = number_variable("DIME_SIM_WEAK", 0, 0, UINT64_MAX);
  return seed == 0 ? 0 : Random(seed ^ (uint64_t(host_number) << 56)).next() | 1;
}

}  // namespace

uint64_t Engine::enlist() {
  unfinished_.insert(++last_number_);
  return last_number_;
}

void Engine::make_ready(std::shared_ptr<Task> task) {
  ready_.push_back(std::move(task));
  if (!has_thread_) {
    has_thread_ = true;
    start_thread(("dime-sim-gpu" + std::to_string(host_number_)).c_str(), [this] { run(); });
  }
  is_woken_ = true;
  woken_.notify_one();
}

void Engine::synchronize(Lock &lock) {
  lock.wait_until([this, last = last_number_] { return unfinished_.empty() || *unfinished_.begin() > last; });
}

void Engine::wake() {
  Lock lock;
  is_woken_ = true;
  woken_.notify_one();
}

void Engine::rest(Lock &lock) {
  constexpr uint32_t YIELDS = 50, SHORTEST_US = 5, LONGEST_US = 200;
  if (rounds_at_rest_ < YIELDS) {
    lock.held().unlock();
    sched_yield();
    lock.held().lock();
  } else {
    const uint32_t doublings = std::min(rounds_at_rest_ - YIELDS, 10u);
    woken_.wait_for(lock.held(), std::chrono::microseconds(std::min(SHORTEST_US << doublings, LONGEST_US)),
                    [this] { return is_woken_; });
  }
  rounds_at_rest_ += 1;
}

bool Engine::finish_what_is_over(Lock &lock, std::vector<Running> &running) {
  bool any = false;
  // One that is finished may be the last that another one waited for.
  for (bool found = true; found;) {
    found = false;
    for (Running &one : running) {
      if (one.execution || !one.task->earlier_are_over()) continue;
      one.task->finish(lock);
      lock.drop_later(std::move(one.task));
      found = any = true;
    }
    std::erase_if(running, [](const Running &one) { return !one.task; });
  }
  return any;
}

void Engine::run() {
  bad_link::run_kernels_of(host_number_);
  Processor::Shape shape;
  shape.sms = sms_;
  Processor processor(shape, weak_seed(host_number_));
  std::vector<Running> running;
  bool moved = false;
  for (;;) {
    std::deque<std::shared_ptr<Task>> starting;
    {
      Lock lock;
      for (const Running &one : running)
        if (!one.execution || one.execution->lets_dependents_start()) one.task->let_dependents_start();
      if (finish_what_is_over(lock, running)) moved = true;
      if (moved || !ready_.empty()) {
        rounds_at_rest_ = 0;
      } else if (running.empty()) {
        woken_.wait(lock.held(), [this] { return !ready_.empty(); });
        rounds_at_rest_ = 0;
      } else {
        rest(lock);
      }
      is_woken_ = false;
      starting.swap(ready_);
      for (auto &task : starting) running.push_back({task, nullptr, task->earlier_are_over()});
      for (Running &one : running) one.earlier_are_over = one.task->earlier_are_over();
    }
    moved = !starting.empty();
    for (size_t i = running.size() - starting.size(); i < running.size(); ++i)
      running[i].execution = running[i].task->operation()->begin(*this, processor, running[i].earlier_are_over);
    starting.clear();
    moved |= processor.step();
    for (Running &one : running)
      if (one.execution && one.execution->poll(one.earlier_are_over)) {
        one.execution.reset();
        moved = true;
      }
  }
}

}  // namespace sim
