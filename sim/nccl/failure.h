// Failures inside this library are thrown, and become a result and the text of ncclGetLastError at its edge.
#ifndef DIME_SIM_NCCL_FAILURE_H
#define DIME_SIM_NCCL_FAILURE_H

#include <cuda.h>
#include <nccl.h>

#include <string>

namespace sim {

struct Failure {
  ncclResult_t code;
  std::string text;
};

[[noreturn]] void fail(ncclResult_t code, const char *format, ...) __attribute__((format(printf, 2, 3)));
// Throws when a system call failed just now: `what` and the text of errno.
[[noreturn]] void fail_with_errno(const char *what);
// Throws unless the driver's call went well.
void check_driver(CUresult result, const char *call);

// Keeps the text for ncclGetLastError of this thread, and writes it as a line of NCCL's log where NCCL_DEBUG asks for
// warnings.
void note(const std::string &text);
// The text kept last on this thread; empty at first. Valid until the next failure on this thread.
const char *last_noted();

// Failures that `body` throws become the result of the function of the interface.
template <class Body>
ncclResult_t boundary(const char *function, Body body) noexcept {
  try {
    return body();
  } catch (const Failure &failure) {
    note(std::string(function) + ": " + failure.text);
    return failure.code;
  } catch (const std::bad_alloc &) {
    note(std::string(function) + ": out of memory");
    return ncclSystemError;
  }
}

}  // namespace sim

#endif
