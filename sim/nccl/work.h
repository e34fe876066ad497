// Operations of one communicator as one piece of work in a stream: where the real NCCL launches a kernel.
#ifndef DIME_SIM_NCCL_WORK_H
#define DIME_SIM_NCCL_WORK_H

#include <cuda.h>

#include <deque>
#include <memory>
#include <vector>

#include "endpoint.h"
#include "operation.h"

namespace sim {

class Work {
 public:
  Work(std::shared_ptr<Endpoint> endpoint, std::vector<Operation> operations)
      : endpoint_(std::move(endpoint)), operations_(std::move(operations)) {}

  // For the endpoint, under its mutex: whose turn each execution is that was launched and has not ended.
  std::deque<uint64_t> turns;

  // Runs the operations one after the other. True: all are done.
  bool advance(SharedState &shared);
  // The execution is over; the next one begins from the start.
  void end();

  // Appends it to a stream of the current context.
  static void enqueue(std::unique_ptr<Work> work, CUstream stream);

 private:
  static void launched(void *work);
  static int poll(void *work, int restart);
  static void destroy(void *work);

  const std::shared_ptr<Endpoint> endpoint_;
  std::vector<Operation> operations_;
  size_t current_ = 0;
};

}  // namespace sim

#endif
