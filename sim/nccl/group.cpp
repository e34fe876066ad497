#include "group.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "handle.h"

namespace sim::group {

namespace {

// The calls on one communicator, in order.
struct Batch {
  ncclComm_t comm;
  std::vector<Call> calls;
};

struct Group {
  ncclResult_t failure = ncclSuccess;
  std::vector<std::unique_ptr<Birth>> births;
  std::vector<Batch> batches;  // in the order of their first calls
  std::vector<ncclComm_t> endings;
};

thread_local int depth = 0;
thread_local Group open_group;

// One level less. At the outermost end, what was asked for.
std::optional<Group> close_one() {
  if (depth == 0) fail(ncclInvalidUsage, "no group is open");
  if (--depth > 0) return std::nullopt;
  return std::exchange(open_group, Group());
}

// Enqueues the calls of one group on a communicator, or leaves them until somebody asks for its state.
ncclResult_t launch(ncclComm_t comm, std::vector<Call> calls) {
  if (comm->blocking) {
    comm->communicator->enqueue(calls);
    return ncclSuccess;
  }
  std::lock_guard lock(comm->mutex);
  comm->unlaunched.push_back(std::move(calls));
  return ncclInProgress;
}

// After its work, unless that has been told to stop.
void end_communicator(ncclComm_t comm) {
  if (comm->communicator) comm->communicator->endpoint().wait_until_idle();
  delete comm;
}

// Behind all else that the end of a group does, also when that fails.
struct EndsLast {
  const std::vector<ncclComm_t> communicators;
  ~EndsLast() {
    for (ncclComm_t comm : communicators) end_communicator(comm);
  }
};

// For estimates: of the order of what two busy cores move.
constexpr float BYTES_PER_US = 1000;

}  // namespace

void start() { ++depth; }

ncclResult_t end() {
  std::optional<Group> group = close_one();
  if (!group) return ncclSuccess;
  const EndsLast ends_last{std::move(group->endings)};
  if (group->failure != ncclSuccess) fail(group->failure, "a call of the group has failed");
  ncclResult_t result = deliver(std::move(group->births));
  for (Batch &batch : group->batches)
    if (launch(batch.comm, std::move(batch.calls)) == ncclInProgress) result = ncclInProgress;
  return result;
}

void end_without_work(ncclSimInfo_t *info) {
  std::optional<Group> group = close_one();
  if (!group) return;
  const EndsLast ends_last{std::move(group->endings)};
  constexpr unsigned MAGIC = 0x74685283;  // that of NCCL_SIM_INFO_INITIALIZER
  if (info && info->magic != MAGIC)
    fail(ncclInvalidArgument, "the information was not initialized with NCCL_SIM_INFO_INITIALIZER");
  if (group->failure != ncclSuccess) fail(group->failure, "a call of the group has failed");
  size_t bytes = 0;
  for (const Batch &batch : group->batches) {
    const size_t ranks = size_t(batch.comm->communicator->ranks());
    for (const Call &call : batch.calls) bytes += call.count * bytes_of(call.type) * ranks;
  }
  if (info) info->estimatedTime = float(bytes) / BYTES_PER_US;
}

ncclResult_t add(std::unique_ptr<Birth> birth) {
  if (depth > 0) {
    open_group.births.push_back(std::move(birth));
    return ncclSuccess;
  }
  std::vector<std::unique_ptr<Birth>> births;
  births.push_back(std::move(birth));
  return deliver(std::move(births));
}

ncclResult_t add(ncclComm_t comm, const Call &call) {
  if (depth == 0) return launch(comm, {call});
  auto &batches = open_group.batches;
  auto batch = std::find_if(batches.begin(), batches.end(), [&](const Batch &one) { return one.comm == comm; });
  if (batch == batches.end()) batch = batches.insert(batch, {comm, {}});
  batch->calls.push_back(call);
  return ncclSuccess;
}

ncclResult_t add_ending(ncclComm_t comm) {
  if (depth > 0) open_group.endings.push_back(comm);
  else end_communicator(comm);
  return ncclSuccess;
}

void note_failure(ncclResult_t code) {
  if (depth > 0 && open_group.failure == ncclSuccess) open_group.failure = code;
}

}  // namespace sim::group
