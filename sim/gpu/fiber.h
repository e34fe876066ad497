// A fiber: a function with a stack of its own. It runs until it yields, and goes on from there when it is
// resumed.
//
// The switch is a dozen instructions of assembly. The C library's ucontext makes a system call at each
// switch, ten times the cost of all the rest of the simulator. setjmp and longjmp are no way either:
// sanitizers intercept them.
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

  // The next resume() calls `function(argument)` on the fiber. The fiber is new, or its last function has
  // returned.
  void start(void (*function)(void *), void *argument);
  // Runs the fiber until it yields or its function returns. Called outside fibers.
  void resume();
  // Called on the fiber: returns to its resume().
  void yield();
  bool is_done() const { return function_ == nullptr; }

 private:
  [[noreturn]] static void enter(Fiber *fiber);

  void (*function_)(void *) = nullptr;
  void *argument_ = nullptr;
  char *top_ = nullptr;     // of its stack
  void *saved_ = nullptr;   // the fiber's stack pointer while it does not run
  void *caller_ = nullptr;  // the resumer's stack pointer while it does
};

}  // namespace sim

#endif
