// What the host does in a stream: functions of the application, and polled work of another simulated library.
#ifndef DIME_SIM_DRIVER_HOST_WORK_H
#define DIME_SIM_DRIVER_HOST_WORK_H

#include "cuda_api.h"
#include "operation.h"
#include "polled.h"

namespace sim {

// Each run has a thread of its own: the function may block, and the device goes on meanwhile.
class HostFunction : public Operation {
 public:
  HostFunction(CUhostFn function, void *argument) : function_(function), argument_(argument) {}
  std::unique_ptr<Execution> begin(Engine &engine, Processor &processor, bool earlier_is_over) const override;

 private:
  const CUhostFn function_;
  void *const argument_;
};

class PolledWork : public Operation {
 public:
  explicit PolledWork(const dimeSimPolled &work) : work_(work) {}
  ~PolledWork() override { work_.destroy(work_.data); }
  PolledWork(const PolledWork &) = delete;
  PolledWork &operator=(const PolledWork &) = delete;
  void launched() const override { work_.launched(work_.data); }
  std::unique_ptr<Execution> begin(Engine &engine, Processor &processor, bool earlier_is_over) const override;

 private:
  const dimeSimPolled work_;
};

}  // namespace sim

#endif
