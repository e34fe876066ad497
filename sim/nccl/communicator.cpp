#include "communicator.h"

#include <algorithm>

#include "collectives.h"
#include "failure.h"
#include "work.h"

namespace sim {

Communicator::Communicator(int rank, int ranks, int device, std::unique_ptr<SharedState> shared)
    : context_(device), endpoint_(std::make_shared<Endpoint>(rank, ranks, std::move(shared))) {
  InContext in_context(context_.get());
  joint_streams_.emplace();
  least_arch_ = endpoint_->shared().member(0).arch;
  for (int peer = 1; peer < ranks; ++peer)
    least_arch_ = std::min(least_arch_, endpoint_->shared().member(peer).arch);
}

void Communicator::synchronize_device() {
  InContext in_context(context_.get());
  check_driver(cuCtxSynchronize(), "cuCtxSynchronize");
}

void Communicator::enqueue(const std::vector<Call> &calls) {
  std::vector<CUstream> streams;
  for (const Call &call : calls)
    if (std::find(streams.begin(), streams.end(), call.stream) == streams.end()) streams.push_back(call.stream);
  InContext in_context(context_.get());
  require_same_capture(streams);
  auto work = std::make_unique<Work>(endpoint_, operations_of(calls, rank(), ranks()));
  joint_streams_->join(streams);
  Work::enqueue(std::move(work), streams[0]);
  joint_streams_->fork(streams);
}

ReductionOp Communicator::operation(ncclRedOp_t op, ncclDataType_t type) const {
  switch (op) {
    case ncclSum: return {op, {Reduction::Combine::SUM}};
    case ncclProd: return {op, {Reduction::Combine::PROD}};
    case ncclMax: return {op, {Reduction::Combine::MAX}};
    case ncclMin: return {op, {Reduction::Combine::MIN}};
    case ncclAvg: return {op, {Reduction::Combine::SUM, true}};
    default: break;
  }
  const OwnOperation &own = own_operation(op);
  if (own.type != type)
    fail(ncclInvalidArgument, "operation %d is for %s, not %s", int(op), name_of(own.type), name_of(type));
  return own.op;
}

ncclRedOp_t Communicator::add_operation(const ReductionOp &op, ncclDataType_t type) {
  auto place = std::find_if(operations_.begin(), operations_.end(), [](const auto &one) { return !one; });
  if (place == operations_.end()) place = operations_.insert(place, std::nullopt);
  *place = {op, type};
  return ncclRedOp_t(int(ncclNumOps) + int(place - operations_.begin()));
}

void Communicator::remove_operation(ncclRedOp_t op) {
  own_operation(op);
  operations_[size_t(op) - size_t(ncclNumOps)].reset();
}

const Communicator::OwnOperation &Communicator::own_operation(ncclRedOp_t op) const {
  // A built-in operation's index wraps around to a large one.
  const size_t index = size_t(op) - size_t(ncclNumOps);
  if (index >= operations_.size() || !operations_[index])
    fail(ncclInvalidArgument, "%d is no operation that was made for this communicator", int(op));
  return *operations_[index];
}

void *Communicator::register_buffer() {
  registrations_.insert(++last_registration_);
  return reinterpret_cast<void *>(last_registration_);
}

void Communicator::deregister_buffer(void *handle) {
  if (registrations_.erase(reinterpret_cast<uintptr_t>(handle)) == 0)
    fail(ncclInvalidArgument, "%p is no registration of this communicator", handle);
}

}  // namespace sim
