// One random schedule: a few ranks run a random sequence of all-reduces on their devices, with weak memory
// and with threads in a random order. The seed decides everything. Afterwards results, guard bytes and the
// state of scratch are checked.
#ifndef DIME_SIM_SCHEDULES_SCHEDULE_H
#define DIME_SIM_SCHEDULES_SCHEDULE_H

#include <cstdint>
#include <string>

namespace schedules {

struct Outcome {
  // Empty if all checks passed. Else the check that failed: "result", "guard", "scratch" or "hang".
  std::string failed_check;
  std::string details;
  uint64_t launches = 0;
};

// `must_abort`: a rank is aborted in this schedule. Without it, that happens in a quarter of the schedules.
Outcome run_schedule(uint64_t seed, bool must_abort);

}  // namespace schedules

#endif
