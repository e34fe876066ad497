#include "schedule.h"

#define DIME_LIST_ONLY
#include <kernels/catalogue.h>
#include <kernels/layout.h>
#include <sim/gpu/backend/intrinsics.h>
#include <sim/gpu/processor.h>
#include <sim/gpu/random.h>
#include <sim/gpu/weak_memory.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

namespace schedules {

namespace {

using sim::Random;

constexpr uint32_t MOST_RANKS = 4;
// Messages are small, so that a schedule is short. Their slots lie in the first USED_BYTES of each region.
constexpr uint32_t MOST_BYTES = 640;
constexpr uint32_t USED_BYTES = 64 << 10;
constexpr uint32_t GUARD_BYTES = 32;
constexpr uint32_t BUFFER_BYTES = GUARD_BYTES + 16 + MOST_BYTES + GUARD_BYTES;
// The count of blocks at the start of a schedule, so large that it wraps around.
constexpr uint32_t FIRST_COUNT = 0xfffffffcu;
// After so many steps a schedule counts as hung. One that ends takes some thousand, the longest of 100,000 over 400,000.
constexpr uint64_t MOST_STEPS = 4000000;
// Steps that each rank gets after all launches of the aborted ranks have ended: enough to finish what it can.
constexpr uint64_t STEPS_AFTER_ABORT = 300;
struct Algorithm {
  const char *name;
  uint32_t packet_bytes, exchanges;
  bool carries_integers, has_pair_form;
};
#define ALGORITHM(name, packet_bytes, exchanges, carries_integers, has_pair_form, ...) \
  {#name, packet_bytes, exchanges, carries_integers, has_pair_form},
constexpr Algorithm ALGORITHMS[] = {DIME_KERNELS(ALGORITHM, )};

// One all-reduce. All ranks have the same, with buffers of their own.
struct Operation {
  uint32_t algorithm;
  uint8_t type;
  uint32_t bytes;
  uint32_t blocks, threads;
  uint8_t tile_log2, stages;
  bool triggers_dependents;
  bool is_chained;   // its input is the output of the previous operation
  bool is_captured;  // in a graph: without an epoch from the host, and always in the same stream
  const sim::Kernel *kernel;
};

uint32_t element_bytes(uint8_t type) { return type == DIME_FLOAT64 ? 8 : 4; }

// One rank's side of an operation.
struct Buffers {
  std::vector<uint64_t> input_memory, output_memory;  // 64-bit words, for alignment
  uint64_t input = 0, output = 0;
  std::vector<unsigned char> contribution, expected;
};

struct Rank {
  std::unique_ptr<sim::Processor> processor;
  uint64_t scratch = 0;
  uint32_t speed = 1;  // it runs in one of so many steps that choose it
  std::vector<Buffers> buffers;
  std::vector<std::shared_ptr<sim::Launch>> launches;
  // By launch: it is on another stream than the previous launch, and only its ticket orders the two.
  std::vector<bool> is_elsewhere;
  size_t started = 0;
  // The command is DIME_STOP if the rank is aborted.
  dime_mailbox mailbox{};
  // Launches that ended before the rank was aborted: their results must be right.
  size_t finished = 0;
};

bool is_stopped(const Rank &rank) { return rank.mailbox.command == DIME_STOP; }

uint64_t map_scratch() {
  void *memory = mmap(nullptr, DIME_SCRATCH_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    perror("no memory for scratch");
    exit(2);
  }
  return reinterpret_cast<uint64_t>(memory);
}

uint64_t scratch_of(uint32_t rank) {
  static const std::vector<uint64_t> all = [] {
    std::vector<uint64_t> made;
    for (uint32_t i = 0; i < MOST_RANKS; ++i) made.push_back(map_scratch());
    return made;
  }();
  return all[rank];
}

void *at(uint64_t address) { return reinterpret_cast<void *>(address); }

uint64_t lane_of(uint64_t scratch, bool is_captured) { return scratch + (is_captured ? DIME_LANE_BYTES : 0u); }

// Gives a lane the state in which the library's setup leaves it.
void clear_lane(uint64_t scratch, uint32_t first_epoch) {
  for (uint32_t parity = 0; parity < DIME_PARITIES; ++parity) {
    const uint64_t base = scratch + parity * DIME_PARITY_BYTES;
    memset(at(base), 0xff, USED_BYTES);
    memset(at(base + DIME_LL_OFFSET), 0, USED_BYTES);
    memset(at(base + DIME_CONTROL_OFFSET), 0, DIME_FLAG_BYTES);
  }
  const uint64_t count_word = uint64_t(FIRST_COUNT) << DIME_COUNT_SHIFT;
  for (uint32_t block = 0; block < DIME_MAX_BLOCKS; ++block)
    memcpy(at(scratch + DIME_EPOCH_OFFSET + 4 * block), &first_epoch, 4);
  memset(at(scratch + DIME_STOP_OFFSET), 0, 4 * DIME_MAX_BLOCKS);
  memcpy(at(scratch + DIME_COUNT_OFFSET), &count_word, 8);
}

uint32_t epoch_after(uint32_t epoch) { return epoch == 0xffffffffu ? 2 : epoch + 1; }

// Whether a lane is as launches without an abort must leave it: every data slot is free, all epoch words are
// `epoch`, the count of blocks is `blocks`, and no stop mark is set.
bool is_clean(uint64_t scratch, uint32_t epoch, uint32_t blocks) {
  const uint64_t count_word = uint64_t(blocks) << DIME_COUNT_SHIFT;
  const uint32_t no_mark = 0;
  if (memcmp(at(scratch + DIME_COUNT_OFFSET), &count_word, 8) != 0) return false;
  for (uint32_t block = 0; block < DIME_MAX_BLOCKS; ++block)
    if (memcmp(at(scratch + DIME_EPOCH_OFFSET + 4 * block), &epoch, 4) != 0 ||
        memcmp(at(scratch + DIME_STOP_OFFSET + 4 * block), &no_mark, 4) != 0)
      return false;
  for (uint32_t parity = 0; parity < DIME_PARITIES; ++parity) {
    const auto *word = static_cast<const uint64_t *>(at(scratch + parity * DIME_PARITY_BYTES));
    for (uint32_t i = 0; i < USED_BYTES / 8; ++i)
      if (word[i] != ~uint64_t(0)) return false;
  }
  return true;
}

// Values that expose mistakes: sums that depend on the order of additions, and words that look like a
// sentinel or a free slot.
uint64_t random_word(Random &random, uint8_t type) {
  if (random.once_in(16)) return ~uint64_t(0);
  if (random.once_in(16)) return 0;
  if (type == DIME_INT32) return random.next();
  if (type == DIME_FLOAT64) {
    const double value = (double(random.below(2000001)) - 1e6) * (random.once_in(2) ? 1e-9 : 1e9);
    return uint64_t(__double_as_longlong(value));
  }
  uint64_t word = 0;
  for (int i = 0; i < 2; ++i) {
    const float value = (float(random.below(2000001)) - 1e6f) * (random.once_in(2) ? 1e-5f : 1e5f);
    word |= uint64_t(__float_as_uint(value)) << (32 * i);
  }
  return word;
}

template <class T>
T element(const std::vector<unsigned char> &bytes, uint32_t index) {
  T value;
  memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

// The sum in rank order, computed without the kernels' code.
std::vector<unsigned char> expected_sum(const std::vector<const std::vector<unsigned char> *> &contributions, uint8_t type) {
  std::vector<unsigned char> sum = *contributions[0];
  const uint32_t size = element_bytes(type);
  for (uint32_t i = 0; i < sum.size() / size; ++i) {
    if (type == DIME_INT32) {
      uint32_t total = 0;
      for (const auto *bytes : contributions) total += element<uint32_t>(*bytes, i);
      memcpy(sum.data() + 4 * i, &total, 4);
    } else if (type == DIME_FLOAT32) {
      float total = element<float>(*contributions[0], i);
      for (size_t rank = 1; rank < contributions.size(); ++rank) total = __fadd_rn(total, element<float>(*contributions[rank], i));
      memcpy(sum.data() + 4 * i, &total, 4);
    } else {
      double total = element<double>(*contributions[0], i);
      for (size_t rank = 1; rank < contributions.size(); ++rank) total += element<double>(*contributions[rank], i);
      const uint64_t bits = total == total ? uint64_t(__double_as_longlong(total)) : 0x7ff8000000000000ull;
      memcpy(sum.data() + 8 * i, &bits, 8);
    }
  }
  return sum;
}

Operation random_operation(Random &random, uint32_t ranks) {
  static constexpr uint8_t TYPES[] = {DIME_FLOAT32, DIME_FLOAT32, DIME_INT32, DIME_FLOAT64};
  Operation operation{};
  operation.type = TYPES[random.below(4)];
  do {
    operation.algorithm = random.below(uint32_t(std::size(ALGORITHMS)));
  } while (operation.type == DIME_INT32 && !ALGORITHMS[operation.algorithm].carries_integers);
  const uint32_t size = element_bytes(operation.type);
  const uint32_t most = random.once_in(2) ? 8 : MOST_BYTES / size;
  operation.bytes = (1 + random.below(most)) * size;
  operation.blocks = 1 + random.below(3);
  operation.threads = random.once_in(4) ? 64 : 32;
  operation.tile_log2 = uint8_t(2 + random.below(4));
  operation.stages = uint8_t(1 + random.below(2));
  operation.triggers_dependents = random.once_in(2);
  const Algorithm &algorithm = ALGORITHMS[operation.algorithm];
  std::string name = std::string("dime_") + algorithm.name;
  const char *for_ranks = ranks % 2 == 0 && random.once_in(2) ? (ranks == 2 ? "2" : "4") : "n";
  if (operation.type == DIME_FLOAT32)
    name += std::string("_sum_f32_") + for_ranks;
  else
    name += algorithm.has_pair_form && *for_ranks == '2' ? "_any_2" : "_any_n";
  operation.kernel = sim::find_kernel(name.c_str());
  return operation;
}

// `before`: each rank's buffers of the previous operation, whose outputs a chained operation takes as input.
std::vector<Buffers> make_buffers(Random &random, const Operation &operation, uint32_t ranks,
                                  const std::vector<const Buffers *> &before) {
  std::vector<Buffers> all(ranks);
  std::vector<const std::vector<unsigned char> *> contributions;
  for (Buffers &buffers : all) {
    const uint32_t size = element_bytes(operation.type);
    const auto offset = [&] { return GUARD_BYTES + (random.once_in(2) ? 0 : random.below(16 / size) * size); };
    buffers.input_memory.assign(BUFFER_BYTES / 8, 0xabababababababab);
    buffers.output_memory.assign(BUFFER_BYTES / 8, 0xcdcdcdcdcdcdcdcd);
    buffers.input = reinterpret_cast<uint64_t>(buffers.input_memory.data()) + offset();
    buffers.output = random.once_in(3) ? buffers.input : reinterpret_cast<uint64_t>(buffers.output_memory.data()) + offset();
    if (operation.is_chained) {
      // Not in place, since both results are checked at the end.
      const Buffers &earlier = *before[size_t(&buffers - all.data())];
      buffers.input = earlier.output;
      buffers.output = reinterpret_cast<uint64_t>(buffers.output_memory.data()) + offset();
      buffers.contribution = earlier.expected;
      contributions.push_back(&buffers.contribution);
      continue;
    }
    while (buffers.contribution.size() < operation.bytes) {
      const uint64_t word = random_word(random, operation.type);
      const auto *bytes = reinterpret_cast<const unsigned char *>(&word);
      buffers.contribution.insert(buffers.contribution.end(), bytes, bytes + 8);
    }
    buffers.contribution.resize(operation.bytes);
    contributions.push_back(&buffers.contribution);
  }
  for (Buffers &buffers : all) buffers.expected = expected_sum(contributions, operation.type);
  return all;
}

dime_args arguments(const Operation &operation, const Buffers &buffers, uint32_t rank, uint32_t ranks, const dime_mailbox &mailbox) {
  dime_args args{};
  args.input = buffers.input;
  args.output = buffers.output;
  args.bytes = operation.bytes;
  for (uint32_t peer = 0; peer < ranks; ++peer) args.inbox[peer] = lane_of(scratch_of(peer), operation.is_captured);
  args.mailbox = reinterpret_cast<uint64_t>(&mailbox);
  const uint32_t packet_bytes = ALGORITHMS[operation.algorithm].packet_bytes;
  args.packets = (operation.bytes + packet_bytes - 1) / packet_bytes;
  args.chunk_packets = ALGORITHMS[operation.algorithm].exchanges == 1 ? args.packets : (args.packets + ranks - 1) / ranks;
  args.rank = uint8_t(rank);
  args.ranks = uint8_t(ranks);
  args.type = operation.type;
  args.op = DIME_SUM;
  args.tile_log2 = operation.tile_log2;
  args.stages = operation.stages;
  args.triggers_dependents = operation.triggers_dependents;
  return args;
}

// Whether an operation changed nothing but its output: neither the bytes around the buffers nor, out of
// place, the input. The input is not checked if it is the output of an operation that did not finish.
bool guards_are_whole(const Operation &operation, const Buffers &buffers, bool is_finished) {
  const auto whole = [&](const std::vector<uint64_t> &memory, uint64_t payload, unsigned char filler) {
    const auto *bytes = reinterpret_cast<const unsigned char *>(memory.data());
    const auto *from = static_cast<const unsigned char *>(at(payload));
    for (const unsigned char *byte = bytes; byte < bytes + BUFFER_BYTES; ++byte)
      if ((byte < from || byte >= from + operation.bytes) && *byte != filler) return false;
    return true;
  };
  if (!operation.is_chained && !whole(buffers.input_memory, buffers.input, 0xab)) return false;
  if (buffers.output == buffers.input) return true;
  if (!whole(buffers.output_memory, buffers.output, 0xcd)) return false;
  const bool is_input_known = is_finished || !operation.is_chained;
  return !is_input_known || memcmp(at(buffers.input), buffers.contribution.data(), operation.bytes) == 0;
}

std::string describe(const Operation &operation, uint32_t ranks) {
  char text[200];
  snprintf(text, sizeof text, "%s, %u ranks, type %u, %u bytes, %u blocks, tile %u, %u stages, %s", operation.kernel->name, ranks,
           operation.type, operation.bytes, operation.blocks, 1u << operation.tile_log2, operation.stages,
           operation.is_captured ? "captured" : "eager");
  return text;
}

}  // namespace

Outcome run_schedule(uint64_t seed, bool must_abort) {
  Random random(seed);
  Outcome outcome;
  const uint32_t ranks = random.once_in(2) ? 2 : 2 + random.below(MOST_RANKS - 1);
  const uint32_t operation_count = 2 + random.below(4);
  // The third is just before the epochs that zero the slice of the first slots, which every message uses. The
  // last two are just before the wrap.
  constexpr uint32_t SLICES = (DIME_LL_BYTES + DIME_FLAG_BYTES) / 8 / 32;
  static constexpr uint32_t FIRST_EPOCHS[] = {1, 2, SLICES * DIME_CLEAR_PERIOD - 2, 0xfffffffdu, 0xfffffffeu};
  // Half of the schedules that must abort are about launches that give up their ticket where slots are cleared: all are eager, on
  // changing streams, and begin just before the clearing.
  const bool is_about_clearing = must_abort && random.once_in(2);
  const uint32_t first_epoch = FIRST_EPOCHS[is_about_clearing ? 2 : random.below(5)];
  sim::History::instance().forget();
  // 0: all launches are captured; 1: all are eager; 2: a random mix.
  const uint32_t eager_once_in = is_about_clearing ? 1 : random.below(3);
  // The host asks for reports now and then, which must change nothing else.
  const bool watched = random.once_in(2);
  // One or two ranks are aborted at step `abort_step`, but not all of them.
  const bool aborts = random.once_in(4) || must_abort;
  const uint64_t abort_step = random.below(16u << random.below(9));

  std::vector<Operation> operations;
  for (uint32_t i = 0; i < operation_count; ++i) {
    // The previous launch again: with the same arguments, or on its result.
    const bool repeats = i != 0 && random.once_in(2);
    operations.push_back(repeats ? operations.back() : random_operation(random, ranks));
    operations.back().is_chained = repeats && random.once_in(2);
    operations.back().is_captured = eager_once_in == 0 || !random.once_in(eager_once_in);
  }
  std::vector<Rank> all(ranks);
  for (uint32_t rank = 0; rank < ranks; ++rank) {
    sim::Processor::Shape shape;
    shape.sms = 1 + random.below(3);
    all[rank].processor = std::make_unique<sim::Processor>(shape, random.next() | 1);
    all[rank].scratch = scratch_of(rank);
    all[rank].speed = random.once_in(2) ? 1 : 1 + random.below(20);
    for (const bool is_captured : {false, true}) clear_lane(lane_of(all[rank].scratch, is_captured), first_epoch);
  }
  for (uint32_t i = 0; i < operation_count; ++i) {
    std::vector<const Buffers *> before;
    if (i != 0)
      for (const Rank &rank : all) before.push_back(&rank.buffers.back());
    std::vector<Buffers> buffers = make_buffers(random, operations[i], ranks, before);
    for (uint32_t rank = 0; rank < ranks; ++rank) {
      all[rank].buffers.push_back(std::move(buffers[rank]));
      Buffers &own = all[rank].buffers.back();
      if (!operations[i].is_chained) memcpy(at(own.input), own.contribution.data(), own.contribution.size());
    }
  }
  for (Rank &rank : all) {
    // The count of blocks starts just below the wrap.
    uint32_t host_count = 0, epoch = first_epoch, blocks_before = FIRST_COUNT;
    for (uint32_t i = 0; i < operation_count; ++i) {
      const Operation &operation = operations[i];
      const bool is_replay = i != 0 && operation.kernel == operations[i - 1].kernel && operation.bytes == operations[i - 1].bytes;
      if (!is_replay) ++host_count;
      dime_args args = arguments(operation, rank.buffers[i], uint32_t(&rank - all.data()), ranks, rank.mailbox);
      if (!operation.is_captured) {
        args.epoch = epoch;
        epoch = epoch_after(epoch);
        args.blocks_before = blocks_before;
        blocks_before += operation.blocks;
      } else {
        // What a host that counts launches would pass as the epoch. Only the variant epoch-from-the-host
        // reads it.
        args.blocks_before = host_count;
      }
      const bool is_behind_eager = i != 0 && !operations[i - 1].is_captured;
      rank.is_elsewhere.push_back(is_behind_eager && !operation.is_captured && (is_about_clearing || random.once_in(3)));
      void *parameters[] = {&args};
      rank.launches.push_back(
          std::make_shared<sim::Launch>(*operation.kernel, operation.blocks, operation.threads, parameters));
    }
  }
  outcome.launches = uint64_t(operation_count) * ranks;

  // The streams of a rank. A launch may start when the previous launch has ended or lets dependents start, or
  // is on another stream. At most two launches run at a time.
  const auto feed = [](Rank &rank) {
    for (size_t i = 0; i < rank.started; ++i)
      if (i == 0 || rank.launches[i - 1]->is_done()) rank.launches[i]->end_wait();
    if (rank.started == rank.launches.size()) return;
    const bool first = rank.started == 0;
    const bool one_is_over = rank.started < 2 || rank.launches[rank.started - 2]->is_done();
    if (first || rank.launches[rank.started - 1]->is_done() || (rank.is_elsewhere[rank.started] && one_is_over))
      rank.processor->start(rank.launches[rank.started++], true);
    else if (rank.launches[rank.started - 1]->lets_dependents_start() && one_is_over)
      rank.processor->start(rank.launches[rank.started++], false);
  };
  const auto is_over = [](const Rank &rank) { return rank.launches.back()->is_done(); };
  const auto note_finished = [](Rank &rank) {
    if (is_stopped(rank)) return;
    while (rank.finished < rank.started && rank.launches[rank.finished]->is_done()) ++rank.finished;
  };
  const auto stop = [](Rank &rank) { rank.mailbox.command = DIME_STOP; };

  uint64_t steps_left = STEPS_AFTER_ABORT * ranks;
  for (uint64_t step = 0;; ++step) {
    bool over = true, stopped_are_over = true;
    for (const Rank &rank : all) {
      over = over && is_over(rank);
      stopped_are_over = stopped_are_over && (!is_stopped(rank) || is_over(rank));
    }
    if (over) break;
    for (Rank &rank : all)
      if (watched && !is_stopped(rank)) rank.mailbox.command = random.once_in(8) ? DIME_REPORT : DIME_GO_ON;
    if (aborts && step == abort_step) {
      const uint32_t first = random.below(ranks);
      stop(all[first]);
      if (ranks > 2 && random.once_in(3)) stop(all[(first + 1) % ranks]);
    }
    // A rank that waits for an aborted one waits until it is aborted itself. Slow ranks run at full speed
    // now, so that each gets as far as it can before that.
    if (aborts && step > abort_step && stopped_are_over && steps_left-- == 0)
      for (Rank &rank : all) stop(rank);
    if (step == MOST_STEPS) {
      outcome.failed_check = "hang";
      outcome.details = "no end after " + std::to_string(step) + " steps; first " + describe(operations[0], ranks);
      for (Rank &rank : all) stop(rank);  // so that the kernels end, and their fibers can be reused
    }
    Rank &rank = all[random.below(ranks)];
    const bool is_slow = rank.speed > 1 && !(aborts && step > abort_step && stopped_are_over);
    if (is_over(rank) || (is_slow && !random.once_in(rank.speed))) continue;
    feed(rank);
    rank.processor->step();
    note_finished(rank);
  }
  if (!outcome.failed_check.empty()) return outcome;

  for (uint32_t i = 0; i < operation_count; ++i)
    for (uint32_t rank = 0; rank < ranks; ++rank) {
      const Buffers &buffers = all[rank].buffers[i];
      const bool is_finished = i < all[rank].finished;
      const bool is_right = memcmp(at(buffers.output), buffers.expected.data(), operations[i].bytes) == 0;
      const char *failed = is_finished && !is_right                                   ? "result"
                           : !guards_are_whole(operations[i], buffers, is_finished) ? "guard"
                                                                                      : nullptr;
      if (!failed) continue;
      outcome.failed_check = failed;
      outcome.details = "rank " + std::to_string(rank) + ", operation " + std::to_string(i) + " of " +
                        std::to_string(operation_count) + ": " + describe(operations[i], ranks);
      return outcome;
    }
  for (const Rank &rank : all)
    if (is_stopped(rank)) return outcome;
  // Captured launches advance the epoch words; eager launches advance the count of blocks.
  uint32_t epoch = first_epoch, blocks = FIRST_COUNT;
  for (const Operation &operation : operations) {
    if (operation.is_captured)
      epoch = epoch_after(epoch);
    else
      blocks += operation.blocks;
  }
  for (const Rank &rank : all)
    if (!is_clean(lane_of(rank.scratch, false), first_epoch, blocks) || !is_clean(lane_of(rank.scratch, true), epoch, FIRST_COUNT)) {
      outcome.failed_check = "scratch";
      outcome.details = "a slot was not left free, or an epoch or a count is wrong; last " + describe(operations.back(), ranks);
      return outcome;
    }
  return outcome;
}

}  // namespace schedules
