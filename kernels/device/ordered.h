// Memory access with a stated order. Everything that crosses between GPUs, and between a GPU and
// the host, goes through the functions of <backend/ordered.h>; all else is a plain access.
//
// The PTX memory model treats a vector access as scalar accesses in no particular order, each whole
// up to 64 bits. Nothing here relies on more: a protocol may trust a 64-bit word, never a pair.
//
// A backend is chosen by include path: kernels/backend/ for nvcc, sim/gpu/backend/ for the simulator, which can delay and reorder what the
// model allows.
#ifndef DIME_KERNELS_DEVICE_ORDERED_H
#define DIME_KERNELS_DEVICE_ORDERED_H

#include <stdint.h>

#include <backend/function.h>

namespace dime {

struct Pair {
  uint64_t lo, hi;
};

}  // namespace dime

#include <backend/ordered.h>

#endif
