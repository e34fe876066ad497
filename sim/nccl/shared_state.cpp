#include "shared_state.h"

#include <sys/mman.h>

#include "failure.h"

namespace sim {

namespace {

// The first place for `count` objects at `place` or behind it; `place` moves on behind them.
template <class T>
T *take(char *&place, size_t count) {
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(place) + alignof(T) - 1) / alignof(T) * alignof(T);
  T *objects = reinterpret_cast<T *>(begin);
  place = reinterpret_cast<char *>(objects + count);
  return objects;
}

}  // namespace

size_t SharedState::bytes_for(int ranks) {
  const size_t n = size_t(ranks);
  return sizeof(Header) + sizeof(Growth) + n * (sizeof(Member) + 2 * sizeof(SplitEntry) + sizeof(ShrinkEntry)) + alignof(Pipe) +
         n * n * sizeof(Pipe);
}

SharedState::SharedState(const Descriptor &memory, int ranks) : ranks_(ranks) {
  const size_t n = size_t(ranks);
  void *base = mmap(nullptr, bytes_for(ranks), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memory.number(), 0);
  if (base == MAP_FAILED) fail_with_errno("mmap of a communicator's shared state");
  char *place = static_cast<char *>(base);
  header_ = take<Header>(place, 1);
  growth_ = take<Growth>(place, 1);
  members_ = take<Member>(place, n);
  splits_ = take<SplitEntry>(place, 2 * n);
  shrinks_ = take<ShrinkEntry>(place, n);
  pipes_ = take<Pipe>(place, n * n);
}

SharedState::~SharedState() { munmap(header_, bytes_for(ranks_)); }

}  // namespace sim
