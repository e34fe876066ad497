// The probe of a communicator's setup, in two kernels. It proves that a peer's stores arrive where this rank
// loads them, over the whole range of scratch.
//
//   1. dime_probe_write: each rank writes a pattern into every peer's scratch.
//   2. The ranks synchronise, in a round of the setup.
//   3. dime_probe_check: each rank compares what every peer has written into its scratch.
//
// Who writes, who reads: each sender writes words of its own, 8 * `from` bytes into every stride, and only
// the owner of the scratch reads them.
//
// Order: all accesses are plain. The writing kernel of every rank has ended before the ranks synchronise, and
// the checking kernel starts after that.
#ifndef DIME_KERNELS_SETUP_H
#define DIME_KERNELS_SETUP_H

#include "layout.h"
#include <backend/entry.h>
#include <backend/grid.h>
#include "device/ordered.h"

// The pattern that rank `from` writes as its 64-bit word number `word` into the scratch of rank `to`.
DIME_DEVICE uint64_t dime_probe_pattern(uint32_t from, uint32_t to, uint64_t word, uint64_t salt) {
  uint64_t x = salt + word * 0x9e3779b97f4a7c15ull + (uint64_t(from) << 56 | uint64_t(to) << 48);
  x ^= x >> 31;
  x *= 0xbf58476d1ce4e5b9ull;
  return x ^ (x >> 29);
}

extern "C" __global__ void dime_probe_write(uint64_t scratch, uint32_t from, uint32_t to, uint64_t salt) {
  using namespace dime;
  const uint64_t words = DIME_SCRATCH_BYTES / DIME_PROBE_STRIDE;
  const uint64_t step = grid_blocks() * block_threads();
  for (uint64_t word = block_index() * block_threads() + thread_index(); word < words; word += step)
    store_plain(scratch + word * DIME_PROBE_STRIDE + 8u * from, dime_probe_pattern(from, to, word, salt));
}
DIME_ENTRY(dime_probe_write)

// Adds the number of words that differ from the pattern to the 32-bit word at `wrong`.
extern "C" __global__ void dime_probe_check(uint64_t scratch, uint32_t from, uint32_t to, uint64_t salt,
                                            uint64_t wrong) {
  using namespace dime;
  const uint64_t words = DIME_SCRATCH_BYTES / DIME_PROBE_STRIDE;
  const uint64_t step = grid_blocks() * block_threads();
  for (uint64_t word = block_index() * block_threads() + thread_index(); word < words; word += step)
    if (load_plain<uint64_t>(scratch + word * DIME_PROBE_STRIDE + 8u * from) != dime_probe_pattern(from, to, word, salt))
      add_relaxed_u32(wrong, 1u);
}
DIME_ENTRY(dime_probe_check)

#endif
