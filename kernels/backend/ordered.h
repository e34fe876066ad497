// Memory access with a stated order, in PTX. kernels/device/ordered.h has the contract.
#ifndef DIME_KERNELS_BACKEND_ORDERED_H
#define DIME_KERNELS_BACKEND_ORDERED_H

namespace dime {

// Relaxed, system scope: atomic by the 64-bit word and ordered with nothing.
DIME_DEVICE void store_relaxed_sys(uint64_t address, Pair value) {
  asm volatile("st.relaxed.sys.global.v2.b64 [%0], {%1, %2};" ::"l"(address), "l"(value.lo), "l"(value.hi)
               : "memory");
}

DIME_DEVICE Pair load_relaxed_sys(uint64_t address) {
  Pair value;
  asm volatile("ld.relaxed.sys.global.v2.b64 {%0, %1}, [%2];"
               : "=l"(value.lo), "=l"(value.hi)
               : "l"(address)
               : "memory");
  return value;
}

DIME_DEVICE uint32_t load_relaxed_sys_u32(uint64_t address) {
  uint32_t value;
  asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
  return value;
}

DIME_DEVICE void store_relaxed_sys_u32(uint64_t address, uint32_t value) {
  asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(address), "r"(value) : "memory");
}

// Everything this thread did or saw before is visible to whoever acquires the value.
DIME_DEVICE void store_release_sys_u32(uint64_t address, uint32_t value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(address), "r"(value) : "memory");
}

DIME_DEVICE uint32_t load_acquire_sys_u32(uint64_t address) {
  uint32_t value;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
  return value;
}

// As above, within this GPU.
DIME_DEVICE uint64_t load_acquire_gpu_u64(uint64_t address) {
  uint64_t value;
  asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(address) : "memory");
  return value;
}

DIME_DEVICE void fence_acq_rel_sys() { asm volatile("fence.acq_rel.sys;" ::: "memory"); }

// Plain accesses, for memory that one GPU alone touches during a launch.
DIME_DEVICE Pair load_plain_pair(uint64_t address) {
  Pair value;
  asm volatile("ld.global.v2.b64 {%0, %1}, [%2];" : "=l"(value.lo), "=l"(value.hi) : "l"(address) : "memory");
  return value;
}

DIME_DEVICE void store_plain_pair(uint64_t address, Pair value) {
  asm volatile("st.global.v2.b64 [%0], {%1, %2};" ::"l"(address), "l"(value.lo), "l"(value.hi) : "memory");
}

template <class T>
DIME_DEVICE T load_plain(uint64_t address) {
  return *reinterpret_cast<const T *>(address);
}

template <class T>
DIME_DEVICE void store_plain(uint64_t address, T value) {
  *reinterpret_cast<T *>(address) = value;
}

// Changes a word that only its own GPU touches. Release, within this GPU: what this thread did or saw before is visible to whoever
// acquires the result, also when others have added to it since.
DIME_DEVICE void add_release_gpu_u64(uint64_t address, uint64_t value) {
  asm volatile("red.release.gpu.global.add.u64 [%0], %1;" ::"l"(address), "l"(value) : "memory");
}
DIME_DEVICE void or_release_gpu_u64(uint64_t address, uint64_t value) {
  asm volatile("red.release.gpu.global.or.b64 [%0], %1;" ::"l"(address), "l"(value) : "memory");
}

// Adds to a counter that only its own GPU touches. Relaxed.
DIME_DEVICE void add_relaxed_u32(uint64_t address, uint32_t value) {
  atomicAdd(reinterpret_cast<uint32_t *>(address), value);
}

}  // namespace dime

#endif
