// The SMs of one simulated device. An SM holds blocks as far as its registers, threads and block slots go
// round. The threads of the blocks run as fibers, which yield in spin loops and at barriers.
//
// Not thread-safe: one OS thread drives a Processor, and all its fibers run on that thread.
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
  // Seed 0: stores reach memory at once, in program order, and threads run in a fixed order. Any other seed:
  // memory is as weak as weak_memory.h makes it, and threads run in a random order and yield at random
  // accesses too.
  Processor(const Shape &shape, uint64_t seed);
  ~Processor();

  // Starts a launch: its blocks become resident as soon as there is room, after all blocks of the launches
  // that started before it. `wait_is_over`: everything that it depends on has ended already.
  void start(std::shared_ptr<Launch> launch, bool wait_is_over);

  // Resumes each resident thread until it ends or yields (with weak memory: some of them), and makes blocks
  // resident that have room now. False: nothing moved. Then all threads wait for stores of another device or
  // the host, or none is resident.
  bool step();

  bool is_idle() const { return blocks_.empty() && unplaced_.empty(); }

 private:
  struct Sm {
    uint32_t registers, threads, blocks;  // free ones
  };

  void place_blocks();
  bool run_all();
  bool run_some();
  void retire(Block &block);

  const Shape shape_;
  std::unique_ptr<Weakness> weakness_;  // null if memory is strong
  uint32_t leaving_stores_ = 1, leave_once_in_ = 1;
  std::vector<Sm> sms_;
  std::deque<std::shared_ptr<Launch>> unplaced_;  // launches with blocks that are not resident yet, in their order
  std::vector<std::unique_ptr<Block>> blocks_;    // resident ones
  std::vector<std::unique_ptr<Block>> unused_;    // ended ones
  uint32_t next_block_id_ = 1;
};

}  // namespace sim

#endif
