#include "meeting.h"

#include <cstring>

#include "device.h"
#include "failure.h"

namespace sim {

Meeting::Meeting(const ncclUniqueId &id, int rank, int ranks, int device)
    : rank(rank), ranks(ranks), device(device), id_(id),
      state_(std::make_unique<SharedState>(open_unique_id(id), ranks)) {
  uint32_t expected = 0;
  if (!state_->header().ranks.compare_exchange_strong(expected, uint32_t(ranks)) && expected != uint32_t(ranks))
    fail(ncclInvalidArgument, "rank %d expects %d ranks, but another rank %u", rank, ranks, expected);
  Member &member = state_->member(rank);
  uint32_t state = Member::ABSENT;
  if (!member.state.compare_exchange_strong(state, Member::CLAIMED))
    fail(ncclInvalidUsage, "rank %d has joined by this unique id already", rank);
  member.device = uuid_of(device);
  member.arch = arch_of(device);
  member.state.store(Member::PRESENT, std::memory_order_release);
}

Meeting::~Meeting() { forget_unique_id(id_); }

bool Meeting::is_complete() {
  const auto is_present = [&](int rank) {
    return state_->member(rank).state.load(std::memory_order_acquire) == Member::PRESENT;
  };
  while (present_ < ranks && is_present(present_)) ++present_;
  if (present_ < ranks) return false;
  if (ranks_may_share_a_device()) return true;
  for (int one = 0; one < ranks; ++one)
    for (int other = 0; other < one; ++other)
      if (memcmp(&state_->member(one).device, &state_->member(other).device, sizeof(CUuuid)) == 0)
        fail(ncclInvalidUsage, "ranks %d and %d are on one device", other, one);
  return true;
}

}  // namespace sim
