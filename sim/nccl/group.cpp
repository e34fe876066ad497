#include "group.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace sim::group {

namespace {

// The calls on one communicator, in order.
struct Batch {
  Communicator *communicator;
  std::vector<Call> calls;
};

struct Group {
  ncclResult_t failure = ncclSuccess;
  std::vector<std::unique_ptr<Birth>> births;
  std::vector<Batch> batches;  // in the order of their first calls
};

thread_local int depth = 0;
thread_local Group open_group;

// One level less. At the outermost end, what was asked for.
std::optional<Group> close_one() {
  if (depth == 0) fail(ncclInvalidUsage, "no group is open");
  if (--depth > 0) return std::nullopt;
  return std::exchange(open_group, Group());
}

// For estimates: of the order of what two busy cores move.
constexpr float BYTES_PER_US = 1000;

}  // namespace

void start() { ++depth; }

ncclResult_t end() {
  std::optional<Group> group = close_one();
  if (!group) return ncclSuccess;
  if (group->failure != ncclSuccess) fail(group->failure, "a call of the group has failed");
  const ncclResult_t result = deliver(std::move(group->births));
  for (const Batch &batch : group->batches) batch.communicator->enqueue(batch.calls);
  return result;
}

void end_without_work(float &estimated_us) {
  std::optional<Group> group = close_one();
  if (!group) return;
  if (group->failure != ncclSuccess) fail(group->failure, "a call of the group has failed");
  size_t bytes = 0;
  for (const Batch &batch : group->batches) {
    const size_t ranks = size_t(batch.communicator->ranks());
    for (const Call &call : batch.calls) bytes += call.count * bytes_of(call.type) * ranks;
  }
  estimated_us = float(bytes) / BYTES_PER_US;
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

ncclResult_t add(Communicator &communicator, const Call &call) {
  if (depth == 0) {
    communicator.enqueue({call});
    return ncclSuccess;
  }
  auto &batches = open_group.batches;
  auto batch = std::find_if(batches.begin(), batches.end(),
                            [&](const Batch &one) { return one.communicator == &communicator; });
  if (batch == batches.end()) batch = batches.insert(batch, {&communicator, {}});
  batch->calls.push_back(call);
  return ncclSuccess;
}

void note_failure(ncclResult_t code) {
  if (depth > 0 && open_group.failure == ncclSuccess) open_group.failure = code;
}

}  // namespace sim::group
