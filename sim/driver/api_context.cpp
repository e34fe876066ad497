// Contexts.
#include "api.h"

using namespace sim;

namespace {

// Of a handle that is not null.
Context &context_of(CUcontext handle) {
  auto context = Driver::instance().contexts.find(handle);
  require(context != nullptr, CUDA_ERROR_INVALID_CONTEXT);
  return *context;
}

}  // namespace

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  return call("cuDevicePrimaryCtxRetain", [&](Lock &) {
    require(context);
    Context &primary = *Driver::instance().device(device).context;
    primary.retain();
    *context = primary.handle;
  });
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  return call("cuDevicePrimaryCtxRelease",
              [&](Lock &lock) { Driver::instance().device(device).context->release(lock); });
}

CUresult cuCtxSynchronize() {
  return call("cuCtxSynchronize", [&](Lock &lock) {
    require(!context_stack().empty(), CUDA_ERROR_INVALID_CONTEXT);
    require_no_capture();
    context_stack().back()->device.engine.synchronize(lock);
  });
}

CUresult cuCtxGetCurrent(CUcontext *context) {
  return call("cuCtxGetCurrent", [&](Lock &) {
    require(context);
    *context = context_stack().empty() ? nullptr : context_stack().back()->handle;
  });
}

CUresult cuCtxSetCurrent(CUcontext context) {
  return call("cuCtxSetCurrent", [&](Lock &) {
    Context *next = context ? &context_of(context) : nullptr;
    if (!context_stack().empty()) context_stack().pop_back();
    if (next) context_stack().push_back(next);
  });
}

CUresult cuCtxPushCurrent_v2(CUcontext context) {
  return call("cuCtxPushCurrent", [&](Lock &) { context_stack().push_back(&context_of(context)); });
}

CUresult cuCtxPopCurrent_v2(CUcontext *context) {
  return call("cuCtxPopCurrent", [&](Lock &) {
    require(!context_stack().empty(), CUDA_ERROR_INVALID_CONTEXT);
    if (context) *context = context_stack().back()->handle;
    context_stack().pop_back();
  });
}

CUresult cuCtxGetDevice(CUdevice *device) {
  return call("cuCtxGetDevice", [&](Lock &) {
    require(device);
    *device = current_context().device.ordinal;
  });
}

// Also for a context that is not current; null means the current one.
CUresult cuCtxGetId(CUcontext context, unsigned long long *id) {
  return call("cuCtxGetId", [&](Lock &) {
    require(id);
    const Context &asked = context ? context_of(context) : current_context();
    require(asked.is_active(), CUDA_ERROR_INVALID_CONTEXT);
    *id = asked.id();
  });
}

CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned flags) {
  return call("cuCtxEnablePeerAccess", [&](Lock &) {
    require(flags == 0);
    Context &context = current_context(), &other = context_of(peer);
    require(&context != &other, CUDA_ERROR_INVALID_DEVICE);
    require(other.is_active(), CUDA_ERROR_INVALID_CONTEXT);
    require(Driver::instance().link(context.device, other.device) != Link::None, CUDA_ERROR_PEER_ACCESS_UNSUPPORTED);
    require(context.peers.insert(&other).second, CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED);
  });
}
