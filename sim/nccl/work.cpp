#include "work.h"

#include <sim/driver/polled.h>

#include "failure.h"

namespace sim {

namespace {

// How often one call tries again where bytes moved: other work of the device waits meanwhile.
constexpr int MOST_ROUNDS = 16;

}  // namespace

bool Work::advance(SharedState &shared) {
  for (int round = 0; round < MOST_ROUNDS && current_ < operations_.size(); ++round) {
    Operation &operation = operations_[current_];
    const bool moved = operation.advance(shared);
    if (operation.is_done()) {
      ++current_;
    } else if (!moved) {
      break;
    }
  }
  return current_ == operations_.size();
}

void Work::end() {
  turns.pop_front();
  current_ = 0;
  for (Operation &operation : operations_) operation.restart();
}

void Work::enqueue(std::unique_ptr<Work> work, CUstream stream) {
  const dimeSimPolled polled = {launched, poll, destroy, work.get()};
  check_driver(CUresult(dimeSimLaunchPolled(stream, &polled)), "dimeSimLaunchPolled");
  work.release();  // `destroy` has it now
}

void Work::launched(void *data) {
  Work &work = *static_cast<Work *>(data);
  work.endpoint_->launched(work);
}

int Work::poll(void *data, int) {
  Work &work = *static_cast<Work *>(data);
  return work.endpoint_->run(work);
}

void Work::destroy(void *data) { delete static_cast<Work *>(data); }

}  // namespace sim
