#include "host_work.h"

#include <atomic>

#include "engine.h"
#include "threads.h"

namespace sim {

namespace {

class RunningHostFunction : public Execution {
 public:
  explicit RunningHostFunction(std::shared_ptr<std::atomic<bool>> is_over) : is_over_(std::move(is_over)) {}
  bool poll(bool) override { return *is_over_; }

 private:
  std::shared_ptr<std::atomic<bool>> is_over_;
};

class RunningPolledWork : public Execution {
 public:
  explicit RunningPolledWork(const dimeSimPolled &work) : work_(work) {}
  bool poll(bool) override {
    const int restart = is_first_ ? 1 : 0;
    is_first_ = false;
    return work_.poll(work_.data, restart) != 0;
  }

 private:
  const dimeSimPolled &work_;  // of the operation, which lives longer
  bool is_first_ = true;
};

}  // namespace

std::unique_ptr<Execution> HostFunction::begin(Engine &engine, Processor &, bool) const {
  auto is_over = std::make_shared<std::atomic<bool>>(false);
  start_callback([function = function_, argument = argument_, is_over, &engine] {
    function(argument);
    *is_over = true;
    engine.wake();
  });
  return std::make_unique<RunningHostFunction>(std::move(is_over));
}

std::unique_ptr<Execution> PolledWork::begin(Engine &, Processor &, bool) const {
  return std::make_unique<RunningPolledWork>(work_);
}

}  // namespace sim
