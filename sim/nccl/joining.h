// The ways in which one rank comes into a new communicator. None blocks: `progress` looks whether the other ranks have
// done their part.
#ifndef DIME_SIM_NCCL_JOINING_H
#define DIME_SIM_NCCL_JOINING_H

#include <nccl.h>

#include <memory>
#include <optional>
#include <vector>

#include "communicator.h"
#include "meeting.h"

namespace sim {

class Joining {
 public:
  // Nothing: others are still to come. Null: this rank joins no communicator. Throws when there will be none.
  typedef std::optional<std::unique_ptr<Communicator>> Outcome;

  virtual ~Joining() = default;
  virtual Outcome progress() = 0;
};

// By a unique id that the application passes around.
class JoiningById : public Joining {
 public:
  JoiningById(const ncclUniqueId &id, int rank, int ranks, int device) : meeting_(id, rank, ranks, device) {}
  Outcome progress() override;

 private:
  Meeting meeting_;
};

// With all ranks of a communicator that name the same color.
class JoiningBySplit : public Joining {
 public:
  JoiningBySplit(Communicator &parent, int color, int key);
  Outcome progress() override;

 private:
  bool all_have_said_their_color();
  // Meets the ranks of the same color, when the first of them has made the id.
  bool meet();

  Communicator &parent_;
  const int color_;
  const uint64_t round_;
  std::optional<Meeting> meeting_;
};

// With all ranks of a communicator but some.
class JoiningByShrink : public Joining {
 public:
  // `leave` is in ascending order, without repetitions.
  JoiningByShrink(Communicator &parent, const std::vector<int> &leave);
  Outcome progress() override;

 private:
  bool meet();

  Communicator &parent_;
  std::vector<int> stay_;
  uint64_t shrink_;
  std::optional<Meeting> meeting_;
};

// With all ranks of a communicator and new ones, which come by the unique id that one of its ranks has made.
class JoiningByGrow : public Joining {
 public:
  JoiningByGrow(Communicator &parent, int ranks) : parent_(parent), ranks_(ranks), growth_(parent.next_growth()) {}
  Outcome progress() override;

  // The id of the next growth, for the new ranks and for those of the parent.
  static ncclUniqueId coordinate(Communicator &parent);

 private:
  Communicator &parent_;
  const int ranks_;
  const uint64_t growth_;
  std::optional<Meeting> meeting_;
};

}  // namespace sim

#endif
