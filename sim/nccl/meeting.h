// How the ranks of a new communicator find each other: each comes to the memory that the unique id names and waits
// until all have come.
#ifndef DIME_SIM_NCCL_MEETING_H
#define DIME_SIM_NCCL_MEETING_H

#include <nccl.h>

#include <memory>

#include "shared_state.h"

namespace sim {

class Meeting {
 public:
  // Comes. Throws when the id is void, the rank has come already, or another rank expects another number of ranks.
  Meeting(const ncclUniqueId &id, int rank, int ranks, int device);
  // The id serves nobody any more: all have come, or this attempt was given up.
  ~Meeting();
  Meeting(const Meeting &) = delete;
  Meeting &operator=(const Meeting &) = delete;

  // Throws when two ranks came with one device.
  bool is_complete();

  const int rank, ranks, device;
  std::unique_ptr<SharedState> take_state() { return std::move(state_); }

 private:
  const ncclUniqueId id_;
  std::unique_ptr<SharedState> state_;
  int present_ = 0;  // this many ranks, from 0 on, are known to have come
};

}  // namespace sim

#endif
