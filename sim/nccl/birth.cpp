#include "birth.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "handle.h"

namespace sim {

std::unique_ptr<Birth> Birth::of_new(ncclComm_t *place, bool blocking, Join join) {
  std::unique_ptr<Birth> birth(new Birth(place, nullptr, blocking, std::move(join)));
  *place = birth->handle_;
  return birth;
}

std::unique_ptr<Birth> Birth::of_child(ncclComm_t *place, ncclComm_t parent, bool blocking, Join join) {
  *place = nullptr;
  return std::unique_ptr<Birth>(new Birth(place, parent, blocking, std::move(join)));
}

Birth::Birth(ncclComm_t *place, ncclComm_t parent, bool blocking, Join join)
    : place_(place), parent_(parent), owned_(new ncclComm(blocking)), handle_(owned_.get()), join_(std::move(join)) {}

Birth::~Birth() {
  if (owned_) *place_ = nullptr;
}

bool Birth::progress() {
  Joining::Outcome outcome = joining_->progress();
  if (!outcome) return false;
  if (!*outcome) return true;  // this rank joins none
  handle_->communicator = std::move(*outcome);
  if (parent_) *place_ = handle_;
  owned_.release();
  return true;
}

bool Birth::is_waited_for() const { return parent_ ? parent_->blocking : handle_->blocking; }

void Birth::leave(std::unique_ptr<Birth> birth) {
  const ncclComm_t keeper = birth->parent_ ? birth->parent_ : birth->owned_.release();
  std::lock_guard lock(keeper->mutex);
  keeper->births.push_back(std::move(birth));
}

ncclResult_t deliver(std::vector<std::unique_ptr<Birth>> births) {
  for (auto &birth : births) birth->begin();
  const auto later =
      std::stable_partition(births.begin(), births.end(), [](auto &birth) { return birth->is_waited_for(); });
  auto nap = std::chrono::microseconds(20);
  auto undone = later;
  for (;;) {
    undone = std::remove_if(births.begin(), undone, [](auto &birth) { return birth->progress(); });
    if (undone == births.begin()) break;
    std::this_thread::sleep_for(nap);
    nap = std::min(2 * nap, std::chrono::microseconds(1000));
  }
  const bool any_is_left = later != births.end();
  std::for_each(later, births.end(), [](auto &birth) { Birth::leave(std::move(birth)); });
  return any_is_left ? ncclInProgress : ncclSuccess;
}

}  // namespace sim
