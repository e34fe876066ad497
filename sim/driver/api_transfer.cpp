// Copies and fills.
//
// Pageable memory of the host goes through staging, as with the real driver: a copy from it may be changed as soon as
// the call returns, and a copy to it is over then.
#include "api.h"
#include "transfer.h"

using namespace sim;

namespace {

void *pointer(CUdeviceptr address) { return reinterpret_cast<void *>(address); }

void require_memory(CUdeviceptr address, size_t bytes) {
  const Driver &driver = Driver::instance();
  require(driver.memory.covers(address, bytes) || driver.virtual_memory.covers(address, bytes));
}

void copy_to_device(Lock &lock, Stream &stream, CUdeviceptr to, const void *from, size_t bytes) {
  require(from);
  require_memory(to, bytes);
  stream.require_open();
  if (bytes == 0) return;
  if (stream.capture() || Driver::instance().memory.is_pinned(from, bytes))
    stream.enqueue(lock, std::make_shared<Copy>(pointer(to), from, bytes));
  else
    stream.enqueue(lock, std::make_shared<StagedCopy>(pointer(to), from, bytes));
}

void copy_to_host(Lock &lock, Stream &stream, void *to, CUdeviceptr from, size_t bytes) {
  require(to);
  require_memory(from, bytes);
  stream.require_open();
  if (bytes == 0) return;
  stream.enqueue(lock, std::make_shared<Copy>(to, pointer(from), bytes));
  if (!stream.capture() && !Driver::instance().memory.is_pinned(to, bytes)) lock.wait_for(stream.unfinished());
}

void fill(Lock &lock, CUstream handle, CUdeviceptr to, uint32_t value, size_t element_bytes, size_t elements) {
  auto stream = find_stream(handle);
  require(to % element_bytes == 0 && elements <= SIZE_MAX / element_bytes);
  require_memory(to, elements * element_bytes);
  stream->require_open();
  if (elements == 0) return;
  stream->enqueue(lock, std::make_shared<Fill>(pointer(to), value, element_bytes, elements));
}

}  // namespace

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes) {
  return call("cuMemcpyHtoD", [&](Lock &lock) {
    require_no_capture();
    auto stream = find_stream(CU_STREAM_LEGACY);
    copy_to_device(lock, *stream, to, from, bytes);
    lock.wait_for(stream->unfinished());
  });
}

CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes) {
  return call("cuMemcpyDtoH", [&](Lock &lock) {
    require_no_capture();
    auto stream = find_stream(CU_STREAM_LEGACY);
    copy_to_host(lock, *stream, to, from, bytes);
    lock.wait_for(stream->unfinished());
  });
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
  return call("cuMemcpyHtoDAsync", [&](Lock &lock) { copy_to_device(lock, *find_stream(stream), to, from, bytes); });
}

CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return call("cuMemcpyDtoHAsync", [&](Lock &lock) { copy_to_host(lock, *find_stream(stream), to, from, bytes); });
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream handle) {
  return call("cuMemcpyDtoDAsync", [&](Lock &lock) {
    auto stream = find_stream(handle);
    require_memory(to, bytes);
    require_memory(from, bytes);
    stream->require_open();
    if (bytes != 0) stream->enqueue(lock, std::make_shared<Copy>(pointer(to), pointer(from), bytes));
  });
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t elements, CUstream stream) {
  return call("cuMemsetD8Async", [&](Lock &lock) { fill(lock, stream, to, value, 1, elements); });
}

CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t elements, CUstream stream) {
  return call("cuMemsetD32Async", [&](Lock &lock) { fill(lock, stream, to, value, 4, elements); });
}
