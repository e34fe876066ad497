// Where a thread stands in its grid, the barrier of a block, and programmatic dependent launch, in CUDA.
#ifndef DIME_KERNELS_BACKEND_GRID_H
#define DIME_KERNELS_BACKEND_GRID_H

#include <stdint.h>

#include <backend/function.h>

namespace dime {

DIME_DEVICE uint32_t thread_index() { return threadIdx.x; }
DIME_DEVICE uint32_t block_index() { return blockIdx.x; }
DIME_DEVICE uint32_t block_threads() { return blockDim.x; }
DIME_DEVICE uint32_t grid_blocks() { return gridDim.x; }
DIME_DEVICE void block_barrier() { __syncthreads(); }
// A block barrier, behind which all threads know whether the condition held for any of them.
DIME_DEVICE bool block_barrier_any(bool condition) { return __syncthreads_or(condition) != 0; }

// Called in every round of a spin loop. The hardware needs nothing; in the simulator other threads run.
DIME_DEVICE void spin_hint() {}

// The value is computed before whatever accesses memory of other GPUs behind this. It costs nothing but the register.
DIME_DEVICE void compute_now(uint64_t &value) { asm volatile("" : "+l"(value)); }
DIME_DEVICE void compute_now(uint32_t &value) { asm volatile("" : "+r"(value)); }

// How many rounds of a spin loop pass between two looks at the abort word, a power of two. It lies in host memory and costs about
// a microsecond to read.
const uint32_t ROUNDS_PER_LOOK = 1024;

// Programmatic dependent launch. await_stream returns when every earlier launch of the stream is over and its writes are visible;
// nothing may be read before it. trigger_dependents lets the next launch of the stream take its place on the SMs now; it too waits for our
// end before it reads anything. The host asks for it only where both leave room for as much of another communicator. Without the
// launch attribute both do nothing.
DIME_DEVICE void await_stream() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
DIME_DEVICE void trigger_dependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace dime

#endif
