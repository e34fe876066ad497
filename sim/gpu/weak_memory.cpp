#include "weak_memory.h"

#include <algorithm>
#include <cstring>

namespace sim {

namespace {

// Most waiting stores of a device. A bound, since each access searches all of them.
constexpr size_t MOST_WAITING = 512;
// A load that may return the previous value does so once in so many times.
constexpr uint32_t STALE_ONCE_IN = 3;

uint64_t &word_at(uint64_t word) { return *reinterpret_cast<uint64_t *>(word); }

// `word` with its `bytes` bytes at `address` replaced by `value`.
uint64_t overlay(uint64_t word, uint64_t address, uint32_t bytes, uint64_t value) {
  const uint32_t shift = 8 * uint32_t(address & 7);
  const uint64_t mask = (bytes == 8 ? ~uint64_t(0) : (uint64_t(1) << (8 * bytes)) - 1) << shift;
  return (word & ~mask) | ((value << shift) & mask);
}

uint64_t part_of(uint64_t word, uint64_t address, uint32_t bytes) {
  word >>= 8 * (address & 7);
  return bytes == 8 ? word : word & ((uint64_t(1) << (8 * bytes)) - 1);
}

// Stores of exactly `bytes` bytes, so that neighbouring bytes, which another process may write, stay
// untouched.
void write_bytes(uint64_t address, uint32_t bytes, uint64_t value) {
  switch (bytes) {
    case 1: __atomic_store_n(reinterpret_cast<uint8_t *>(address), uint8_t(value), __ATOMIC_SEQ_CST); break;
    case 2: __atomic_store_n(reinterpret_cast<uint16_t *>(address), uint16_t(value), __ATOMIC_SEQ_CST); break;
    case 4: __atomic_store_n(reinterpret_cast<uint32_t *>(address), uint32_t(value), __ATOMIC_SEQ_CST); break;
    default: __atomic_store_n(reinterpret_cast<uint64_t *>(address), value, __ATOMIC_SEQ_CST); break;
  }
}

template <class T>
uint64_t change_of(uint64_t address, uint64_t value, Change change) {
  T *word = reinterpret_cast<T *>(address);
  return change == Change::Add ? __atomic_fetch_add(word, T(value), __ATOMIC_SEQ_CST)
                               : __atomic_fetch_or(word, T(value), __ATOMIC_SEQ_CST);
}

}  // namespace

uint64_t change_now(uint64_t address, uint32_t bytes, uint64_t value, Change change) {
  return bytes == 8 ? change_of<uint64_t>(address, value, change) : change_of<uint32_t>(address, value, change);
}

const History::Word *History::find(uint64_t address) const {
  const Word &word = table_[place_of(address)];
  return word.address == 0 ? nullptr : &word;
}

History::Word &History::at(uint64_t address) {
  size_t place = place_of(address);
  if (table_[place].address == 0) {
    if (2 * taken_.size() >= table_.size()) {
      grow();
      place = place_of(address);
    }
    table_[place].address = address;
    taken_.push_back(place);
  }
  return table_[place];
}

void History::forget() {
  for (const size_t place : taken_) table_[place] = Word();
  taken_.clear();
}

size_t History::place_of(uint64_t address) const {
  const size_t mask = table_.size() - 1;
  size_t place = ((address >> 3) * 0x9e3779b97f4a7c15ull >> 32) & mask;
  while (table_[place].address != 0 && table_[place].address != address) place = (place + 1) & mask;
  return place;
}

void History::grow() {
  std::vector<Word> old(2 * table_.size());
  old.swap(table_);
  taken_.clear();
  for (const Word &word : old) {
    if (word.address == 0) continue;
    taken_.push_back(place_of(word.address));
    table_[taken_.back()] = word;
  }
}

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
  const std::vector<uint64_t> *awaited = store.has_awaited ? &awaited_.find(store.number)->second : nullptr;
  if (!awaited && counters_[counter_of(store.word())] == 1) return index;
  for (size_t i = 0; i < index; ++i) {
    const Store &earlier = waiting_[i];
    if (earlier.word() == store.word()) return i;
    if (awaited && std::binary_search(awaited->begin(), awaited->end(), earlier.number)) return i;
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
  --counters_[counter_of(store.word())];
  if (store.has_awaited) awaited_.erase(store.number);
  History &history = History::instance();
  std::lock_guard lock(history.mutex);
  History::Word &word = history.at(store.word());
  word.before = __atomic_load_n(&word_at(store.word()), __ATOMIC_SEQ_CST);
  word.changed_at = ++history.now;
  word.device = this;
  word.block = store.block;
  word.release_time_before = word.release_time;
  // A relaxed store after a fence releases what was before the fence.
  const bool released = store.release || (store.fenced_at != 0 && store.scope != Scope::Weak);
  word.release_time = store.release ? history.now : released ? store.fenced_at : 0;
  word.device_scope = store.scope != Scope::System;
  write_bytes(store.address, store.bytes, store.value);
}

template <class Condition>
void WeakMemory::drain(Condition condition) {
  for (;;) {
    leaving_.clear();
    for (size_t i = 0; i < waiting_.size(); ++i)
      if (condition(waiting_[i])) leaving_.push_back(i);
    if (leaving_.empty()) return;
    advance(leaving_[random_.below(uint32_t(leaving_.size()))]);
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
    if (const History::Word *found = history.find(word)) {
      const History::Word &last = *found;
      const bool own = last.device == this && last.block == block;
      const auto is_read = [&](const Sight::Fresh &fresh) {
        return fresh.word == word && fresh.changed_at >= last.changed_at;
      };
      const bool must_see = own || last.changed_at <= sight.seen ||
                            std::any_of(sight.fresh_words.begin(), sight.fresh_words.end(), is_read);
      uint64_t release_time = last.release_time;
      if (!must_see && random_.once_in(STALE_ONCE_IN)) {
        value = last.before;
        release_time = last.release_time_before;
      } else if (!must_see && scope != Scope::Weak) {
        sight.fresh_words.push_back({word, last.changed_at});
      }
      const bool counts = !last.device_scope || last.device == this;
      if (release_time && counts && scope != Scope::Weak) {
        uint64_t &sees = acquire ? sight.seen : sight.seen_after_fence;
        sees = std::max(sees, release_time);
      }
    }
  }
  if (counters_[counter_of(word)] == 0) return part_of(value, address, bytes);
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
  std::vector<uint64_t> awaits;
  if (release && scope == Scope::System)
    for (const Store &waiting : waiting_)
      if (is_visible(waiting, thread, block)) awaits.push_back(waiting.number);
  const auto push = [&](uint64_t at, uint32_t size, uint64_t part, bool is_release) {
    waiting_.push_back(
        {at, part, thread, block, uint8_t(size), level, scope, is_release, !awaits.empty(), fenced_at, ++last_number_});
    ++counters_[counter_of(waiting_.back().word())];
    if (!awaits.empty()) awaited_[last_number_] = awaits;
  };
  if (scope == Scope::System || bytes != 8) {
    push(address, bytes, value, release);
    return;
  }
  const uint32_t first = random_.below(2);
  for (uint32_t half : {first, 1 - first})
    push(address + 4 * half, 4, half == 0 ? value & 0xffffffffu : value >> 32, release && half != first);
}

uint64_t WeakMemory::change(uint32_t thread, uint32_t block, uint64_t address, uint32_t bytes, uint64_t value, bool release,
                            Change change) {
  if (release) drain([&](const Store &store) { return is_visible(store, thread, block); });
  History &history = History::instance();
  std::lock_guard lock(history.mutex);
  History::Word &word = history.at(address & ~uint64_t(7));
  word.before = __atomic_load_n(&word_at(address & ~uint64_t(7)), __ATOMIC_SEQ_CST);
  word.changed_at = ++history.now;
  word.device = this;
  word.block = block;
  word.release_time_before = word.release_time;
  // An atomic change without release keeps the word's release: it passes it on.
  if (release) word.release_time = history.now;
  word.device_scope = true;
  return change_now(address, bytes, value, change);
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
