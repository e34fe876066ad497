// The simulator's form of kernels/backend/grid.h.
#ifndef DIME_SIM_GPU_BACKEND_GRID_H
#define DIME_SIM_GPU_BACKEND_GRID_H

#include <sim/gpu/current_thread.h>

namespace dime {

using sim::current_thread::block_barrier;
using sim::current_thread::block_barrier_any;
using sim::current_thread::block_index;
using sim::current_thread::block_threads;
using sim::current_thread::spin_hint;
using sim::current_thread::grid_blocks;
using sim::current_thread::thread_index;

// Few, since a load of the host's command costs nothing here, and a round takes as long as all other threads
// together run.
const uint32_t ROUNDS_PER_LOOK = 4;

inline void compute_now(uint64_t &) {}
inline void compute_now(uint32_t &) {}

inline void await_stream() { sim::current_thread::await_earlier_launches(); }
inline void trigger_dependents() { sim::current_thread::let_dependents_start(); }

}  // namespace dime

#endif
