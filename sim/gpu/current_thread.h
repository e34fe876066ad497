// What a simulated thread executes: thread indices, barriers, programmatic dependent launch and memory
// accesses of the thread whose fiber runs on the calling OS thread. sim/gpu/backend/ gives them the kernels'
// names.
#ifndef DIME_SIM_GPU_CURRENT_THREAD_H
#define DIME_SIM_GPU_CURRENT_THREAD_H

#include <cstdint>

#include "weak_memory.h"

namespace sim::current_thread {

uint32_t thread_index();
uint32_t block_index();
uint32_t block_threads();
uint32_t grid_blocks();

void block_barrier();
bool block_barrier_any(bool condition);
// Ends a round of a spin loop: other threads run.
void spin_hint();
// griddepcontrol.wait and griddepcontrol.launch_dependents.
void await_earlier_launches();
void let_dependents_start();

uint64_t load(uint64_t address, uint32_t bytes, Scope scope, bool acquire);
void store(uint64_t address, uint32_t bytes, uint64_t value, Scope scope, bool release);
// Atomic add and or, of 4 or 8 bytes. `add` returns the value before.
uint64_t add(uint64_t address, uint32_t bytes, uint64_t value, bool release);
void bit_or(uint64_t address, uint32_t bytes, uint64_t value, bool release);
void fence_system();

}  // namespace sim::current_thread

#endif
