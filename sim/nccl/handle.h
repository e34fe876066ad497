// What an ncclComm_t points to: a communicator, or one that is still being made.
#ifndef DIME_SIM_NCCL_HANDLE_H
#define DIME_SIM_NCCL_HANDLE_H

#include <nccl.h>

#include <memory>
#include <mutex>
#include <vector>

#include "birth.h"
#include "communicator.h"

struct ncclComm {
  explicit ncclComm(bool blocking) : blocking(blocking) {}
  ~ncclComm() { mark = 0; }

  static constexpr uint64_t MARK = 0x6e63636c436f6d6d;
  volatile uint64_t mark = MARK;  // void in a handle that has been freed
  const bool blocking;

  // Held while another thread could look at what follows, as ncclCommGetAsyncError may.
  std::mutex mutex;
  // Null until it is made.
  std::unique_ptr<sim::Communicator> communicator;
  // It, and communicators split from it, on their way: non-blocking ones make progress whenever somebody asks for the
  // state.
  std::vector<std::unique_ptr<sim::Birth>> births;
  // Groups of calls on a communicator that is not blocking. They are enqueued when somebody asks for the state.
  std::vector<std::vector<sim::Call>> unlaunched;
  // What ended such a birth, or such a launch.
  ncclResult_t failure = ncclSuccess;
  bool is_finalized = false;
  bool is_revoked = false;
  bool is_suspended = false;
};

namespace sim {

// The state as ncclCommGetAsyncError tells it. Throws when `handle` is none.
ncclResult_t state_of(ncclComm_t handle);

// Enqueues what a communicator that is not blocking was asked to do.
void launch_pending(ncclComm_t handle);

// The communicator, ready for use. Throws otherwise.
Communicator &ready(ncclComm_t handle);

// As `ready`, and it has not been finalized, revoked or suspended.
Communicator &usable(ncclComm_t handle);

}  // namespace sim

#endif
