// What a stream or a graph can be made of. An Operation says what is to be done and is never changed, so a graph runs
// it again and again; an Execution is one time that it is done.
#ifndef DIME_SIM_DRIVER_OPERATION_H
#define DIME_SIM_DRIVER_OPERATION_H

#include <memory>

namespace sim {

class Engine;
class Processor;

// Used by the engine's thread alone, without the lock.
class Execution {
 public:
  virtual ~Execution() = default;
  // True: over. `earlier_is_over`: everything it depends on is; true from the start, but for kernels that start early.
  virtual bool poll(bool earlier_is_over) = 0;
  // A kernel behind it that asked for that may start.
  virtual bool lets_dependents_start() const { return false; }
};

class Operation {
 public:
  virtual ~Operation() = default;
  // An execution is to come. On the thread that launches it, under the lock.
  virtual void launched() const {}
  // On the engine's thread. Null: it is over already.
  virtual std::unique_ptr<Execution> begin(Engine &engine, Processor &processor, bool earlier_is_over) const = 0;
  virtual bool is_kernel() const { return false; }
};

}  // namespace sim

#endif
