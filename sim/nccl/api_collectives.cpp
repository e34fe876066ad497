// Functions of the interface that move data, reduction operations, and groups.
#include <nccl.h>

#include <cstring>

#include "collectives.h"
#include "exported.h"
#include "failure.h"
#include "group.h"
#include "handle.h"

using namespace sim;

namespace {

ncclResult_t issue(Kind kind, const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                   int root, ncclComm_t comm, cudaStream_t stream) {
  return group::boundary(name_of(kind), [&] {
    Communicator &communicator = usable(comm);
    Call call = {kind, send, receive, count, type, {}, root, stream};
    check_arguments(call, communicator);
    if (call.reduces()) call.op = communicator.operation(op, type);
    return count ? group::add(comm, call) : ncclSuccess;
  });
}

}  // namespace

EXPORTED ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                                    ncclComm_t comm, cudaStream_t stream) {
  return issue(Kind::ALL_REDUCE, send, receive, count, type, op, 0, comm, stream);
}

// Its configuration changes nothing here, but is checked as NCCL does.
EXPORTED ncclResult_t ncclAllReduceConfig(const void *send, void *receive, size_t count, ncclDataType_t type,
                                          ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream,
                                          const ncclCollConfig_t *config) {
  const ncclResult_t checked = boundary("ncclAllReduceConfig", [&] {
    if (config && config->magic != NCCL_API_MAGIC)
      fail(ncclInvalidArgument, "the configuration was not initialized with NCCL_COLLCONFIG_INITIALIZER");
    if (config && config->maxCTAs != NCCL_CONFIG_UNDEF_INT && config->maxCTAs < 1)
      fail(ncclInvalidArgument, "maxCTAs is %d", config->maxCTAs);
    return ncclSuccess;
  });
  return checked ? checked : ncclAllReduce(send, receive, count, type, op, comm, stream);
}

EXPORTED ncclResult_t ncclReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                                 int root, ncclComm_t comm, cudaStream_t stream) {
  return issue(Kind::REDUCE, send, receive, count, type, op, root, comm, stream);
}

EXPORTED ncclResult_t ncclBroadcast(const void *send, void *receive, size_t count, ncclDataType_t type, int root,
                                    ncclComm_t comm, cudaStream_t stream) {
  return issue(Kind::BROADCAST, send, receive, count, type, ncclSum, root, comm, stream);
}

EXPORTED ncclResult_t ncclBcast(void *buffer, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                                cudaStream_t stream) {
  return issue(Kind::BROADCAST, buffer, buffer, count, type, ncclSum, root, comm, stream);
}

EXPORTED ncclResult_t ncclAllGather(const void *send, void *receive, size_t count, ncclDataType_t type, ncclComm_t comm,
                                    cudaStream_t stream) {
  return issue(Kind::ALL_GATHER, send, receive, count, type, ncclSum, 0, comm, stream);
}

EXPORTED ncclResult_t ncclReduceScatter(const void *send, void *receive, size_t count, ncclDataType_t type,
                                        ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return issue(Kind::REDUCE_SCATTER, send, receive, count, type, op, 0, comm, stream);
}

EXPORTED ncclResult_t ncclAlltoAll(const void *send, void *receive, size_t count, ncclDataType_t type, ncclComm_t comm,
                                   cudaStream_t stream) {
  return issue(Kind::ALL_TO_ALL, send, receive, count, type, ncclSum, 0, comm, stream);
}

EXPORTED ncclResult_t ncclGather(const void *send, void *receive, size_t count, ncclDataType_t type, int root,
                                 ncclComm_t comm, cudaStream_t stream) {
  return issue(Kind::GATHER, send, receive, count, type, ncclSum, root, comm, stream);
}

EXPORTED ncclResult_t ncclScatter(const void *send, void *receive, size_t count, ncclDataType_t type, int root,
                                  ncclComm_t comm, cudaStream_t stream) {
  return issue(Kind::SCATTER, send, receive, count, type, ncclSum, root, comm, stream);
}

EXPORTED ncclResult_t ncclSend(const void *send, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                               cudaStream_t stream) {
  return issue(Kind::SEND, send, nullptr, count, type, ncclSum, peer, comm, stream);
}

EXPORTED ncclResult_t ncclRecv(void *receive, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                               cudaStream_t stream) {
  return issue(Kind::RECEIVE, nullptr, receive, count, type, ncclSum, peer, comm, stream);
}

EXPORTED ncclResult_t ncclRedOpCreatePreMulSum(ncclRedOp_t *op, void *scalar, ncclDataType_t type,
                                               ncclScalarResidence_t residence, ncclComm_t comm) {
  return boundary("ncclRedOpCreatePreMulSum", [&] {
    Communicator &communicator = usable(comm);
    if (!op || !scalar) fail(ncclInvalidArgument, "no place for the operation, or no scalar");
    if (type < 0 || type >= ncclNumTypes) fail(ncclInvalidArgument, "%d is no data type", int(type));
    ReductionOp made;
    made.common = ncclNumOps;
    made.has_factor = true;
    switch (residence) {
      case ncclScalarDevice: made.factor_address = scalar; break;
      case ncclScalarHostImmediate: memcpy(made.factor, scalar, bytes_of(type)); break;
      default: fail(ncclInvalidArgument, "%d is no residence of a scalar", int(residence));
    }
    *op = communicator.add_operation(made, type);
    return ncclSuccess;
  });
}

EXPORTED ncclResult_t ncclRedOpDestroy(ncclRedOp_t op, ncclComm_t comm) {
  return boundary("ncclRedOpDestroy", [&] {
    usable(comm).remove_operation(op);
    return ncclSuccess;
  });
}

EXPORTED ncclResult_t ncclGroupStart() {
  group::start();
  return ncclSuccess;
}

EXPORTED ncclResult_t ncclGroupEnd() { return boundary("ncclGroupEnd", group::end); }

EXPORTED ncclResult_t ncclGroupSimulateEnd(ncclSimInfo_t *info) {
  return boundary("ncclGroupSimulateEnd", [&] {
    group::end_without_work(info);
    return ncclSuccess;
  });
}
