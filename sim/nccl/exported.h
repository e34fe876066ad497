// Marks a function of the interface. Everything else is hidden.
#ifndef DIME_SIM_NCCL_EXPORTED_H
#define DIME_SIM_NCCL_EXPORTED_H

#define EXPORTED extern "C" __attribute__((visibility("default")))

#endif
