// Memory accesses with a stated order and scope, in PTX. kernels/device/ordered.h says who uses which.
#ifndef DIME_KERNELS_BACKEND_ORDERED_H
#define DIME_KERNELS_BACKEND_ORDERED_H

namespace dime {

// Relaxed, system scope: each 64-bit word is whole; no order with other accesses.
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

// Release: everything that this thread did or saw before is visible to a thread that acquires the value.
DIME_DEVICE void store_release_sys_u32(uint64_t address, uint32_t value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(address), "r"(value) : "memory");
}

DIME_DEVICE uint32_t load_acquire_sys_u32(uint64_t address) {
  uint32_t value;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
  return value;
}

// Acquire of device scope: from releases of this GPU's threads.
DIME_DEVICE uint64_t load_acquire_gpu_u64(uint64_t address) {
  uint64_t value;
  asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(address) : "memory");
  return value;
}

DIME_DEVICE void fence_acq_rel_sys() { asm volatile("fence.acq_rel.sys;" ::: "memory"); }

// Plain accesses. For memory that only one GPU accesses during a launch, or whose accesses flags order.
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

// Atomic changes of a word that only its own GPU accesses. Release, device scope: everything that this thread
// did or saw before is visible to a thread that acquires the result, also after further atomic changes by
// other threads.
DIME_DEVICE void add_release_gpu_u64(uint64_t address, uint64_t value) {
  asm volatile("red.release.gpu.global.add.u64 [%0], %1;" ::"l"(address), "l"(value) : "memory");
}
DIME_DEVICE void or_release_gpu_u64(uint64_t address, uint64_t value) {
  asm volatile("red.release.gpu.global.or.b64 [%0], %1;" ::"l"(address), "l"(value) : "memory");
}

// Adds to a counter that only its own GPU accesses, and returns what it was before. Relaxed.
DIME_DEVICE uint32_t fetch_add_relaxed_u32(uint64_t address, uint32_t value) {
  return atomicAdd(reinterpret_cast<uint32_t *>(address), value);
}

}  // namespace dime

#endif
