#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <vector>

#ifndef __x86_64__
#error "the simulator's fibers are written for x86-64"
#endif

// void sim_switch(void **save, void *load): pushes the callee-saved registers, stores the stack pointer at
// *save, and goes on where the stack pointer `load` was stored.
asm(R"(
  .text
  .type sim_switch, @function
sim_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size sim_switch, .-sim_switch
  .type sim_first_entry, @function
sim_first_entry:
  movq %rbx, %rdi
  callq *%r12
  ud2
  .size sim_first_entry, .-sim_first_entry
)");
extern "C" void sim_switch(void **save, void *load);
extern "C" void sim_first_entry();

namespace sim {

namespace {

constexpr size_t STACK_BYTES = 32 << 10;
constexpr size_t STACKS_PER_MAPPING = 512;
// The tops of neighbouring stacks differ by this many bytes in their offset within a page. At the same offset
// they would compete for a few cache sets.
constexpr size_t COLOUR_BYTES = 320;
constexpr size_t COLOURS = 12;

// Free stacks, each given by its top. A stack is reused and never unmapped, so the memory is that of the
// largest launch.
class StackPool {
 public:
  char *take() {
    std::lock_guard lock(mutex_);
    if (free_.empty()) grow();
    char *top = free_.back();
    free_.pop_back();
    return top;
  }
  void give_back(char *top) {
    std::lock_guard lock(mutex_);
    free_.push_back(top);
  }

 private:
  void grow() {
    void *memory = mmap(nullptr, STACKS_PER_MAPPING * STACK_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      perror("dime sim: no memory for the stacks of simulated threads");
      abort();
    }
    for (size_t i = STACKS_PER_MAPPING; i-- > 0;)
      free_.push_back(static_cast<char *>(memory) + i * STACK_BYTES + STACK_BYTES - i % COLOURS * COLOUR_BYTES);
  }

  std::mutex mutex_;
  std::vector<char *> free_;
};

// Never destroyed: engine threads may still run while the process exits.
StackPool &stacks() {
  static StackPool *pool = new StackPool;
  return *pool;
}

}  // namespace

Fiber::~Fiber() {
  if (top_) stacks().give_back(top_);
}

void Fiber::enter(Fiber *fiber) {
  for (;;) {
    fiber->function_(fiber->argument_);
    fiber->function_ = nullptr;
    fiber->yield();
  }
}

void Fiber::start(void (*function)(void *), void *argument) {
  function_ = function;
  argument_ = argument;
  if (top_) return;  // the loop in enter() calls the new function
  top_ = stacks().take();
  // What sim_switch pops at the first resume: r15, r14, r13, r12, rbx, rbp, and the return address. After
  // that the stack pointer is a multiple of 16 in sim_first_entry, as the ABI requires before a call.
  void **top = reinterpret_cast<void **>(top_) - 9;
  top[0] = top[1] = top[2] = nullptr;
  top[3] = reinterpret_cast<void *>(&Fiber::enter);
  top[4] = this;
  top[5] = nullptr;
  top[6] = reinterpret_cast<void *>(&sim_first_entry);
  saved_ = top;
}

void Fiber::resume() { sim_switch(&caller_, saved_); }

void Fiber::yield() { sim_switch(&saved_, caller_); }

}  // namespace sim
