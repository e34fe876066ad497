// How a function becomes a kernel that the host finds by name: nvcc puts it into the fatbin. The simulator registers it
// (sim/gpu/backend/entry.h).
#ifndef DIME_KERNELS_BACKEND_ENTRY_H
#define DIME_KERNELS_BACKEND_ENTRY_H

#define DIME_ENTRY(name)
#define DIME_ENTRY_BOUNDED(name, threads)

#endif
