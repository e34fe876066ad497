// The simulator's form of kernels/backend/function.h.
#ifndef DIME_SIM_GPU_BACKEND_FUNCTION_H
#define DIME_SIM_GPU_BACKEND_FUNCTION_H

#define DIME_DEVICE inline
#define DIME_DEVICE_COLD inline

#endif
