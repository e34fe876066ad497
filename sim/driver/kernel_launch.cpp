#include "kernel_launch.h"

#include <sim/gpu/processor.h>

namespace sim {

namespace {

class RunningKernel : public Execution {
 public:
  explicit RunningKernel(std::shared_ptr<Launch> launch) : launch_(std::move(launch)) {}

  bool poll(bool earlier_is_over) override {
    if (earlier_is_over) launch_->end_wait();
    return launch_->is_done();
  }
  bool lets_dependents_start() const override { return launch_->lets_dependents_start(); }

 private:
  std::shared_ptr<Launch> launch_;
};

}  // namespace

KernelLaunch::KernelLaunch(const Function &function, uint32_t blocks, uint32_t threads, void *const *parameters)
    : kernel_(function.kernel), blocks_(blocks), threads_(threads), knows_dependents_(function.knows_dependents()) {
  for (size_t i = 0; i < kernel_.parameter_bytes.size(); ++i) {
    const auto *bytes = static_cast<const unsigned char *>(parameters[i]);
    parameters_.emplace_back(bytes, bytes + kernel_.parameter_bytes[i]);
  }
}

std::unique_ptr<Execution> KernelLaunch::begin(Engine &, Processor &processor, bool earlier_is_over) const {
  std::vector<void *> pointers;
  for (const auto &bytes : parameters_) pointers.push_back(const_cast<unsigned char *>(bytes.data()));
  auto launch = std::make_shared<Launch>(kernel_, blocks_, threads_, pointers.data(), knows_dependents_);
  processor.start(launch, earlier_is_over);
  return std::make_unique<RunningKernel>(std::move(launch));
}

}  // namespace sim
