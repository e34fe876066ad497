// Streams, events, and work of the host in streams.
#include "api.h"
#include "host_work.h"

// The declaration has no CUDA header to get its visibility from.
#pragma GCC visibility push(default)
extern "C" int dimeSimLaunchPolled(void *stream, const dimeSimPolled *work);
#pragma GCC visibility pop

using namespace sim;

namespace {

CUresult create_stream(CUstream *stream, unsigned flags) {
  require(stream && (flags == CU_STREAM_DEFAULT || flags == CU_STREAM_NON_BLOCKING));
  *stream = Driver::instance().streams.add(current_context().create_stream(flags == CU_STREAM_DEFAULT));
  return CUDA_SUCCESS;
}

// A host may not wait for a captured stream, nor ask how far it is.
void require_not_captured(Stream &stream) {
  if (!stream.capture()) return;
  stream.capture()->invalidate();
  fail(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
}

}  // namespace

CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
  return call("cuStreamCreate", [&](Lock &) { return create_stream(stream, flags); });
}

// A priority is a hint, and so is taken and ignored.
CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int /*priority*/) {
  return call("cuStreamCreateWithPriority", [&](Lock &) { return create_stream(stream, flags); });
}

CUresult cuStreamDestroy_v2(CUstream handle) {
  return call("cuStreamDestroy", [&](Lock &lock) {
    require(handle && handle != CU_STREAM_LEGACY && handle != CU_STREAM_PER_THREAD, CUDA_ERROR_INVALID_HANDLE);
    auto stream = find_stream(handle);
    require_not_captured(*stream);
    stream->retire();
    Driver::instance().streams.remove(handle);
    lock.drop_later(std::move(stream));
  });
}

// Not of a stream that is captured: seen with driver 580.159.
CUresult cuStreamGetId(CUstream handle, unsigned long long *id) {
  return call("cuStreamGetId", [&](Lock &) {
    require(id);
    auto stream = find_stream(handle);
    require_not_captured(*stream);
    *id = stream->id;
  });
}

CUresult cuStreamQuery(CUstream handle) {
  return call("cuStreamQuery", [&](Lock &) {
    auto stream = find_stream(handle);
    require_not_captured(*stream);
    require_no_capture();
    stream->require_open();
    return stream->unfinished().empty() ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
  });
}

CUresult cuStreamSynchronize(CUstream handle) {
  return call("cuStreamSynchronize", [&](Lock &lock) {
    auto stream = find_stream(handle);
    require_not_captured(*stream);
    require_no_capture();
    stream->require_open();
    lock.wait_for(stream->unfinished());
  });
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) {
  return call("cuStreamWaitEvent", [&](Lock &lock) {
    require(flags == CU_EVENT_WAIT_DEFAULT || flags == CU_EVENT_WAIT_EXTERNAL);
    auto waiting = find_stream(stream);
    auto awaited = find(Driver::instance().events, event);
    if (flags == CU_EVENT_WAIT_EXTERNAL)
      waiting->enqueue_wait(std::move(awaited));
    else
      awaited->make_wait(lock, *waiting);
  });
}

CUresult cuEventCreate(CUevent *event, unsigned flags) {
  return call("cuEventCreate", [&](Lock &) {
    constexpr unsigned KNOWN = CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS;
    require(event && (flags & ~KNOWN) == 0);
    require_simulated((flags & CU_EVENT_INTERPROCESS) == 0, "cuEventCreate", "flags", flags);
    const bool has_timing = (flags & CU_EVENT_DISABLE_TIMING) == 0;
    *event = Driver::instance().events.add(std::make_shared<Event>(current_context(), has_timing));
  });
}

CUresult cuEventDestroy_v2(CUevent event) {
  return call("cuEventDestroy", [&](Lock &lock) {
    find(Driver::instance().events, event);
    lock.drop_later(Driver::instance().events.remove(event));
  });
}

CUresult cuEventRecord(CUevent handle, CUstream stream) {
  return call("cuEventRecord", [&](Lock &lock) {
    auto recording = find_stream(stream);
    auto event = find(Driver::instance().events, handle);
    require(&event->context == &recording->context, CUDA_ERROR_INVALID_HANDLE);
    event->record(lock, *recording);
  });
}

CUresult cuEventQuery(CUevent event) {
  return call("cuEventQuery", [&](Lock &) {
    require_no_capture();
    const auto &task = find(Driver::instance().events, event)->recorded();
    return !task || task->is_over() ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
  });
}

CUresult cuEventSynchronize(CUevent event) {
  return call("cuEventSynchronize", [&](Lock &lock) {
    require_no_capture();
    if (auto task = find(Driver::instance().events, event)->recorded()) lock.wait_for({task});
  });
}

CUresult cuEventElapsedTime(float *ms, CUevent start, CUevent end) {
  return call("cuEventElapsedTime", [&](Lock &) {
    require(ms);
    auto first = find(Driver::instance().events, start), last = find(Driver::instance().events, end);
    require(first->has_timing && last->has_timing && first->recorded() && last->recorded(), CUDA_ERROR_INVALID_HANDLE);
    require(first->recorded()->is_over() && last->recorded()->is_over(), CUDA_ERROR_NOT_READY);
    *ms = std::chrono::duration<float, std::milli>(last->recorded()->over_at() - first->recorded()->over_at()).count();
  });
}

CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void *argument) {
  return call("cuLaunchHostFunc", [&](Lock &lock) {
    require(function);
    find_stream(stream)->enqueue(lock, std::make_shared<HostFunction>(function, argument));
  });
}

int dimeSimLaunchPolled(void *stream, const dimeSimPolled *work) {
  return call("dimeSimLaunchPolled", [&](Lock &lock) {
    require(work && work->launched && work->poll && work->destroy);
    auto open = find_stream(static_cast<CUstream>(stream));
    // The work is ours, to be destroyed here, only from where nothing fails any more.
    open->require_open();
    open->enqueue(lock, std::make_shared<PolledWork>(*work));
  });
}
