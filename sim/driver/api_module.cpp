// Modules, functions, launches.
#include "api.h"
#include "kernel_launch.h"

using namespace sim;

namespace {

constexpr unsigned MAX_BLOCK_THREADS = 1024, MAX_GRID_BLOCKS = 0x7fffffff;

void check_config(const CUlaunchConfig &config, const Kernel &kernel) {
  const char *function = "cuLaunchKernelEx";
  require_simulated(config.gridDimY == 1 && config.gridDimZ == 1, function, "gridDimY * gridDimZ",
                    uint64_t(config.gridDimY) * config.gridDimZ);
  require_simulated(config.blockDimY == 1 && config.blockDimZ == 1, function, "blockDimY * blockDimZ",
                    uint64_t(config.blockDimY) * config.blockDimZ);
  require_simulated(config.sharedMemBytes == 0, function, "sharedMemBytes", config.sharedMemBytes);
  require(config.gridDimX != 0 && config.gridDimX <= MAX_GRID_BLOCKS);
  require(config.blockDimX != 0 && config.blockDimX <= MAX_BLOCK_THREADS);
  require(config.blockDimX <= kernel.max_threads, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
}

struct Attributes {
  Order order = Order::Full;
  std::shared_ptr<Event> event;  // to be recorded when the kernel lets its dependents start; or null
};

Attributes attributes_of(const CUlaunchConfig &config) {
  Attributes attributes;
  require(config.numAttrs == 0 || config.attrs);
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    const CUlaunchAttribute &attribute = config.attrs[i];
    if (attribute.id == CU_LAUNCH_ATTRIBUTE_IGNORE) continue;
    if (attribute.id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT) {
      const auto &value = attribute.value.programmaticEvent;
      require_simulated(value.flags == 0, "cuLaunchKernelEx", "flags of the event", value.flags);
      require_simulated(value.triggerAtBlockStart == 0, "cuLaunchKernelEx", "triggerAtBlockStart", value.triggerAtBlockStart);
      attributes.event = find(Driver::instance().events, value.event);
      require(!attributes.event->has_timing);
      continue;
    }
    require_simulated(attribute.id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION, "cuLaunchKernelEx",
                      "attribute", attribute.id);
    const bool is_allowed = attribute.value.programmaticStreamSerializationAllowed;
    attributes.order = is_allowed ? Order::Programmatic : Order::Full;
  }
  return attributes;
}

}  // namespace

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
  return call("cuModuleLoadData", [&](Lock &) {
    require(module && image);
    Context &context = current_context();
    require_no_capture();
    *module = Driver::instance().modules.add(std::make_shared<Module>(context, image));
  });
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
  return call("cuModuleGetFunction", [&](Lock &) {
    require(function && name);
    auto image = find(Driver::instance().modules, module);
    const Kernel *kernel = image->find(name);
    require(kernel, CUDA_ERROR_NOT_FOUND);
    *function = Driver::instance().functions.add(std::make_shared<Function>(Function{image->context, *kernel, image->arch}));
  });
}

// All code is there from the start.
CUresult cuFuncLoad(CUfunction function) {
  return call("cuFuncLoad", [&](Lock &) {
    find(Driver::instance().functions, function);
    require_no_capture();
  });
}

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function) {
  return call("cuFuncGetAttribute", [&](Lock &) {
    require(value);
    *value = find(Driver::instance().functions, function)->attribute(attribute);
  });
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction handle, void **parameters, void **extra) {
  return call("cuLaunchKernelEx", [&](Lock &lock) {
    require(config);
    require_simulated(!extra, "cuLaunchKernelEx", "extra", uint64_t(extra));
    auto function = find(Driver::instance().functions, handle);
    auto stream = find_stream(config->hStream);
    require(&function->context == &current_context(), CUDA_ERROR_INVALID_HANDLE);
    require(&function->context == &stream->context, CUDA_ERROR_INVALID_HANDLE);
    require(parameters || function->kernel.parameter_bytes.empty());
    check_config(*config, function->kernel);
    const Attributes attributes = attributes_of(*config);
    stream->enqueue(
        lock, std::make_shared<KernelLaunch>(*function, config->gridDimX, config->blockDimX, parameters), attributes.order);
    if (attributes.event) attributes.event->record_kernel(lock, *stream);
  });
}
