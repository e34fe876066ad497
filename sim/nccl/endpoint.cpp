#include "endpoint.h"

#include "failure.h"
#include "work.h"

namespace sim {

Endpoint::Endpoint(int rank, int ranks, std::unique_ptr<SharedState> shared)
    : rank(rank), ranks(ranks), shared_(std::move(shared)) {}

void Endpoint::announce() {
  std::lock_guard lock(mutex_);
  ++outstanding_;
}

void Endpoint::withdraw() {
  std::lock_guard lock(mutex_);
  if (--outstanding_ == 0) idle_.notify_all();
}

void Endpoint::stop() {
  std::lock_guard lock(mutex_);
  stopped_ = true;
  idle_.notify_all();
}

bool Endpoint::is_idle() {
  std::lock_guard lock(mutex_);
  return stopped_ || outstanding_ == 0;
}

void Endpoint::wait_until_idle() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return stopped_ || outstanding_ == 0; });
}

ncclResult_t Endpoint::error() {
  std::lock_guard lock(mutex_);
  return error_;
}

bool Endpoint::run(Work &work, bool restart) {
  std::lock_guard lock(mutex_);
  if (restart) {
    work.has_begun = false;
    if (work.is_captured) ++outstanding_;
  }
  if (!stopped_ && !advance(work)) return false;
  end(work);
  return true;
}

bool Endpoint::advance(Work &work) {
  if (!work.has_begun) {
    // Streams that nothing orders, such as a replayed graph's and another: one after the other.
    if (running_) return false;
    running_ = &work;
    work.begin();
  }
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

void Endpoint::end(Work &work) {
  if (running_ == &work) running_ = nullptr;
  --outstanding_;
  if (outstanding_ == 0 || stopped_) idle_.notify_all();
}

}  // namespace sim
