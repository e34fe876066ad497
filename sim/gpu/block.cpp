#include "block.h"

#include <sim/driver/fault.h>

#include <algorithm>

namespace sim {

namespace {

void run_kernel(void *argument) {
  Thread &self = *static_cast<Thread *>(argument);
  const Launch &launch = *self.block->launch;
  launch.kernel().run_thread(launch.parameters());
  *self.state = Thread::State::Ended;
}

}  // namespace

constinit thread_local Thread *running_thread = nullptr;

void Block::start(std::shared_ptr<Launch> its_launch, uint32_t its_index, uint32_t its_id, Weakness *its_weakness) {
  launch = std::move(its_launch);
  weakness = its_weakness;
  index = its_index;
  id = its_id;
  thread_count = live_threads = launch->threads();
  at_barrier_ = running_count_ = awaiting_ = 0;
  condition_at_barrier = false;
  lets_dependents_start_ = false;
  while (threads_.size() < live_threads) threads_.push_back(std::make_unique<Thread>());
  for (uint32_t i = 0; i < live_threads; ++i) {
    Thread &thread = *threads_[i];
    thread.block = this;
    thread.index = i;
    thread.state = &states_[i];
    states_[i] = Thread::State::Running;
    if (weakness) {
      set_running(i);
      thread.sight.forget();
      thread.sight.seen = launch->ready_at;
    }
    thread.fiber.start(run_kernel, &thread);
  }
}

bool Block::run_one(Random &random) {
  if (awaiting_ != 0 && launch->wait_is_over) {
    awaiting_ = 0;
    for (uint32_t i = 0; i < thread_count; ++i)
      if (states_[i] == Thread::State::AwaitsEarlierLaunches) set_running(i);
  }
  if (running_count_ == 0) return false;
  const uint32_t place = random.below(running_count_), thread = running_[place];
  running_[place] = running_[--running_count_];
  return run(thread);
}

bool Block::run(uint32_t index_of_thread) {
  Thread &thread = *threads_[index_of_thread];
  Thread::State &state = states_[index_of_thread];
  thread.moved = false;
  state = Thread::State::Running;
  running_thread = &thread;
  thread.fiber.resume();
  running_thread = nullptr;
  if (state == Thread::State::Running) {
    if (weakness) set_running(index_of_thread);
    return thread.moved;
  }
  if (state == Thread::State::AwaitsEarlierLaunches) ++awaiting_;
  if (state == Thread::State::Ended) --live_threads;
  if (state == Thread::State::AtBarrier) ++at_barrier_;
  if (at_barrier_ != 0 && at_barrier_ == live_threads) pass_barrier();
  return true;
}

// What any thread did or saw before the barrier, all threads see after it.
void Block::pass_barrier() {
  fault::pass("barrier");
  at_barrier_ = 0;
  condition_behind_barrier = condition_at_barrier;
  condition_at_barrier = false;
  uint64_t seen = 0;
  for (uint32_t i = 0; i < thread_count; ++i) seen = std::max(seen, threads_[i]->sight.seen);
  for (uint32_t i = 0; i < thread_count; ++i) {
    if (states_[i] != Thread::State::AtBarrier) continue;
    states_[i] = Thread::State::Running;
    if (weakness) set_running(i);
    threads_[i]->sight.seen = seen;
  }
  if (weakness) weakness->memory.barrier(id);
}

void Block::let_dependents_start() {
  if (lets_dependents_start_) return;
  lets_dependents_start_ = true;
  launch->releasing_blocks += 1;
}

void Block::finish() {
  if (weakness) weakness->memory.finish_block(id);
  let_dependents_start();
  launch->ended_blocks += 1;
  launch.reset();
}

}  // namespace sim
