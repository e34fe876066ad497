#include "processor.h"

#include <sim/driver/fault.h>

#include <algorithm>

#include "block.h"

namespace sim {

namespace {

// How often threads yield at memory accesses, and how many stores leave how often. The seed picks one of each, so
// some schedules run nearly in order and some far from it.
constexpr uint32_t YIELD_ONCE_IN[] = {2, 8, 64, 1000000};
struct Leaving {
  uint32_t stores, once_in;
};
constexpr Leaving LEAVING[] = {{5, 1}, {2, 1}, {1, 1}, {1, 5}};

// How many random threads one step resumes.
constexpr uint32_t RESUMES_PER_STEP = 6;

}  // namespace

Processor::Processor(const Shape &shape, uint64_t seed)
    : shape_(shape), sms_(shape.sms, Sm{shape.registers_per_sm, shape.threads_per_sm, shape.blocks_per_sm}) {
  if (seed == 0) return;
  weakness_ = std::make_unique<Weakness>(seed);
  weakness_->yield_once_in = YIELD_ONCE_IN[weakness_->random.below(std::size(YIELD_ONCE_IN))];
  const Leaving &leaving = LEAVING[weakness_->random.below(std::size(LEAVING))];
  leaving_stores_ = leaving.stores;
  leave_once_in_ = leaving.once_in;
}

Processor::~Processor() = default;

void Processor::start(std::shared_ptr<Launch> launch, bool wait_is_over) {
  if (wait_is_over) launch->end_wait();
  unplaced_.push_back(std::move(launch));
  place_blocks();
}

// As on the hardware, all blocks of a launch become resident before the first of the next launch.
void Processor::place_blocks() {
  while (!unplaced_.empty()) {
    const std::shared_ptr<Launch> &launch = unplaced_.front();
    const Kernel &kernel = launch->kernel();
    const uint32_t registers = shape_.registers_per_sm / (kernel.max_threads * kernel.resident_blocks) * launch->threads();
    while (launch->placed_blocks < launch->blocks()) {
      // On the emptiest SM, so that blocks spread.
      auto sm = std::max_element(sms_.begin(), sms_.end(), [](const Sm &a, const Sm &b) { return a.threads < b.threads; });
      if (sm->registers < registers || sm->threads < launch->threads() || sm->blocks == 0) return;
      fault::pass("block");
      if (unused_.empty()) unused_.push_back(std::make_unique<Block>());
      std::unique_ptr<Block> block = std::move(unused_.back());
      unused_.pop_back();
      block->start(launch, launch->placed_blocks++, next_block_id_++, weakness_.get());
      block->sm = uint32_t(sm - sms_.begin());
      block->registers = registers;
      sm->registers -= registers;
      sm->threads -= launch->threads();
      sm->blocks -= 1;
      blocks_.push_back(std::move(block));
    }
    unplaced_.pop_front();
  }
}

void Processor::retire(Block &block) {
  Sm &sm = sms_[block.sm];
  sm.registers += block.registers;
  sm.threads += block.launch->threads();
  sm.blocks += 1;
  block.finish();
}

bool Processor::step() {
  bool moved = weakness_ ? run_some() : run_all();
  for (size_t i = 0; i < blocks_.size();) {
    if (blocks_[i]->live_threads != 0) {
      ++i;
      continue;
    }
    retire(*blocks_[i]);
    unused_.push_back(std::move(blocks_[i]));
    blocks_[i] = std::move(blocks_.back());
    blocks_.pop_back();
    moved = true;
  }
  place_blocks();
  return moved;
}

bool Processor::run_all() {
  bool moved = false;
  for (auto &block : blocks_)
    for (uint32_t thread = 0; thread < block->thread_count; ++thread)
      if (block->may_run(thread)) moved |= block->run(thread);
  return moved;
}

// Resumes random threads; between them stores leave at random.
bool Processor::run_some() {
  if (blocks_.empty()) return false;
  bool moved = false;
  for (uint32_t resumed = 0; resumed < RESUMES_PER_STEP; ++resumed) {
    Block &block = *blocks_[weakness_->random.below(uint32_t(blocks_.size()))];
    moved |= block.run_one(weakness_->random);
    if (weakness_->memory.is_empty() || !weakness_->random.once_in(leave_once_in_)) continue;
    moved = true;
    for (uint32_t i = 0; i < leaving_stores_ && weakness_->memory.let_one_leave(); ++i) continue;
  }
  return moved || !weakness_->memory.is_empty();
}

}  // namespace sim
