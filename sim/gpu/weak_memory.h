// Memory of one device, as weak as the PTX model allows: stores wait here and reach memory in a random order,
// and loads may return an old value, unless an order that the kernel asked for forbids it.
//
// STORES. A store of up to 64 bits is whole; a vector store is several stores. A store that waits here is
// visible to some threads only. Its level says to which, and only grows:
//
//   thread  its own thread
//   block   the threads of its block; from a block barrier on
//   device  all threads of the device; from a release or fence of device scope on
//
// Once it has left for memory, it is visible to everybody. Rules for leaving:
//
//   - Stores to one 64-bit word leave in the order in which they were made.
//   - A release store of system scope leaves after all stores that waited then and were visible to its
//     thread.
//   - A fence of system scope makes all stores that wait and are visible to its thread leave at once.
//   - All stores of a launch have left when the launch has ended.
//
// Scopes below system scope promise nothing to other devices: a weak or device-scope store of 64 bits reaches
// memory in two halves, either one first.
//
// LOADS. A load may return the previous value of a word that another block has stored to, until the reader
// has synchronised with something later: by an acquire that reads a release, by a barrier with a thread that
// has synchronised, or by the start of its kernel. `seen` is the time up to which a thread must see memory;
// History knows when words changed. A thread that has read a new value never reads an older one again.
//
// WHERE THIS IS STRONGER THAN PTX. `seen` is one number, not one for each word and writer. Only the previous
// value of a word is remembered. An acquire of a 32-bit flag gets what the release of its whole 64-bit word
// brings. Loads are made in program order. So this memory finds missing orders; it does not prove that none
// is missing.
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

// The atomic operations.
enum class Change : uint8_t { Add, Or };

// Changes a word of 4 or 8 bytes atomically, in memory. Returns its value before.
uint64_t change_now(uint64_t address, uint32_t bytes, uint64_t value, Change change);

// Which state of memory a thread must see. Each simulated thread has one. Times are those of History::now.
struct Sight {
  uint64_t seen = 0;              // it sees all changes up to this time
  uint64_t seen_after_fence = 0;  // what its relaxed loads of releases add to `seen` at its next fence
  uint64_t fenced_at = 0;         // the time of its last system fence: its later stores release what was before
  struct Fresh {
    uint64_t word, changed_at;
  };
  std::vector<Fresh> fresh_words;  // changes after `seen` that it has read: it must not read those words' older values

  // As of a thread that has just begun. Keeps its allocations.
  void forget() {
    seen = seen_after_fence = fenced_at = 0;
    fresh_words.clear();
  }
};

// When each word was last changed, by whom, and what it held before. One for all devices of the process.
class History {
 public:
  struct Word {
    uint64_t address = 0;  // 0: this entry of the table is free
    uint64_t before = 0;
    uint64_t release_time_before = 0;
    uint64_t changed_at = 0;
    uint64_t release_time = 0;  // an acquire of the current value sees everything up to this; 0: nothing
    const void *device = nullptr;
    uint32_t block = 0;
    bool device_scope = false;  // the release has an effect within the device only
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
  // Changes a word of 4 or 8 bytes atomically; no store to it may wait here. A release takes effect for all
  // devices, more than its device scope promises.
  // Returns the value before.
  uint64_t change(uint32_t thread, uint32_t block, uint64_t address, uint32_t bytes, uint64_t value, bool release, Change change);
  void fence_system(uint32_t thread, uint32_t block, Sight &sight);
  // All threads of the block have reached a barrier: each sees the stores of the others from now on.
  void barrier(uint32_t block);

  // Lets one random store leave that may leave. False: none waits.
  bool let_one_leave();
  // Lets all stores of a block leave.
  void finish_block(uint32_t block);
  bool is_empty() const { return waiting_.empty(); }
  // The `seen` of a thread that starts now.
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
  // The index of the first store that must leave before this one, or `index` itself if this one may leave.
  size_t blocker_of(size_t index) const;
  // Lets this store leave, or one that must leave before it.
  void advance(size_t index);
  void leave(size_t index);
  // Lets all stores leave for which the condition holds, in a random order among those allowed.
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
