#include "handle.h"

#include <utility>

#include "failure.h"

namespace sim {

ncclResult_t state_of(ncclComm_t handle) {
  if (!handle) fail(ncclInvalidArgument, "the communicator is NULL");
  if (handle->mark != ncclComm::MARK) fail(ncclInvalidArgument, "the communicator has been destroyed, or is none");
  std::lock_guard lock(handle->mutex);
  auto &births = handle->births;
  for (size_t i = 0; i < births.size();) {
    try {
      if (!births[i]->progress()) {
        ++i;
        continue;
      }
    } catch (const Failure &failure) {
      note(failure.text);
      handle->failure = failure.code;
    }
    births.erase(births.begin() + ptrdiff_t(i));
  }
  if (!births.empty()) return ncclInProgress;
  if (handle->failure != ncclSuccess) return handle->failure;
  // A handle that a group has not made yet.
  if (!handle->communicator) return ncclInProgress;
  if (!handle->unlaunched.empty()) return ncclInProgress;
  Endpoint &endpoint = handle->communicator->endpoint();
  if (endpoint.error() != ncclSuccess) return endpoint.error();
  return handle->is_finalized && !endpoint.is_idle() ? ncclInProgress : ncclSuccess;
}

void launch_pending(ncclComm_t handle) {
  std::lock_guard lock(handle->mutex);
  for (const std::vector<Call> &calls : std::exchange(handle->unlaunched, {})) {
    try {
      handle->communicator->enqueue(calls);
    } catch (const Failure &failure) {
      note(failure.text);
      handle->failure = failure.code;
    }
  }
}

Communicator &ready(ncclComm_t handle) {
  const ncclResult_t state = state_of(handle);
  if (state == ncclInProgress)
    fail(ncclInvalidArgument, "the communicator is still at work: ncclCommGetAsyncError must give ncclSuccess first");
  if (state != ncclSuccess) fail(state, "the communicator has failed: %s", ncclGetErrorString(state));
  return *handle->communicator;
}

Communicator &usable(ncclComm_t handle) {
  Communicator &communicator = ready(handle);
  if (handle->is_finalized) fail(ncclInvalidUsage, "the communicator has been finalized");
  if (handle->is_revoked) fail(ncclInvalidUsage, "the communicator has been revoked");
  if (handle->is_suspended) fail(ncclInvalidUsage, "the communicator is suspended");
  return communicator;
}

}  // namespace sim
