// A fiber: a function with a stack of its own that runs until it gives way, and goes on where it was when it is resumed.
//
// The switch is a dozen instructions of assembly. The C library's way makes a system call per switch, ten times the cost of all
// the rest of the simulator, and sanitizers take over setjmp and longjmp.
#ifndef DIME_SIM_GPU_FIBER_H
#define DIME_SIM_GPU_FIBER_H

#include <cstddef>

namespace sim {

class Fiber {
 public:
  Fiber() = default;
  ~Fiber();
  Fiber(const Fiber &) = delete;
  Fiber &operator=(const Fiber &) = delete;

  // Runs `function(argument)` on the fiber at the next resume. The fiber is new or its last function has returned.
  void start(void (*function)(void *), void *argument);
  // Runs the fiber until it gives way or its function returns. Called outside of fibers.
  void resume();
  // Called on the fiber: back to where it was resumed.
  void suspend();
  bool is_done() const { return function_ == nullptr; }

 private:
  [[noreturn]] static void enter(Fiber *fiber);

  void (*function_)(void *) = nullptr;
  void *argument_ = nullptr;
  char *top_ = nullptr;     // of its stack
  void *saved_ = nullptr;   // the fiber's stack pointer while it does not run
  void *caller_ = nullptr;  // the resumer's while it does
};

}  // namespace sim

#endif
