// The order of a communicator's work across streams: each waits for the one before.
//
// What a capture recorded cannot wait for what was enqueued outside of it, nor the other way round. What a graph does
// when it is replayed is ordered by the stream it is launched on.
#ifndef DIME_SIM_NCCL_ORDER_H
#define DIME_SIM_NCCL_ORDER_H

#include <cuda.h>

#include <cstdint>
#include <vector>

namespace sim {

// The capture that a stream is in, or 0.
uint64_t capture_of(CUstream stream);

class Order {
 public:
  // In the current context.
  Order() = default;

  // Call before work is enqueued on the first of `streams`: it waits for the work before it and for the other streams.
  void before(uint64_t capture, const std::vector<CUstream> &streams);
  // Call behind it: the other streams wait for it.
  void after(uint64_t capture, const std::vector<CUstream> &streams);

 private:
  class Event {
   public:
    Event();
    ~Event();
    Event(const Event &) = delete;
    Event &operator=(const Event &) = delete;
    void record(CUstream stream);
    void make_wait(CUstream stream);

   private:
    CUevent event_;
  };

  // Recorded behind all work: its stream may be gone when the next work comes.
  Event outside_, captured_;
  bool outside_is_recorded_ = false;
  uint64_t capture_ = 0;  // that `captured_` was recorded in
};

}  // namespace sim

#endif
