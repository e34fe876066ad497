#include "current_thread.h"

#include <sim/driver/bad_link.h>
#include <sim/driver/fault.h>

#include "block.h"

namespace sim::current_thread {

namespace {

// The sizes are those that the CPU accesses whole, as a GPU does.
template <class T>
uint64_t load_now(uint64_t address, bool acquire) {
  const T *word = reinterpret_cast<const T *>(address);
  return acquire ? __atomic_load_n(word, __ATOMIC_ACQUIRE) : __atomic_load_n(word, __ATOMIC_RELAXED);
}

template <class T>
void store_now(uint64_t address, uint64_t value, bool release) {
  T *word = reinterpret_cast<T *>(address);
  if (release)
    __atomic_store_n(word, T(value), __ATOMIC_RELEASE);
  else
    __atomic_store_n(word, T(value), __ATOMIC_RELAXED);
}

void leave(Thread::State state) {
  Thread &self = Thread::current();
  *self.state = state;
  self.fiber.yield();
}

// With weak memory other threads may run between any two accesses.
void maybe_yield(Thread &self) {
  Weakness &weakness = *self.block->weakness;
  if (!weakness.random.once_in(weakness.yield_once_in)) return;
  self.moved = true;
  self.fiber.yield();
}

uint64_t change(uint64_t address, uint32_t bytes, uint64_t value, bool release, Change change) {
  Thread &self = Thread::current();
  self.moved = true;
  if (self.block->weakness) {
    maybe_yield(self);
    return self.block->weakness->memory.change(self.index, self.block->id, address, bytes, value, release, change);
  }
  return change_now(address, bytes, value, change);
}

}  // namespace

uint32_t thread_index() { return Thread::current().index; }
uint32_t block_index() { return Thread::current().block->index; }
uint32_t block_threads() { return Thread::current().block->launch->threads(); }
uint32_t grid_blocks() { return Thread::current().block->launch->blocks(); }

void block_barrier() { block_barrier_any(false); }

bool block_barrier_any(bool condition) {
  Thread &self = Thread::current();
  self.block->condition_at_barrier |= condition;
  leave(Thread::State::AtBarrier);
  return self.block->condition_behind_barrier;
}

void spin_hint() {
  fault::pass("spin");
  Thread::current().fiber.yield();
}

void await_earlier_launches() {
  Thread &self = Thread::current();
  const Launch &launch = *self.block->launch;
  if (launch.knows_dependents() && !launch.wait_is_over) leave(Thread::State::AwaitsEarlierLaunches);
  self.sight.seen = launch.ready_at;
}

void let_dependents_start() {
  Block &block = *Thread::current().block;
  if (block.launch->knows_dependents()) block.let_dependents_start();
}

uint64_t load(uint64_t address, uint32_t bytes, Scope scope, bool acquire) {
  Thread &self = Thread::current();
  if (self.block->weakness) {
    maybe_yield(self);
    return self.block->weakness->memory.load(self.index, self.block->id, self.sight, address, bytes, scope, acquire);
  }
  switch (bytes) {
    case 1: return load_now<uint8_t>(address, acquire);
    case 2: return load_now<uint16_t>(address, acquire);
    case 4: return load_now<uint32_t>(address, acquire);
    default: return load_now<uint64_t>(address, acquire);
  }
}

void store(uint64_t address, uint32_t bytes, uint64_t value, Scope scope, bool release) {
  Thread &self = Thread::current();
  self.moved = true;
  value = bad_link::arriving(address, value, scope == Scope::System);
  if (self.block->weakness) {
    maybe_yield(self);
    self.block->weakness->memory.store(self.index, self.block->id, self.sight, address, bytes, value, scope, release);
    return;
  }
  switch (bytes) {
    case 1: return store_now<uint8_t>(address, value, release);
    case 2: return store_now<uint16_t>(address, value, release);
    case 4: return store_now<uint32_t>(address, value, release);
    default: return store_now<uint64_t>(address, value, release);
  }
}

uint64_t add(uint64_t address, uint32_t bytes, uint64_t value, bool release) { return change(address, bytes, value, release, Change::Add); }
void bit_or(uint64_t address, uint32_t bytes, uint64_t value, bool release) { change(address, bytes, value, release, Change::Or); }

void fence_system() {
  Thread &self = Thread::current();
  if (self.block->weakness) self.block->weakness->memory.fence_system(self.index, self.block->id, self.sight);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

}  // namespace sim::current_thread
