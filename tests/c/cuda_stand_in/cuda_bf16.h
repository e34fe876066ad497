/* nccl.h includes this header and uses nothing of it but this macro, without which it leaves a data type out. */
#define __CUDA_BF16_TYPES_EXIST__
