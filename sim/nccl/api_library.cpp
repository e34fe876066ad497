// Functions of the interface that concern the library itself and memory.
#include <cuda.h>
#include <nccl.h>

#include "exported.h"
#include "failure.h"
#include "shared_state.h"
#include "unique_id.h"

using namespace sim;

namespace {

// The interface is that of this release, without windows, device communicators and configurations of calls other than
// all-reduces.
constexpr int VERSION_CODE = NCCL_VERSION(2, 31, 2);

}  // namespace

EXPORTED ncclResult_t ncclGetVersion(int *version) {
  return boundary("ncclGetVersion", [&] {
    if (!version) fail(ncclInvalidArgument, "the place for the version is NULL");
    *version = VERSION_CODE;
    return ncclSuccess;
  });
}

EXPORTED const char *ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess: return "no error";
    case ncclUnhandledCudaError: return "a CUDA call failed";
    case ncclSystemError: return "a system call failed";
    case ncclInternalError: return "internal error";
    case ncclInvalidArgument: return "invalid argument";
    case ncclInvalidUsage: return "invalid usage";
    case ncclRemoteError: return "another rank failed";
    case ncclInProgress: return "operation in progress";
    default: return "unknown result";
  }
}

EXPORTED const char *ncclGetLastError(ncclComm_t) { return last_noted(); }

EXPORTED ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
  return boundary("ncclGetUniqueId", [&] {
    if (!id) fail(ncclInvalidArgument, "the place for the id is NULL");
    *id = make_unique_id(SharedState::bytes_for(SharedState::MOST_RANKS));
    return ncclSuccess;
  });
}

EXPORTED ncclResult_t ncclMemAlloc(void **memory, size_t bytes) {
  return boundary("ncclMemAlloc", [&] {
    if (!memory) fail(ncclInvalidArgument, "the place for the address is NULL");
    CUdeviceptr address = 0;
    if (bytes) check_driver(cuMemAlloc(&address, bytes), "cuMemAlloc");
    *memory = reinterpret_cast<void *>(address);
    return ncclSuccess;
  });
}

EXPORTED ncclResult_t ncclMemFree(void *memory) {
  return boundary("ncclMemFree", [&] {
    if (memory) check_driver(cuMemFree(reinterpret_cast<CUdeviceptr>(memory)), "cuMemFree");
    return ncclSuccess;
  });
}
