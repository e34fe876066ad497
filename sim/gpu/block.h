// A block of a launch on an SM, and its threads.
#ifndef DIME_SIM_GPU_BLOCK_H
#define DIME_SIM_GPU_BLOCK_H

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "fiber.h"
#include "launch.h"
#include "random.h"
#include "weak_memory.h"

namespace sim {

struct Block;

struct Thread {
  enum class State : uint8_t { Running, AwaitsEarlierLaunches, AtBarrier, Ended };

  Block *block = nullptr;
  uint32_t index = 0;
  State *state = nullptr;
  // It did more in its last turn than to look around in a spin loop.
  bool moved = false;
  Sight sight;
  Fiber fiber;

  // The one whose fiber runs on this OS thread.
  static Thread &current();
};

// Null outside of fibers. Each simulated access looks here, so where it lies is settled when the library is loaded.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local Thread *running_thread;

inline Thread &Thread::current() { return *running_thread; }

// What a device's blocks share when its memory is weak.
struct Weakness {
  explicit Weakness(uint64_t seed) : random(seed), memory(random) {}

  Random random;
  WeakMemory memory;
  uint32_t give_way_once_in = 1;  // at memory accesses
};

// Blocks are used again, for the stacks of their fibers.
struct Block {
  static constexpr size_t MOST_THREADS = 1024;

  std::shared_ptr<Launch> launch;
  Weakness *weakness = nullptr;  // null: memory is strong
  uint32_t index = 0;            // in the grid
  uint32_t id = 0;               // of all that this device ever ran
  uint32_t sm = 0;
  uint32_t registers = 0;  // that it takes of its SM
  uint32_t thread_count = 0;
  uint32_t live_threads = 0;
  bool condition_at_barrier = false;      // of the threads that are at the present barrier: whether it held for one
  bool condition_behind_barrier = false;  // the same of the last barrier, until all have come to the next

  void start(std::shared_ptr<Launch> its_launch, uint32_t its_index, uint32_t its_id, Weakness *its_weakness);
  bool may_run(uint32_t thread) const {
    return states_[thread] == Thread::State::Running ||
           (states_[thread] == Thread::State::AwaitsEarlierLaunches && launch->wait_is_over);
  }
  // A turn of a thread. True: it moved.
  bool run(uint32_t thread);
  // With weak memory: a turn of a random thread of those that may run, if there is one. True: it moved.
  bool run_one(Random &random);
  // griddepcontrol.launch_dependents by one of its threads. (The hardware waits for all of them, which come at once.)
  void let_dependents_start();
  // All threads have ended: what they wrote goes to memory.
  void finish();

 private:
  void pass_barrier();

  void set_running(uint32_t thread) { running_[running_count_++] = uint16_t(thread); }

  uint32_t at_barrier_ = 0;
  bool lets_dependents_start_ = false;
  std::vector<std::unique_ptr<Thread>> threads_;
  // Beside each other, since most turns that a thread is offered find it waiting.
  std::array<Thread::State, MOST_THREADS> states_;
  // With weak memory: the threads in state Running, in no order, and how many await earlier launches.
  std::array<uint16_t, MOST_THREADS> running_;
  uint32_t running_count_ = 0;
  uint32_t awaiting_ = 0;
};

}  // namespace sim

#endif
