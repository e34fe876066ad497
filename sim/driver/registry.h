// Handles of one kind of object. A handle is a number that points nowhere, so any value can be looked up; each kind has
// a range of its own. The handle given back last is handed out next, as an allocator does: whoever takes an equal
// handle for the same object is found out.
#ifndef DIME_SIM_DRIVER_REGISTRY_H
#define DIME_SIM_DRIVER_REGISTRY_H

#include <cstdint>
#include <memory>
#include <vector>

namespace sim {

template <class Handle, class Object>
class Registry {
 public:
  explicit Registry(uint64_t kind) : base_(kind << 40) {}

  Handle add(std::shared_ptr<Object> object) {
    if (free_.empty()) {
      free_.push_back(slots_.size());
      slots_.emplace_back();
    }
    const size_t slot = free_.back();
    free_.pop_back();
    slots_[slot] = std::move(object);
    return handle(slot);
  }

  // Null: there is none.
  std::shared_ptr<Object> find(Handle handle) const {
    const uint64_t offset = uint64_t(handle) - base_;
    if (offset % STRIDE != 0 || offset / STRIDE >= slots_.size()) return nullptr;
    return slots_[offset / STRIDE];
  }

  // Null: there is none.
  template <class Condition>
  std::shared_ptr<Object> find_if(Condition condition) const {
    for (const auto &object : slots_)
      if (object && condition(*object)) return object;
    return nullptr;
  }

  // The handle must be one that `find` finds.
  std::shared_ptr<Object> remove(Handle handle) {
    const size_t slot = (uint64_t(handle) - base_) / STRIDE;
    free_.push_back(slot);
    return std::move(slots_[slot]);
  }

  template <class Condition>
  std::vector<std::shared_ptr<Object>> remove_if(Condition condition) {
    std::vector<std::shared_ptr<Object>> removed;
    for (size_t slot = 0; slot < slots_.size(); ++slot)
      if (slots_[slot] && condition(*slots_[slot])) removed.push_back(remove(handle(slot)));
    return removed;
  }

 private:
  static constexpr uint64_t STRIDE = 16;

  Handle handle(size_t slot) const { return (Handle)(base_ + slot * STRIDE); }

  const uint64_t base_;
  std::vector<std::shared_ptr<Object>> slots_;
  std::vector<size_t> free_;
};

}  // namespace sim

#endif
