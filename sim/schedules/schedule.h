// One random schedule: a few ranks run a random sequence of all-reduces on their devices, with weak memory and threads in a random
// order, everything decided by one seed; results, guard bytes and the state of scratch are checked.
#ifndef DIME_SIM_SCHEDULES_SCHEDULE_H
#define DIME_SIM_SCHEDULES_SCHEDULE_H

#include <cstdint>
#include <string>

namespace schedules {

struct Outcome {
  // Empty: everything was right. Else which check failed: "result", "guard", "scratch" or "hang".
  std::string failed_check;
  std::string details;
  uint64_t launches = 0;
};

// `must_abort`: a rank is aborted in it, as in one of four otherwise.
Outcome run_schedule(uint64_t seed, bool must_abort);

}  // namespace schedules

#endif
