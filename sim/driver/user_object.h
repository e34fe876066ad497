// An application's object that lives as long as the application, a graph or an executable graph refers to it. Who
// refers to it shares the C++ object; when that goes, the application's destructor is called, on a thread of its own.
#ifndef DIME_SIM_DRIVER_USER_OBJECT_H
#define DIME_SIM_DRIVER_USER_OBJECT_H

#include <cstdint>
#include <memory>
#include <vector>

#include "cuda_api.h"
#include "failure.h"
#include "threads.h"

namespace sim {

class UserObject {
 public:
  UserObject(void *pointer, CUhostFn destroy, uint32_t references)
      : application_references(references), pointer_(pointer), destroy_(destroy) {}
  ~UserObject() {
    start_callback([destroy = destroy_, pointer = pointer_] { destroy(pointer); });
  }
  UserObject(const UserObject &) = delete;
  UserObject &operator=(const UserObject &) = delete;

  uint32_t application_references;  // with the last the handle goes

 private:
  void *const pointer_;
  const CUhostFn destroy_;
};

// A graph's references.
class UserReferences {
 public:
  void add(std::shared_ptr<UserObject> object, uint32_t count) {
    for (auto &known : references_) {
      if (known.object != object) continue;
      known.count += count;
      return;
    }
    references_.push_back({std::move(object), count});
  }

  // Fails when there are fewer.
  void remove(const std::shared_ptr<UserObject> &object, uint32_t count) {
    for (auto known = references_.begin(); known != references_.end(); ++known) {
      if (known->object != object) continue;
      require(known->count >= count);
      known->count -= count;
      if (known->count == 0) references_.erase(known);
      return;
    }
    fail(CUDA_ERROR_INVALID_VALUE);
  }

 private:
  struct Reference {
    std::shared_ptr<UserObject> object;
    uint32_t count;
  };
  std::vector<Reference> references_;
};

}  // namespace sim

#endif
