// Runs random schedules of the kernels: schedules FIRST_SEED COUNT [--until-failure] [--aborts]
//
// Prints how many schedules ran and which failed. A failure is repeated exactly by its seed and a count of 1.
// The exit status is 1 if a schedule failed. --until-failure stops at the first failure, which is what the
// broken variants must reach. --aborts aborts a rank in every schedule.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "schedule.h"

int main(int argc, char **argv) {
  bool until_failure = false, aborts = false, is_understood = argc >= 3;
  for (int i = 3; i < argc; ++i) {
    if (strcmp(argv[i], "--until-failure") == 0)
      until_failure = true;
    else if (strcmp(argv[i], "--aborts") == 0)
      aborts = true;
    else
      is_understood = false;
  }
  if (!is_understood) {
    fprintf(stderr, "usage: %s FIRST_SEED COUNT [--until-failure] [--aborts]\n", argv[0]);
    return 2;
  }
  const uint64_t first = strtoull(argv[1], nullptr, 10), count = strtoull(argv[2], nullptr, 10);
  uint64_t failures = 0, launches = 0, ran = 0;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    const schedules::Outcome outcome = schedules::run_schedule(seed, aborts);
    launches += outcome.launches;
    ++ran;
    if (outcome.failed_check.empty()) continue;
    if (++failures <= 10)
      printf("seed %llu: %s: %s\n", (unsigned long long)seed, outcome.failed_check.c_str(), outcome.details.c_str());
    if (until_failure) break;
  }
  printf("schedules %llu, launches %llu, failures %llu, first seed %llu\n", (unsigned long long)ran,
         (unsigned long long)launches, (unsigned long long)failures, (unsigned long long)first);
  return failures != 0;
}
