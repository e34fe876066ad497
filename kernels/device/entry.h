// How a function becomes a kernel that the host finds by name. nvcc puts it into the fatbin; for the simulator
// DIME_ENTRY registers it (sim/gpu/device/entry.h).
#ifndef DIME_KERNELS_DEVICE_ENTRY_H
#define DIME_KERNELS_DEVICE_ENTRY_H

#ifdef __CUDACC__
#define DIME_ENTRY(name)
#define DIME_ENTRY_BOUNDED(name, threads)
#else
#include <sim/gpu/device/entry.h>
#endif

#endif
