#include "failure.h"

#include <errno.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace sim {

namespace {

thread_local std::string noted;

bool warnings_are_wanted() {
  const char *level = getenv("NCCL_DEBUG");
  if (!level) return false;
  for (const char *enough : {"WARN", "INFO", "ABORT", "TRACE"})
    if (strcasecmp(level, enough) == 0) return true;
  return false;
}

}  // namespace

void fail(ncclResult_t code, const char *format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  throw Failure{code, text};
}

void fail_with_errno(const char *what) { fail(ncclSystemError, "%s: %s", what, strerror(errno)); }

void check_driver(CUresult result, const char *call) {
  if (result == CUDA_SUCCESS) return;
  const char *meaning = nullptr;
  if (cuGetErrorString(result, &meaning) != CUDA_SUCCESS || !meaning) meaning = "an unknown error";
  fail(ncclUnhandledCudaError, "%s gave %d, %s", call, int(result), meaning);
}

void note(const std::string &text) {
  noted = text;
  if (!warnings_are_wanted()) return;
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  printf("%s:%d:%d NCCL WARN %s\n", host, int(getpid()), int(gettid()), text.c_str());
  fflush(stdout);
}

const char *last_noted() { return noted.c_str(); }

}  // namespace sim
