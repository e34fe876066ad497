// Memory as weak as the PTX model lets it be, for one device: what its threads store waits here and reaches memory in a random
// order, and what they load may be out of date, unless an order the kernel asked for forbids it.
//
// Stores. A store of up to 64 bits is whole (a vector access is several stores). Who sees a store that waits depends on its level,
// which only grows:
//
//   thread   the thread itself
//   block    the threads of its block: after a block barrier
//   device   all threads of the device: after a release or fence of device scope
//   (none)   everybody: it left for memory
//
// Stores to one 64-bit word leave in the order they were made. A release store of system scope leaves when everything that its
// thread could see waiting at that time has left; a fence of system scope makes all that leave at once. A kernel is over when all its
// stores have left.
//
// Weaker than system scope is only promised within the device: a weak or device-scope store of 64 bits reaches memory in two
// halves, either first.
//
// Loads. A word that another block stored to lately may still be read as it was before, until the reader has
// synchronised with something later: by an acquire that read a release, by a barrier with a thread that did, by
// the start of its kernel. `seen` is the time up to which a thread must see memory; History knows when words changed. A thread
// that has read a new value does not read an older one again.
//
// Where this is stronger than PTX: `seen` is one number, not one per word and writer; only the last value of a word is
// remembered, and what an acquire of a 32-bit flag brings is that of the 64-bit word it lies in; loads are made in program order.
// It finds missing orders, it does not prove their absence.
#ifndef DIME_SIM_GPU_WEAK_MEMORY_H
#define DIME_SIM_GPU_WEAK_MEMORY_H

#include <array>
#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "random.h"

namespace sim {

enum class Scope : uint8_t { Weak, Device, System };

// What an atomic operation makes of a word and a value.
enum class Change : uint8_t { Add, Or };

// Changes a word of 4 or 8 bytes in one step.
void change_now(uint64_t address, uint32_t bytes, uint64_t value, Change change);

// What a thread must see, and what it read that a fence would make it see. Part of each simulated thread.
struct Sight {
  uint64_t seen = 0;
  uint64_t seen_after_fence = 0;
  uint64_t fenced_at = 0;  // the time of the last system fence: later stores release what was before it
  struct Fresh {
    uint64_t word, changed_at;
  };
  std::vector<Fresh> fresh_words;  // read as they were since then, though that is not in `seen`

  // As of a thread that has just begun. Keeps its memory.
  void forget() {
    seen = seen_after_fence = fenced_at = 0;
    fresh_words.clear();
  }
};

// When each word was last changed, by whom, and what it held before: of this process, for all its devices.
class History {
 public:
  struct Word {
    uint64_t address = 0;  // 0: this entry of the table is free
    uint64_t before = 0;
    uint64_t release_time_before = 0;
    uint64_t changed_at = 0;
    uint64_t release_time = 0;  // an acquire that reads the present value sees everything up to this; 0: nothing
    const void *device = nullptr;
    uint32_t block = 0;
    bool device_scope = false;  // the release counts within the device only
  };

  static History &instance();

  // Null: the word was never changed.
  const Word *find(uint64_t address) const;
  // The entry of a word, a new one if need be. It stays where it is until the next call.
  Word &at(uint64_t address);
  // As if nothing was ever changed; the time goes on.
  void forget();

  std::mutex mutex;
  uint64_t now = 1;

 private:
  // Of the word, or the free one where it belongs.
  size_t place_of(uint64_t address) const;
  void grow();

  // Open addressing with linear probing: each access of a simulated thread looks here. At most half of it is taken.
  std::vector<Word> table_ = std::vector<Word>(1024);
  std::vector<size_t> taken_;
};

class WeakMemory {
 public:
  explicit WeakMemory(Random &random) : random_(random) {}

  uint64_t load(uint32_t thread, uint32_t block, Sight &sight, uint64_t address, uint32_t bytes, Scope scope,
                bool acquire);
  void store(uint32_t thread, uint32_t block, Sight &sight, uint64_t address, uint32_t bytes, uint64_t value,
             Scope scope, bool release);
  // Changes a word of 4 or 8 bytes of which nothing waits here. A release is one for everybody, which is more than the device was promised.
  void change(uint32_t thread, uint32_t block, uint64_t address, uint32_t bytes, uint64_t value, bool release, Change change);
  void fence_system(uint32_t thread, uint32_t block, Sight &sight);
  // All threads of the block have met: they see each other's stores from now on.
  void barrier(uint32_t block);

  // Lets one random store leave that may. False: none waits.
  bool let_one_leave();
  // Lets all stores of a block leave.
  void finish_block(uint32_t block);
  bool is_empty() const { return waiting_.empty(); }
  // What a thread that starts now must see.
  static uint64_t now();

 private:
  enum class Level : uint8_t { Thread, Block, Device };
  struct Store {
    uint64_t address;
    uint64_t value;
    uint32_t thread, block;
    uint8_t bytes;
    Level level;
    Scope scope;
    bool release;
    bool has_awaited;  // it is in `awaited_`
    uint64_t fenced_at;
    uint64_t number;
    uint64_t word() const { return address & ~uint64_t(7); }
  };

  static bool is_visible(const Store &store, uint32_t thread, uint32_t block) {
    return store.level == Level::Device || (store.block == block && (store.level == Level::Block || store.thread == thread));
  }
  // Where stores to a word are counted.
  static size_t counter_of(uint64_t word) { return (word >> 3) * 0x9e3779b97f4a7c15ull >> (64 - COUNTER_BITS); }
  // The first store that must leave before this one; `index` itself when it may go.
  size_t blocker_of(size_t index) const;
  // Lets this store leave, or one that must go before it.
  void advance(size_t index);
  void leave(size_t index);
  // Lets everything leave that this condition holds for, in a random order that is allowed.
  template <class Condition>
  void drain(Condition condition);

  static constexpr int COUNTER_BITS = 10;

  Random &random_;
  std::vector<Store> waiting_;  // in the order they were made
  // How many of them are to words with the same counter: most words have none, and need not be looked for.
  std::array<uint16_t, 1 << COUNTER_BITS> counters_{};
  // By the number of a release: the numbers of the stores that its thread could see waiting then, in order.
  std::unordered_map<uint64_t, std::vector<uint64_t>> awaited_;
  uint64_t last_number_ = 0;
  std::vector<size_t> leaving_;  // of drain, for its memory
};

}  // namespace sim

#endif
