// A communicator on its way, and the place where the application wants its handle.
#ifndef DIME_SIM_NCCL_BIRTH_H
#define DIME_SIM_NCCL_BIRTH_H

#include <nccl.h>

#include <functional>
#include <memory>
#include <vector>

#include "joining.h"

namespace sim {

class Birth {
 public:
  typedef std::function<std::unique_ptr<Joining>()> Join;

  // Of a communicator that the application initializes: the handle is written at once, for a group may be open.
  static std::unique_ptr<Birth> of_new(ncclComm_t *place, bool blocking, Join join);
  // Of one that comes from `parent`: NULL is written now, and the handle when the communicator is made.
  static std::unique_ptr<Birth> of_child(ncclComm_t *place, ncclComm_t parent, bool blocking, Join join);
  // Frees the handle if the application does not have it for good.
  ~Birth();

  // Comes to where the ranks meet.
  void begin() { joining_ = join_(); }
  // True: the communicator is made. Throws when it never will be.
  bool progress();
  // Whether the application's call waits for it.
  bool is_waited_for() const;
  // Leaves the rest to whoever asks for the state of the new communicator or, of a child, of its parent.
  static void leave(std::unique_ptr<Birth> birth);

 private:
  Birth(ncclComm_t *place, ncclComm_t parent, bool blocking, Join join);

  ncclComm_t *const place_;
  const ncclComm_t parent_;  // null: there is none
  std::unique_ptr<ncclComm> owned_;
  const ncclComm_t handle_;
  const Join join_;
  std::unique_ptr<Joining> joining_;
};

// Makes communicators, the ranks of which may wait for each other. ncclInProgress: some will be made later.
ncclResult_t deliver(std::vector<std::unique_ptr<Birth>> births);

}  // namespace sim

#endif
