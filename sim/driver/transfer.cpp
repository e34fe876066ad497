#include "transfer.h"

#include <algorithm>
#include <cstring>

namespace sim {

std::unique_ptr<Execution> Copy::begin(Engine &, Processor &, bool) const {
  memmove(to_, from_, bytes_);
  return nullptr;
}

std::unique_ptr<Execution> StagedCopy::begin(Engine &, Processor &, bool) const {
  memcpy(to_, bytes_.data(), bytes_.size());
  return nullptr;
}

std::unique_ptr<Execution> Fill::begin(Engine &, Processor &, bool) const {
  if (element_bytes_ == 1) memset(to_, int(value_), elements_);
  else std::fill_n(static_cast<uint32_t *>(to_), elements_, value_);
  return nullptr;
}

}  // namespace sim
