// Groups of calls: what a thread asks for between the outermost ncclGroupStart and ncclGroupEnd begins at the end.
#ifndef DIME_SIM_NCCL_GROUP_H
#define DIME_SIM_NCCL_GROUP_H

#include <nccl.h>

#include <memory>

#include "birth.h"
#include "call.h"
#include "failure.h"

namespace sim::group {

void start();
// Throws when no group is open. At the outermost end: the result of all that was asked for.
ncclResult_t end();
// As `end`, but drops what was asked for. The outermost end writes the estimated time in microseconds, where `info` is not null.
void end_without_work(ncclSimInfo_t *info);

// Makes a communicator, at once when no group is open.
ncclResult_t add(std::unique_ptr<Birth> birth);
// Moves data on a communicator that is ready for use, at once when no group is open. ncclInProgress: the communicator is not
// blocking, and its state tells when that is enqueued.
ncclResult_t add(ncclComm_t comm, const Call &call);

// Ends a communicator, at the end of the group when one is open: with or without its work. What waits in it for other ranks has been
// told to stop before, at once, so that those that are aborted in one group do not wait for each other.
ncclResult_t add_ending(ncclComm_t comm);

// If a group is open, its end gives this result, unless a call failed before.
void note_failure(ncclResult_t code);

// As sim::boundary, for a call that may be part of a group.
template <class Body>
ncclResult_t boundary(const char *function, Body body) noexcept {
  const ncclResult_t result = sim::boundary(function, body);
  if (result != ncclSuccess && result != ncclInProgress) note_failure(result);
  return result;
}

}  // namespace sim::group

#endif
