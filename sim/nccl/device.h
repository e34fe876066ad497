// The devices that communicators work on. The real NCCL uses the runtime and thus primary contexts, and so does this
// one.
#ifndef DIME_SIM_NCCL_DEVICE_H
#define DIME_SIM_NCCL_DEVICE_H

#include <cuda.h>

namespace sim {

// Ordinal of the calling thread's device: that of its context, or 0, as the runtime has it.
int current_device();

int device_count();

CUuuid uuid_of(int device);

// As NCCL since 2.30 can be told.
bool ranks_may_share_a_device();

// Its compute capability, such as 90.
int arch_of(int device);

// A device's primary context, kept alive.
class PrimaryContext {
 public:
  explicit PrimaryContext(int device);
  ~PrimaryContext();
  PrimaryContext(const PrimaryContext &) = delete;
  PrimaryContext &operator=(const PrimaryContext &) = delete;

  int device() const { return device_; }
  CUcontext get() const { return context_; }

 private:
  const int device_;
  CUcontext context_ = nullptr;
};

// The context is the calling thread's for as long as this lives.
class InContext {
 public:
  explicit InContext(CUcontext context);
  ~InContext();
  InContext(const InContext &) = delete;
  InContext &operator=(const InContext &) = delete;
};

}  // namespace sim

#endif
