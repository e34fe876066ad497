// Makes a function a kernel that the host finds by name. CUDA's compiler needs nothing for that: the image
// has the name. The simulator's form registers it (sim/gpu/backend/entry.h).
#ifndef DIME_KERNELS_BACKEND_ENTRY_H
#define DIME_KERNELS_BACKEND_ENTRY_H

#define DIME_ENTRY(name)
#define DIME_ENTRY_BOUNDED(name, threads)

#endif
