// Several streams that one group uses: its work is enqueued on the first and counts as done on all.
//
// Otherwise streams need no order among themselves here: the endpoint runs work in the order of its launches.
#ifndef DIME_SIM_NCCL_JOINT_STREAMS_H
#define DIME_SIM_NCCL_JOINT_STREAMS_H

#include <cuda.h>

#include <vector>

namespace sim {

// Throws when they are in different captures, or some in none.
void require_same_capture(const std::vector<CUstream> &streams);

class JointStreams {
 public:
  // In the current context.
  JointStreams();
  ~JointStreams();
  JointStreams(const JointStreams &) = delete;
  JointStreams &operator=(const JointStreams &) = delete;

  // The first waits for the others.
  void join(const std::vector<CUstream> &streams);
  // The others wait for the first.
  void fork(const std::vector<CUstream> &streams);

 private:
  void record(CUstream stream);
  void make_wait(CUstream stream);

  CUevent event_;
};

}  // namespace sim

#endif
