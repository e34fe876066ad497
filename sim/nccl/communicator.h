// A communicator of one rank, ready for use: the host's side.
#ifndef DIME_SIM_NCCL_COMMUNICATOR_H
#define DIME_SIM_NCCL_COMMUNICATOR_H

#include <nccl.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "call.h"
#include "device.h"
#include "endpoint.h"
#include "joint_streams.h"

namespace sim {

class Communicator {
 public:
  Communicator(int rank, int ranks, int device, std::unique_ptr<SharedState> shared);

  int rank() const { return endpoint_->rank; }
  int ranks() const { return endpoint_->ranks; }
  int device() const { return context_.device(); }
  Endpoint &endpoint() { return *endpoint_; }
  // Compute capability of the oldest of all ranks' devices, such as 90.
  int least_arch() const { return least_arch_; }

  // Waits for all that is enqueued on the device.
  void synchronize_device();

  // Enqueues the calls of one group as one piece of work. Their arguments have been checked.
  void enqueue(const std::vector<Call> &calls);

  // What an operation means here for elements of a type. Throws when it is none.
  ReductionOp operation(ncclRedOp_t op, ncclDataType_t type) const;
  // Makes an operation for elements of one type.
  ncclRedOp_t add_operation(const ReductionOp &op, ncclDataType_t type);
  void remove_operation(ncclRedOp_t op);

  // The application may register buffers. Nothing is gained by it here, but handles are checked.
  void *register_buffer();
  void deregister_buffer(void *handle);

  // Counts the splits of this communicator; the number of the new one.
  uint64_t next_split() { return ++splits_; }
  // Counts the growths of this communicator; the number of the new one.
  uint64_t next_growth() { return ++growths_; }
  // Counts how often the same ranks have left.
  uint64_t next_shrink(const std::vector<int> &leave) { return ++shrinks_[leave]; }

 private:
  struct OwnOperation {
    ReductionOp op;
    ncclDataType_t type;
  };
  const OwnOperation &own_operation(ncclRedOp_t op) const;

  PrimaryContext context_;
  const std::shared_ptr<Endpoint> endpoint_;
  std::optional<JointStreams> joint_streams_;
  int least_arch_;
  std::vector<std::optional<OwnOperation>> operations_;  // by handle - ncclNumOps
  std::set<uintptr_t> registrations_;
  uintptr_t last_registration_ = 0;
  uint64_t splits_ = 0;
  uint64_t growths_ = 0;
  std::map<std::vector<int>, uint64_t> shrinks_;
};

}  // namespace sim

#endif
