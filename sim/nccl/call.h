// One call of the application for data to be moved, its arguments checked.
#ifndef DIME_SIM_NCCL_CALL_H
#define DIME_SIM_NCCL_CALL_H

#include <cuda.h>
#include <nccl.h>

#include <cstddef>

#include "reduction_op.h"

namespace sim {

enum class Kind {
  ALL_REDUCE,
  REDUCE,
  BROADCAST,
  ALL_GATHER,
  REDUCE_SCATTER,
  ALL_TO_ALL,
  GATHER,
  SCATTER,
  SEND,
  RECEIVE,
};

const char *name_of(Kind kind);

struct Call {
  Kind kind;
  const void *send;
  void *receive;
  size_t count;  // as the function of this kind counts
  ncclDataType_t type;
  ReductionOp op;  // of those that reduce
  int root;        // or the peer
  CUstream stream;

  bool is_point_to_point() const { return kind == Kind::SEND || kind == Kind::RECEIVE; }
  bool reduces() const { return kind == Kind::ALL_REDUCE || kind == Kind::REDUCE || kind == Kind::REDUCE_SCATTER; }
};

}  // namespace sim

#endif
