#include "endpoint.h"

#include "failure.h"
#include "work.h"

namespace sim {

Endpoint::Endpoint(int rank, int ranks, std::unique_ptr<SharedState> shared)
    : rank(rank), ranks(ranks), shared_(std::move(shared)) {}

void Endpoint::stop() {
  std::lock_guard lock(mutex_);
  stopped_ = true;
  idle_.notify_all();
}

bool Endpoint::is_idle() {
  std::lock_guard lock(mutex_);
  return stopped_ || ended_ == launched_;
}

void Endpoint::wait_until_idle() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return stopped_ || ended_ == launched_; });
}

ncclResult_t Endpoint::error() {
  std::lock_guard lock(mutex_);
  return error_;
}

void Endpoint::launched(Work &work) {
  std::lock_guard lock(mutex_);
  work.turns.push_back(launched_++);
}

bool Endpoint::run(Work &work) {
  std::lock_guard lock(mutex_);
  if (!stopped_ && !advance(work)) return false;
  work.end();
  ended_ += 1;
  idle_.notify_all();
  return true;
}

bool Endpoint::advance(Work &work) {
  if (work.turns.front() != ended_) return false;
  try {
    if (shared_->header().is_spoiled) fail(ncclRemoteError, "another rank has found that the ranks disagree");
    return work.advance(*shared_);
  } catch (const Failure &failure) {
    note(failure.text);
    shared_->header().is_spoiled = 1;
    error_ = failure.code;
    stopped_ = true;
    return true;
  }
}

}  // namespace sim
