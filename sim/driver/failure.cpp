#include "failure.h"

#include <cstdio>

namespace sim {

namespace {

struct Code {
  CUresult code;
  const char *name;
  const char *text;
};

#define CODE(name, text) {name, #name, text}
constexpr Code CODES[] = {
    CODE(CUDA_SUCCESS, "no error"),
    CODE(CUDA_ERROR_INVALID_VALUE, "an argument is not valid"),
    CODE(CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
    CODE(CUDA_ERROR_NOT_INITIALIZED, "the driver is not initialized"),
    CODE(CUDA_ERROR_DEINITIALIZED, "the driver is shutting down"),
    CODE(CUDA_ERROR_NO_DEVICE, "there is no CUDA device"),
    CODE(CUDA_ERROR_INVALID_DEVICE, "there is no such device"),
    CODE(CUDA_ERROR_INVALID_IMAGE, "this is no image of device code"),
    CODE(CUDA_ERROR_INVALID_CONTEXT, "there is no such context"),
    CODE(CUDA_ERROR_MAP_FAILED, "memory could not be mapped"),
    CODE(CUDA_ERROR_ALREADY_MAPPED, "already mapped"),
    CODE(CUDA_ERROR_NOT_MAPPED, "not mapped"),
    CODE(CUDA_ERROR_PEER_ACCESS_UNSUPPORTED, "there is no peer access between these devices"),
    CODE(CUDA_ERROR_INVALID_HANDLE, "a handle is not valid"),
    CODE(CUDA_ERROR_INVALID_PTX, "the PTX cannot be compiled"),
    CODE(CUDA_ERROR_NO_BINARY_FOR_GPU, "the image has no code for this device"),
    CODE(CUDA_ERROR_LOSSY_QUERY, "there is edge data that was not asked for"),
    CODE(CUDA_ERROR_ILLEGAL_STATE, "the object is not in a state that allows this"),
    CODE(CUDA_ERROR_NOT_FOUND, "there is nothing of that name"),
    CODE(CUDA_ERROR_NOT_READY, "work is not over yet"),
    CODE(CUDA_ERROR_ILLEGAL_ADDRESS, "memory was accessed that is not there"),
    CODE(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "a block needs more than an SM has"),
    CODE(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, "peer access is enabled already"),
    CODE(CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, "peer access is not enabled"),
    CODE(CUDA_ERROR_CONTEXT_IS_DESTROYED, "the current context is gone, or was never retained"),
    CODE(CUDA_ERROR_LAUNCH_FAILED, "a launch failed"),
    CODE(CUDA_ERROR_NOT_PERMITTED, "this is not permitted"),
    CODE(CUDA_ERROR_NOT_SUPPORTED, "this is not supported"),
    CODE(CUDA_ERROR_SYSTEM_NOT_READY, "the system is not ready"),
    CODE(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "not permitted while a stream is captured"),
    CODE(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "an earlier error made the capture invalid"),
    CODE(CUDA_ERROR_STREAM_CAPTURE_MERGE, "this would join two captures"),
    CODE(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "the capture did not begin in this stream"),
    CODE(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "work of another stream was not joined to the capture's stream"),
    CODE(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "this would make captured work depend on work outside of the capture"),
    CODE(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "the default stream would depend on a captured stream"),
    CODE(CUDA_ERROR_CAPTURED_EVENT, "the event was last recorded in a capture"),
    CODE(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "the capture began in another thread"),
    CODE(CUDA_ERROR_TIMEOUT, "timed out"),
    CODE(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, "the graph differs too much from the executable one"),
    CODE(CUDA_ERROR_UNKNOWN, "unknown error"),
};
#undef CODE

const Code *find(CUresult code) {
  for (const Code &known : CODES)
    if (known.code == code) return &known;
  return nullptr;
}

}  // namespace

void fail_not_simulated(const char *function, const char *argument, uint64_t value, CUresult code) {
  const unsigned long long printed = value;
  fprintf(stderr, "dime sim: %s: %s = %llu is not simulated\n", function, argument, printed);
  fail(code);
}

const char *name_of(CUresult code) {
  const Code *known = find(code);
  return known ? known->name : nullptr;
}

const char *text_of(CUresult code) {
  const Code *known = find(code);
  return known ? known->text : nullptr;
}

}  // namespace sim
