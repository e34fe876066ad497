// Two kernels of an application, for tests: the simulator's form of the PTX in tests/c/application_kernels.h.
// Each runs with one thread.
#include <sim/gpu/current_thread.h>
#include <sim/gpu/backend/entry.h>

#include <cstdint>

namespace {

namespace thread = sim::current_thread;

constexpr uint32_t WORD_BYTES = 4;

uint32_t load(uint64_t address) { return uint32_t(thread::load(address, WORD_BYTES, sim::Scope::System, false)); }
void store(uint64_t address, uint32_t value) { thread::store(address, WORD_BYTES, value, sim::Scope::System, false); }

// Triggers dependents at once, waits until the word at `gate` is not 0, and only then writes.
void test_write_late(uint64_t words, uint32_t count, uint32_t value, uint64_t gate) {
  thread::let_dependents_start();
  while (load(gate) == 0) thread::spin_hint();
  for (uint32_t i = 0; i < count; ++i) store(words + uint64_t(i) * WORD_BYTES, value);
}
DIME_ENTRY(test_write_late)

// Copies without griddepcontrol.wait: it does not wait for the earlier launches of the stream.
void test_copy(uint64_t from, uint64_t to, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i)
    store(to + uint64_t(i) * WORD_BYTES, load(from + uint64_t(i) * WORD_BYTES));
}
DIME_ENTRY(test_copy)

}  // namespace
