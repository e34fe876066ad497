// Makes a function a kernel that the host finds by name. nvcc needs nothing for that: it puts the kernel into
// the fatbin. The simulator's form registers it (sim/gpu/backend/entry.h).
#ifndef DIME_KERNELS_BACKEND_ENTRY_H
#define DIME_KERNELS_BACKEND_ENTRY_H

#define DIME_ENTRY(name)
#define DIME_ENTRY_BOUNDED(name, threads)

#endif
