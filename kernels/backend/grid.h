// A thread's indices in its grid, the block barrier, and programmatic dependent launch, in CUDA.
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
// A block barrier that also tells every thread whether the condition holds for any thread of the block.
DIME_DEVICE bool block_barrier_any(bool condition) { return __syncthreads_or(condition) != 0; }

// Called in every round of a spin loop. The hardware needs no hint; in the simulator other threads run
// meanwhile.
DIME_DEVICE void spin_hint() {}

// Makes the compiler compute `value` here, before the ordered accesses that follow in the program. Costs no
// instruction, but a register.
DIME_DEVICE void compute_now(uint64_t &value) { asm volatile("" : "+l"(value)); }
DIME_DEVICE void compute_now(uint32_t &value) { asm volatile("" : "+r"(value)); }

// Rounds of a spin loop for each load of the host's command, a power of two. The command lies in host memory,
// so a load takes about a microsecond.
const uint32_t ROUNDS_PER_LOOK = 1024;

// Programmatic dependent launch. Both functions do nothing in a launch without the attribute, or below
// compute capability 9.0.
//
// await_stream returns when every earlier launch of the stream has ended and its writes are visible. A kernel
// loads nothing from memory before it.
//
// trigger_dependents lets the next launch of the stream start, that is, occupy SMs, while this one runs. That
// launch waits in its own await_stream for the end of this one. The host asks for it only for small launches,
// so that two of them leave room for as many blocks of another communicator (docs/kernels.md, co-residency).
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
