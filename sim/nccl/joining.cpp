#include "joining.h"

#include <algorithm>

namespace sim {

namespace {

Joining::Outcome outcome_of(Meeting &meeting) {
  if (!meeting.is_complete()) return std::nullopt;
  return std::make_unique<Communicator>(meeting.rank, meeting.ranks, meeting.device, meeting.take_state());
}

int index_of(const std::vector<int> &ranks, int rank) {
  return int(std::find(ranks.begin(), ranks.end(), rank) - ranks.begin());
}

uint64_t hash_of(const std::vector<int> &ranks, uint64_t count) {
  uint64_t hash = count + 1;
  for (int rank : ranks) {
    hash = (hash ^ uint64_t(rank)) * 0x9e3779b97f4a7c15ull;
    hash ^= hash >> 29;
  }
  return hash | 1;  // never the zero of memory that nobody has written
}

}  // namespace

Joining::Outcome JoiningById::progress() { return outcome_of(meeting_); }

JoiningBySplit::JoiningBySplit(Communicator &parent, int color, int key)
    : parent_(parent), color_(color), round_(parent.next_split()) {
  SplitEntry &own = parent.endpoint().shared().split(parent.rank(), round_);
  own.color = color;
  own.key = key;
  own.round.store(round_, std::memory_order_release);
}

Joining::Outcome JoiningBySplit::progress() {
  if (!meeting_) {
    if (!all_have_said_their_color()) return std::nullopt;
    if (color_ == NCCL_SPLIT_NOCOLOR) return nullptr;
    if (!meet()) return std::nullopt;
  }
  return outcome_of(*meeting_);
}

bool JoiningBySplit::all_have_said_their_color() {
  SharedState &shared = parent_.endpoint().shared();
  for (int rank = 0; rank < parent_.ranks(); ++rank)
    if (shared.split(rank, round_).round.load(std::memory_order_acquire) != round_) return false;
  return true;
}

bool JoiningBySplit::meet() {
  SharedState &shared = parent_.endpoint().shared();
  std::vector<int> same_color;
  for (int rank = 0; rank < parent_.ranks(); ++rank)
    if (shared.split(rank, round_).color == color_) same_color.push_back(rank);
  const auto key_of = [&](int rank) { return shared.split(rank, round_).key; };
  std::stable_sort(same_color.begin(), same_color.end(), [&](int a, int b) { return key_of(a) < key_of(b); });
  const int ranks = int(same_color.size());
  SplitEntry &first = shared.split(same_color[0], round_);
  if (same_color[0] == parent_.rank()) {
    first.id = make_unique_id(SharedState::bytes_for(ranks));
    first.id_round.store(round_, std::memory_order_release);
  } else if (first.id_round.load(std::memory_order_acquire) != round_) {
    return false;
  }
  meeting_.emplace(first.id, index_of(same_color, parent_.rank()), ranks, parent_.device());
  return true;
}

JoiningByShrink::JoiningByShrink(Communicator &parent, const std::vector<int> &leave)
    : parent_(parent), shrink_(hash_of(leave, parent.next_shrink(leave))) {
  for (int rank = 0; rank < parent.ranks(); ++rank)
    if (!std::binary_search(leave.begin(), leave.end(), rank)) stay_.push_back(rank);
  if (stay_[0] == parent.rank()) {
    ShrinkEntry &own = parent.endpoint().shared().shrink(parent.rank());
    own.id = make_unique_id(SharedState::bytes_for(int(stay_.size())));
    own.shrink.store(shrink_, std::memory_order_release);
  }
}

Joining::Outcome JoiningByShrink::progress() {
  if (!meeting_ && !meet()) return std::nullopt;
  return outcome_of(*meeting_);
}

bool JoiningByShrink::meet() {
  ShrinkEntry &first = parent_.endpoint().shared().shrink(stay_[0]);
  if (first.shrink.load(std::memory_order_acquire) != shrink_) return false;
  meeting_.emplace(first.id, index_of(stay_, parent_.rank()), int(stay_.size()), parent_.device());
  return true;
}

ncclUniqueId JoiningByGrow::coordinate(Communicator &parent) {
  Growth &growth = parent.endpoint().shared().growth();
  growth.id = make_unique_id(SharedState::bytes_for(SharedState::MOST_RANKS));
  growth.number.fetch_add(1, std::memory_order_release);
  return growth.id;
}

Joining::Outcome JoiningByGrow::progress() {
  if (!meeting_) {
    Growth &growth = parent_.endpoint().shared().growth();
    if (growth.number.load(std::memory_order_acquire) < growth_) return std::nullopt;
    meeting_.emplace(growth.id, parent_.rank(), ranks_, parent_.device());
  }
  return outcome_of(*meeting_);
}

}  // namespace sim
