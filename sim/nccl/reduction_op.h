// What an ncclRedOp_t stands for.
#ifndef DIME_SIM_NCCL_REDUCTION_OP_H
#define DIME_SIM_NCCL_REDUCTION_OP_H

#include <nccl.h>

#include "numbers.h"

namespace sim {

struct ReductionOp {
  // Equal on all ranks: ncclNumOps for all that the application made, whose handles may differ.
  ncclRedOp_t common = ncclSum;
  Reduction reduction;
  // A rank multiplies its own contribution first: by the element at `factor_address`, read when the work runs, or else
  // by that in `factor`.
  bool has_factor = false;
  const void *factor_address = nullptr;
  unsigned char factor[8] = {};
};

}  // namespace sim

#endif
