#include "weak_memory.h"

#include <algorithm>
#include <cstring>

namespace sim {

namespace {

// How many waiting stores of a device may pile up: looking through them is linear.
constexpr size_t MOST_WAITING = 512;
// A stale value is read once in so many times that it may be.
constexpr uint32_t STALE_ONCE_IN = 3;

uint64_t &word_at(uint64_t word) { return *reinterpret_cast<uint64_t *>(word); }

// `word` with `bytes` bytes at `address` in it replaced by those of `value`.
uint64_t overlay(uint64_t word, uint64_t address, uint32_t bytes, uint64_t value) {
  const uint32_t shift = 8 * uint32_t(address & 7);
  const uint64_t mask = (bytes == 8 ? ~uint64_t(0) : (uint64_t(1) << (8 * bytes)) - 1) << shift;
  return (word & ~mask) | ((value << shift) & mask);
}

uint64_t part_of(uint64_t word, uint64_t address, uint32_t bytes) {
  word >>= 8 * (address & 7);
  return bytes == 8 ? word : word & ((uint64_t(1) << (8 * bytes)) - 1);
}

// Sized accesses, so that a neighbour that another process writes is left alone.
void write_bytes(uint64_t address, uint32_t bytes, uint64_t value) {
  switch (bytes) {
    case 1: __atomic_store_n(reinterpret_cast<uint8_t *>(address), uint8_t(value), __ATOMIC_SEQ_CST); break;
    case 2: __atomic_store_n(reinterpret_cast<uint16_t *>(address), uint16_t(value), __ATOMIC_SEQ_CST); break;
    case 4: __atomic_store_n(reinterpret_cast<uint32_t *>(address), uint32_t(value), __ATOMIC_SEQ_CST); break;
    default: __atomic_store_n(reinterpret_cast<uint64_t *>(address), value, __ATOMIC_SEQ_CST); break;
  }
}

}  // namespace

History &History::instance() {
  static History *history = new History;  // engine threads may outlive static destruction
  return *history;
}

uint64_t WeakMemory::now() {
  History &history = History::instance();
  std::lock_guard lock(history.mutex);
  return history.now;
}

size_t WeakMemory::blocker_of(size_t index) const {
  const Store &store = waiting_[index];
  const bool awaits_all = store.release && store.scope == Scope::System;
  for (size_t i = 0; i < index; ++i) {
    const Store &earlier = waiting_[i];
    if (earlier.word() == store.word() || (awaits_all && is_visible(earlier, store.thread, store.block))) return i;
  }
  return index;
}

void WeakMemory::advance(size_t index) {
  for (size_t blocker; (blocker = blocker_of(index)) != index;) index = blocker;
  leave(index);
}

void WeakMemory::leave(size_t index) {
  const Store store = waiting_[index];
  waiting_.erase(waiting_.begin() + ptrdiff_t(index));
  History &history = History::instance();
  std::lock_guard lock(history.mutex);
  History::Word &word = history.words[store.word()];
  word.before = __atomic_load_n(&word_at(store.word()), __ATOMIC_SEQ_CST);
  word.changed_at = ++history.now;
  word.device = this;
  word.block = store.block;
  // A relaxed store behind a fence releases what was before the fence.
  const bool released = store.release || (store.fenced_at != 0 && store.scope != Scope::Weak);
  word.release_time = store.release ? history.now : released ? store.fenced_at : 0;
  word.device_scope = store.scope != Scope::System;
  write_bytes(store.address, store.bytes, store.value);
}

template <class Condition>
void WeakMemory::drain(Condition condition) {
  std::vector<size_t> left;
  for (;;) {
    left.clear();
    for (size_t i = 0; i < waiting_.size(); ++i)
      if (condition(waiting_[i])) left.push_back(i);
    if (left.empty()) return;
    advance(left[random_.below(uint32_t(left.size()))]);
  }
}

bool WeakMemory::let_one_leave() {
  if (waiting_.empty()) return false;
  advance(random_.below(uint32_t(waiting_.size())));
  return true;
}

uint64_t WeakMemory::load(uint32_t thread, uint32_t block, Sight &sight, uint64_t address, uint32_t bytes, Scope scope,
                          bool acquire) {
  const uint64_t word = address & ~uint64_t(7);
  uint64_t value;
  {
    History &history = History::instance();
    std::lock_guard lock(history.mutex);
    value = __atomic_load_n(&word_at(word), __ATOMIC_SEQ_CST);
    auto found = history.words.find(word);
    if (found != history.words.end()) {
      const History::Word &last = found->second;
      const bool own = last.device == this && last.block == block;
      const bool must_see = own || last.changed_at <= sight.seen ||
                            std::find(sight.fresh_words.begin(), sight.fresh_words.end(), word) != sight.fresh_words.end();
      if (!must_see && random_.once_in(STALE_ONCE_IN)) {
        value = last.before;
      } else {
        if (!must_see && scope != Scope::Weak) sight.fresh_words.push_back(word);
        const bool counts = !last.device_scope || last.device == this;
        if (last.release_time && counts && scope != Scope::Weak) {
          uint64_t &sees = acquire ? sight.seen : sight.seen_after_fence;
          sees = std::max(sees, last.release_time);
        }
      }
    }
  }
  for (const Store &store : waiting_)
    if (store.word() == word && is_visible(store, thread, block))
      value = overlay(value, store.address, store.bytes, store.value);
  return part_of(value, address, bytes);
}

void WeakMemory::store(uint32_t thread, uint32_t block, Sight &sight, uint64_t address, uint32_t bytes, uint64_t value,
                       Scope scope, bool release) {
  while (waiting_.size() >= MOST_WAITING) let_one_leave();
  const uint64_t fenced_at = sight.fenced_at;
  if (release && scope == Scope::Device)
    for (Store &store : waiting_)
      if (is_visible(store, thread, block)) store.level = Level::Device;
  const Level level = release && scope == Scope::Device ? Level::Device : Level::Thread;
  if (scope != Scope::System && bytes == 8) {
    waiting_.push_back({address, value & 0xffffffffu, thread, block, 4, level, scope, false, fenced_at});
    waiting_.push_back({address + 4, value >> 32, thread, block, 4, level, scope, release, fenced_at});
  } else {
    waiting_.push_back({address, value, thread, block, uint8_t(bytes), level, scope, release, fenced_at});
  }
}

void WeakMemory::fence_system(uint32_t thread, uint32_t block, Sight &sight) {
  drain([&](const Store &store) { return is_visible(store, thread, block); });
  sight.seen = std::max(sight.seen, sight.seen_after_fence);
  sight.fenced_at = now();
}

void WeakMemory::barrier(uint32_t block) {
  for (Store &store : waiting_)
    if (store.block == block && store.level == Level::Thread) store.level = Level::Block;
}

void WeakMemory::finish_block(uint32_t block) {
  drain([&](const Store &store) { return store.block == block; });
}

}  // namespace sim
