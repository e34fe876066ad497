// Copies and fills as operations. They are done in one go when their turn comes.
#ifndef DIME_SIM_DRIVER_TRANSFER_H
#define DIME_SIM_DRIVER_TRANSFER_H

#include <cstddef>
#include <cstdint>
#include <vector>

#include "operation.h"

namespace sim {

class Copy : public Operation {
 public:
  Copy(void *to, const void *from, size_t bytes) : to_(to), from_(from), bytes_(bytes) {}
  std::unique_ptr<Execution> begin(Engine &engine, Processor &processor, bool earlier_is_over) const override;

 private:
  void *const to_;
  const void *const from_;
  const size_t bytes_;
};

// A copy of what was in pageable memory at the time of the call, as the driver stages it.
class StagedCopy : public Operation {
 public:
  StagedCopy(void *to, const void *from, size_t bytes)
      : to_(to), bytes_(static_cast<const unsigned char *>(from), static_cast<const unsigned char *>(from) + bytes) {}
  std::unique_ptr<Execution> begin(Engine &engine, Processor &processor, bool earlier_is_over) const override;

 private:
  void *const to_;
  const std::vector<unsigned char> bytes_;
};

class Fill : public Operation {
 public:
  // `element_bytes`: 1 or 4.
  Fill(void *to, uint32_t value, size_t element_bytes, size_t elements)
      : to_(to), value_(value), element_bytes_(element_bytes), elements_(elements) {}
  std::unique_ptr<Execution> begin(Engine &engine, Processor &processor, bool earlier_is_over) const override;

 private:
  void *const to_;
  const uint32_t value_;
  const size_t element_bytes_, elements_;
};

}  // namespace sim

#endif
