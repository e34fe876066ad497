// Memory accesses with a stated order and scope. Every access to memory that another GPU or the host accesses
// during a launch goes through <backend/ordered.h>, where each function states its order and scope. All other
// accesses are plain.
//
// In the PTX memory model a vector access is a set of scalar accesses in no particular order, each whole up
// to 64 bits. The kernels rely on no more: a protocol may trust a 64-bit word, never a pair.
//
// The include path chooses the backend: kernels/backend/ for the GPU; sim/gpu/backend/ for the simulator, which
// delays and reorders what the model allows.
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
