#include "work.h"

#include <sim/driver/polled.h>

#include "failure.h"

namespace sim {

namespace {

// How often one call tries again where bytes moved: other work of the device waits meanwhile.
constexpr int MOST_ROUNDS = 16;

}  // namespace

void Work::begin() {
  has_begun = true;
  current_ = 0;
  for (Operation &operation : operations_) operation.restart();
}

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

void Work::enqueue(std::unique_ptr<Work> work, CUstream stream) {
  const std::shared_ptr<Endpoint> endpoint = work->endpoint_;
  const bool counts = !work->is_captured;
  if (counts) endpoint->announce();
  const dimeSimPolled polled = {poll, destroy, work.get()};
  const int result = dimeSimLaunchPolled(stream, &polled);
  if (result != CUDA_SUCCESS) {
    if (counts) endpoint->withdraw();
    check_driver(CUresult(result), "dimeSimLaunchPolled");
  }
  work.release();  // `destroy` has it now
}

int Work::poll(void *data, int restart) {
  Work &work = *static_cast<Work *>(data);
  return work.endpoint_->run(work, restart != 0);
}

void Work::destroy(void *data) { delete static_cast<Work *>(data); }

}  // namespace sim
