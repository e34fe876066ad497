// Pseudo-random numbers, the same for the same seed: splitmix64.
#ifndef DIME_SIM_GPU_RANDOM_H
#define DIME_SIM_GPU_RANDOM_H

#include <cstdint>

namespace sim {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t x = state_ += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
  }
  // 0 .. limit - 1
  uint32_t below(uint32_t limit) { return uint32_t((uint64_t(uint32_t(next())) * limit) >> 32); }
  // True once in `n` times.
  bool once_in(uint32_t n) { return below(n) == 0; }

 private:
  uint64_t state_;
};

}  // namespace sim

#endif
