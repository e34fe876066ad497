// What each collective does: who sends what to whom, and who reduces.
#ifndef DIME_SIM_NCCL_COLLECTIVES_H
#define DIME_SIM_NCCL_COLLECTIVES_H

#include <vector>

#include "call.h"
#include "communicator.h"
#include "operation.h"

namespace sim {

// Throws unless the arguments are such as NCCL accepts.
void check_arguments(const Call &call, const Communicator &communicator);

// The calls of one group on one communicator, as this rank's operations: the collectives in order, then all sends and
// receives as one. Throws when a send to this rank itself has no receive.
std::vector<Operation> operations_of(const std::vector<Call> &calls, int rank, int ranks);

}  // namespace sim

#endif
