// One block of a launch, resident on an SM, and its threads.
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
  // In its last run it did more than spin: it stored, or yielded at a memory access.
  bool moved = false;
  Sight sight;
  Fiber fiber;

  // The thread whose fiber runs on the calling OS thread.
  static Thread &current();
};

// Null outside of fibers. Each simulated access looks here, so where it lies is settled when the library is loaded.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local Thread *running_thread;

inline Thread &Thread::current() { return *running_thread; }

// What all blocks of a device share if its memory is weak.
struct Weakness {
  explicit Weakness(uint64_t seed) : random(seed), memory(random) {}

  Random random;
  WeakMemory memory;
  uint32_t yield_once_in = 1;  // a thread yields before one in so many memory accesses
};

// Reused after its end for another block, since its fibers keep their stacks.
struct Block {
  static constexpr size_t MOST_THREADS = 1024;

  std::shared_ptr<Launch> launch;
  Weakness *weakness = nullptr;  // null if memory is strong
  uint32_t index = 0;            // in the grid
  uint32_t id = 0;               // unique among all blocks that this device has run
  uint32_t sm = 0;
  uint32_t registers = 0;  // that it occupies on its SM
  uint32_t thread_count = 0;
  uint32_t live_threads = 0;
  bool condition_at_barrier = false;      // of the current barrier: it holds for a thread that has arrived
  bool condition_behind_barrier = false;  // of the last barrier: it held for a thread; valid until all reach the next

  void start(std::shared_ptr<Launch> its_launch, uint32_t its_index, uint32_t its_id, Weakness *its_weakness);
  bool may_run(uint32_t thread) const {
    return states_[thread] == Thread::State::Running ||
           (states_[thread] == Thread::State::AwaitsEarlierLaunches && launch->wait_is_over);
  }
  // Resumes a thread until it yields, waits or ends. True: it did more than spin.
  bool run(uint32_t thread);
  // With weak memory: resumes a random thread of those that may run, if there is one. True: it did more than spin.
  bool run_one(Random &random);
  // griddepcontrol.launch_dependents by one of its threads. The hardware waits for all threads of the block;
  // all threads of a kernel's block execute it at about the same time.
  void let_dependents_start();
  // Called when all threads have ended: their waiting stores reach memory, and the launch counts the block.
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
