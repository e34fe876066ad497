// The state that the ranks of one communicator share, in the memory that its unique id names. It begins as zeros.
//
//   Header | Growth | Member of each rank | SplitEntry of each rank, for even and odd rounds | ShrinkEntry of each rank |
//   Pipe of each ordered pair of ranks
#ifndef DIME_SIM_NCCL_SHARED_STATE_H
#define DIME_SIM_NCCL_SHARED_STATE_H

#include <cuda.h>
#include <nccl.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "descriptor.h"
#include "pipe.h"
#include "unique_id.h"

namespace sim {

struct Header {
  Token token;
  // How many ranks the communicator has, as the first that came said.
  std::atomic<uint32_t> ranks;
  // Not 0: a rank has found that not all make the same calls, and the pipes hold nothing of meaning any more.
  std::atomic<uint32_t> is_spoiled;
};

// A rank that has come. What is said of its device holds once the state is PRESENT.
struct Member {
  enum State : uint32_t { ABSENT, CLAIMED, PRESENT };
  std::atomic<uint32_t> state;
  CUuuid device;
  int arch;
};

// What a rank says in a split. Rounds count from 1. An entry is written again two rounds later: by then all ranks have
// come to the round between, so nobody reads it any more.
struct SplitEntry {
  // Color and key hold for this round.
  std::atomic<uint64_t> round;
  int color, key;
  // The first rank of a color makes the id of the new communicator; it holds for this round.
  std::atomic<uint64_t> id_round;
  ncclUniqueId id;
};

// The first rank that stays makes the id of the smaller communicator. `shrink` says of which: a hash of who leaves
// and of how often just they have left. It is written again only when all have joined by the id.
struct ShrinkEntry {
  std::atomic<uint64_t> shrink;
  ncclUniqueId id;
};

// The rank that coordinates a growth makes the id of the larger communicator; it holds for the growth of this number. It is
// written again only when all have joined by the id.
struct Growth {
  std::atomic<uint64_t> number;
  ncclUniqueId id;
};

// One rank's mapping of it. Ranks in one process map it each for itself.
class SharedState {
 public:
  static constexpr int MOST_RANKS = 64;

  // Bytes of the memory for so many ranks.
  static size_t bytes_for(int ranks);

  SharedState(const Descriptor &memory, int ranks);
  ~SharedState();
  SharedState(const SharedState &) = delete;
  SharedState &operator=(const SharedState &) = delete;

  Header &header() { return *header_; }
  Growth &growth() { return *growth_; }
  Member &member(int rank) { return members_[rank]; }
  SplitEntry &split(int rank, uint64_t round) { return splits_[2 * rank + int(round % 2)]; }
  ShrinkEntry &shrink(int rank) { return shrinks_[rank]; }
  Pipe &pipe(int from, int to) { return pipes_[from * ranks_ + to]; }

 private:
  const int ranks_;
  Header *header_;
  Growth *growth_;
  Member *members_;
  SplitEntry *splits_;
  ShrinkEntry *shrinks_;
  Pipe *pipes_;
};

}  // namespace sim

#endif
