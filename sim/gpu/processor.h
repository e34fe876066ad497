// The SMs of one simulated device. They hold blocks of launches as far as registers, threads and blocks an SM has room for,
// and run the blocks' threads as fibers, which give way in spin loops and at barriers. Not thread-safe: one OS thread drives
// a Processor, and all its fibers run on that thread.
#ifndef DIME_SIM_GPU_PROCESSOR_H
#define DIME_SIM_GPU_PROCESSOR_H

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "launch.h"

namespace sim {

struct Block;
struct Weakness;

class Processor {
 public:
  struct Shape {
    uint32_t sms = 132;
    uint32_t registers_per_sm = 65536;
    uint32_t threads_per_sm = 2048;
    uint32_t blocks_per_sm = 32;
  };
  // Seed 0: stores reach memory at once, in program order, and threads take turns. Any other seed: the weak memory
  // of weak_memory.h, and threads run in a random order and give way at random accesses too.
  Processor(const Shape &shape, uint64_t seed);
  ~Processor();

  // The launch may place blocks from now on, after those given before as far as there is room. `wait_is_over`: all
  // that it depends on has ended already.
  void start(std::shared_ptr<Launch> launch, bool wait_is_over);

  // Runs each resident thread until it ends or gives way (with weak memory: some of them), and places blocks that have
  // room now. False: nothing moved, all wait for memory that somebody else must write (or there is nothing to run).
  bool step();

  bool is_idle() const { return blocks_.empty() && unplaced_.empty(); }

 private:
  struct Sm {
    uint32_t registers, threads, blocks;  // that are free
  };

  void place_blocks();
  bool run_all();
  bool run_some();
  void retire(Block &block);

  const Shape shape_;
  std::unique_ptr<Weakness> weakness_;  // null: memory is strong
  uint32_t leaving_stores_ = 1, leave_once_in_ = 1;
  std::vector<Sm> sms_;
  std::deque<std::shared_ptr<Launch>> unplaced_;  // launches with blocks that have no place yet, in order
  std::vector<std::unique_ptr<Block>> blocks_;    // resident ones
  std::vector<std::unique_ptr<Block>> unused_;    // ended ones
  uint32_t next_block_id_ = 1;
};

}  // namespace sim

#endif
