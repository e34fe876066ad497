// One rank's end of a communicator, as its work in the streams sees it. The communicator and that work share it:
// captured work may outlive the communicator.
//
// Work runs one after the other in the order in which the host launched it, replays of graphs included, whatever their
// streams are. The device's thread runs it. The mutex is held while work moves bytes, so no memory of the application
// is touched any more once `stop` has returned.
#ifndef DIME_SIM_NCCL_ENDPOINT_H
#define DIME_SIM_NCCL_ENDPOINT_H

#include <nccl.h>

#include <condition_variable>
#include <memory>
#include <mutex>

#include "shared_state.h"

namespace sim {

class Work;

class Endpoint {
 public:
  Endpoint(int rank, int ranks, std::unique_ptr<SharedState> shared);

  const int rank, ranks;
  SharedState &shared() { return *shared_; }

  // Ends what runs and what is enqueued, without its results, and all that comes.
  void stop();
  // Whether no work of this rank is left.
  bool is_idle();
  void wait_until_idle();
  // What went wrong while work ran.
  ncclResult_t error();

  // An execution of the work is to come. Called by the host's thread.
  void launched(Work &work);
  // Called by the device's thread, again and again. True: the execution is over.
  bool run(Work &work);

 private:
  // The mutex is held.
  bool advance(Work &work);

  const std::unique_ptr<SharedState> shared_;
  std::mutex mutex_;
  std::condition_variable idle_;
  uint64_t launched_ = 0, ended_ = 0;  // executions of work
  bool stopped_ = false;
  ncclResult_t error_ = ncclSuccess;
};

}  // namespace sim

#endif
