// One rank's end of a communicator, as its work in the streams sees it. The communicator and that work share it:
// captured work may outlive the communicator.
//
// The host announces, stops and waits; the device's thread runs work, one at a time. The mutex is held while work moves
// bytes, so no memory of the application is touched any more once `stop` has returned.
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

  // Work was enqueued, or could not be after all. Captured work counts only while it runs.
  void announce();
  void withdraw();

  // Ends what runs and what is enqueued, without its results, and all that comes.
  void stop();
  // Whether no work of this rank is left.
  bool is_idle();
  void wait_until_idle();
  // What went wrong while work ran.
  ncclResult_t error();

  // Called by the device's thread, again and again. True: the work is over.
  bool run(Work &work, bool restart);

 private:
  // These expect the mutex to be held.
  bool advance(Work &work);
  void end(Work &work);

  const std::unique_ptr<SharedState> shared_;
  std::mutex mutex_;
  std::condition_variable idle_;
  Work *running_ = nullptr;
  int outstanding_ = 0;
  bool stopped_ = false;
  ncclResult_t error_ = ncclSuccess;
};

}  // namespace sim

#endif
