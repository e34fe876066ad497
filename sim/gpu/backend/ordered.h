// The simulator's form of kernels/backend/ordered.h.
#ifndef DIME_SIM_GPU_BACKEND_ORDERED_H
#define DIME_SIM_GPU_BACKEND_ORDERED_H

#include <sim/gpu/current_thread.h>

namespace dime {

using sim::Scope;

inline void store_pair(uint64_t address, Pair value, Scope scope) {
  sim::current_thread::store(address, 8, value.lo, scope, false);
  sim::current_thread::store(address + 8, 8, value.hi, scope, false);
}
inline Pair load_pair(uint64_t address, Scope scope) {
  // The upper word first: no protocol may rely on an order of the two loads.
  const uint64_t hi = sim::current_thread::load(address + 8, 8, scope, false);
  return {sim::current_thread::load(address, 8, scope, false), hi};
}

inline void store_relaxed_sys(uint64_t address, Pair value) { store_pair(address, value, Scope::System); }
inline Pair load_relaxed_sys(uint64_t address) { return load_pair(address, Scope::System); }
inline uint32_t load_relaxed_sys_u32(uint64_t address) {
  return uint32_t(sim::current_thread::load(address, 4, Scope::System, false));
}
inline void store_relaxed_sys_u32(uint64_t address, uint32_t value) {
  sim::current_thread::store(address, 4, value, Scope::System, false);
}
inline void store_release_sys_u32(uint64_t address, uint32_t value) {
  sim::current_thread::store(address, 4, value, Scope::System, true);
}
inline uint32_t load_acquire_sys_u32(uint64_t address) {
  return uint32_t(sim::current_thread::load(address, 4, Scope::System, true));
}
inline uint64_t load_acquire_gpu_u64(uint64_t address) {
  return sim::current_thread::load(address, 8, Scope::Device, true);
}
inline void fence_acq_rel_sys() { sim::current_thread::fence_system(); }

inline Pair load_plain_pair(uint64_t address) { return load_pair(address, Scope::Weak); }
inline void store_plain_pair(uint64_t address, Pair value) { store_pair(address, value, Scope::Weak); }

template <class T>
T load_plain(uint64_t address) {
  return T(sim::current_thread::load(address, sizeof(T), Scope::Weak, false));
}
template <class T>
void store_plain(uint64_t address, T value) {
  sim::current_thread::store(address, sizeof(T), uint64_t(value), Scope::Weak, false);
}

inline void add_release_gpu_u64(uint64_t address, uint64_t value) {
  sim::current_thread::add(address, 8, value, true);
}
inline void or_release_gpu_u64(uint64_t address, uint64_t value) {
  sim::current_thread::bit_or(address, 8, value, true);
}
inline uint32_t fetch_add_relaxed_u32(uint64_t address, uint32_t value) {
  return uint32_t(sim::current_thread::add(address, 4, value, false));
}

}  // namespace dime

#endif
