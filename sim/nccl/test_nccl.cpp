// Tests of the CPU NCCL through its interface, on the simulated driver. Each test runs in a process of its own.
// Arguments: names of tests to run; all by default.
#include <dirent.h>

#include <cmath>
#include <fstream>
#include <memory>

#include "test_support.h"

using namespace test;

namespace {

// ---- Results --------------------------------------------------------------------------------------------------------

// Small enough to be exact in every type, and so are their sums, products and averages over four ranks.
double value_of(int rank, size_t i) { return double(1 + (i + size_t(rank) + i / 7) % 2); }

double reduced(ncclRedOp_t op, int ranks, size_t i, bool is_integer) {
  double result = value_of(0, i);
  for (int rank = 1; rank < ranks; ++rank) {
    const double value = value_of(rank, i);
    switch (op) {
      case ncclProd: result *= value; break;
      case ncclMax: result = std::max(result, value); break;
      case ncclMin: result = std::min(result, value); break;
      default: result += value; break;
    }
  }
  if (op != ncclAvg) return result;
  return is_integer ? std::floor(result / ranks) : result / ranks;
}

// Each rank of a seat: buffers, a stream, and the calls between group start and end.
struct Lane {
  Lane(int rank, ncclComm_t comm) : rank(rank), comm(comm), stream((use_device(rank), new Stream)) {}
  int rank;
  ncclComm_t comm;
  std::unique_ptr<Stream> stream;
  std::unique_ptr<Memory> input, output;
};

// Runs `call` for each rank here in a group, with the buffers filled anew, and waits.
void run(std::vector<Lane> &lanes, ncclDataType_t type, size_t send_count, size_t receive_count,
         const std::function<double(int, size_t)> &input, const std::function<ncclResult_t(Lane &)> &call) {
  for (Lane &lane : lanes) {
    use_device(lane.rank);
    lane.input = std::make_unique<Memory>(elements(type, send_count, [&](size_t i) { return input(lane.rank, i); }));
    lane.output = std::make_unique<Memory>(std::vector<char>(receive_count * BYTES[type], char(0x5a)));
  }
  NCCL(ncclGroupStart());
  for (Lane &lane : lanes) NCCL(call(lane));
  NCCL(ncclGroupEnd());
  for (Lane &lane : lanes) lane.stream->wait();
}

ncclResult_t sum_in_place(Lane &lane, Memory &memory, CUstream stream, size_t count = 1) {
  return ncclAllReduce(memory.all(), memory.all(), count, ncclFloat32, ncclSum, lane.comm, stream);
}

std::vector<Lane> lanes_of(const Seat &seat) {
  std::vector<Lane> lanes;
  for (size_t i = 0; i < seat.ranks.size(); ++i) lanes.emplace_back(seat.ranks[i], seat.comms[i]);
  return lanes;
}

void check_collectives(Seat &seat, ncclDataType_t type, size_t count) {
  const int n = seat.total;
  const int root = n - 1;
  const bool is_integer = type <= ncclUint64;
  std::vector<Lane> lanes = lanes_of(seat);
  const size_t all = count * size_t(n);
  // Where element i of rank r's block for or from rank b comes from.
  const auto block_value = [&](int rank, size_t block, size_t i) { return value_of(rank, block * 3 + i); };
  const auto blocks = [&](int rank, size_t i) { return block_value(rank, i / count, i % count); };

  for (ncclRedOp_t op : {ncclSum, ncclProd, ncclMax, ncclMin, ncclAvg}) {
    run(lanes, type, count, count, value_of, [&](Lane &l) {
      return ncclAllReduce(l.input->all(), l.output->all(), count, type, op, l.comm, *l.stream);
    });
    for (Lane &lane : lanes)
      check_elements("all-reduce", type, lane.output->download(), 0, count,
                     [&](size_t i) { return reduced(op, n, i, is_integer); });
  }
  run(lanes, type, count, count, value_of, [&](Lane &l) {
    return ncclAllReduce(l.input->all(), l.input->all(), count, type, ncclSum, l.comm, *l.stream);
  });
  for (Lane &lane : lanes)
    check_elements("all-reduce in place", type, lane.input->download(), 0, count,
                   [&](size_t i) { return reduced(ncclSum, n, i, is_integer); });

  run(lanes, type, count, count, value_of, [&](Lane &l) {
    void *output = l.rank == root ? l.output->all() : nullptr;
    return ncclReduce(l.input->all(), output, count, type, ncclSum, root, l.comm, *l.stream);
  });
  for (Lane &lane : lanes)
    if (lane.rank == root)
      check_elements("reduce", type, lane.output->download(), 0, count,
                     [&](size_t i) { return reduced(ncclSum, n, i, is_integer); });

  run(lanes, type, all, count, value_of, [&](Lane &l) {
    return ncclReduceScatter(l.input->all(), l.output->all(), count, type, ncclMax, l.comm, *l.stream);
  });
  for (Lane &lane : lanes)
    check_elements("reduce-scatter", type, lane.output->download(), 0, count,
                   [&](size_t i) { return reduced(ncclMax, n, size_t(lane.rank) * count + i, is_integer); });
  run(lanes, type, all, 0, value_of, [&](Lane &l) {
    char *own = l.input->at<char>(size_t(l.rank) * count * BYTES[type]);
    return ncclReduceScatter(l.input->all(), own, count, type, ncclSum, l.comm, *l.stream);
  });
  for (Lane &lane : lanes)
    check_elements("reduce-scatter in place", type, lane.input->download(), size_t(lane.rank) * count, count,
                   [&](size_t i) { return reduced(ncclSum, n, size_t(lane.rank) * count + i, is_integer); });

  run(lanes, type, count, count, value_of, [&](Lane &l) {
    const void *input = l.rank == root ? l.input->all() : nullptr;
    return ncclBroadcast(input, l.output->all(), count, type, root, l.comm, *l.stream);
  });
  for (Lane &lane : lanes)
    check_elements("broadcast", type, lane.output->download(), 0, count, [&](size_t i) { return value_of(root, i); });
  run(lanes, type, count, 0, value_of,
      [&](Lane &l) { return ncclBcast(l.input->all(), count, type, root, l.comm, *l.stream); });
  for (Lane &lane : lanes)
    check_elements("bcast", type, lane.input->download(), 0, count, [&](size_t i) { return value_of(root, i); });

  const auto check_blocks = [&](const char *what, Lane &lane, const std::function<double(int, size_t)> &want) {
    for (int block = 0; block < n; ++block)
      check_elements(what, type, lane.output->download(), size_t(block) * count, count,
                     [&](size_t i) { return want(block, i); });
  };
  run(lanes, type, count, all, value_of, [&](Lane &l) {
    return ncclAllGather(l.input->all(), l.output->all(), count, type, l.comm, *l.stream);
  });
  for (Lane &lane : lanes) check_blocks("all-gather", lane, value_of);
  run(lanes, type, all, all, blocks, [&](Lane &l) {
    return ncclAlltoAll(l.input->all(), l.output->all(), count, type, l.comm, *l.stream);
  });
  for (Lane &lane : lanes)
    check_blocks("all-to-all", lane, [&](int block, size_t i) { return block_value(block, size_t(lane.rank), i); });
  run(lanes, type, count, all, value_of, [&](Lane &l) {
    return ncclGather(l.input->all(), l.output->all(), count, type, root, l.comm, *l.stream);
  });
  for (Lane &lane : lanes)
    if (lane.rank == root) check_blocks("gather", lane, value_of);
  run(lanes, type, all, count, blocks, [&](Lane &l) {
    return ncclScatter(l.input->all(), l.output->all(), count, type, root, l.comm, *l.stream);
  });
  for (Lane &lane : lanes)
    check_elements("scatter", type, lane.output->download(), 0, count,
                   [&](size_t i) { return block_value(root, size_t(lane.rank), i); });

  // A ring, each rank also to itself.
  run(lanes, type, count, 2 * count, value_of, [&](Lane &l) {
    NCCL(ncclSend(l.input->all(), count, type, (l.rank + 1) % n, l.comm, *l.stream));
    NCCL(ncclSend(l.input->all(), count, type, l.rank, l.comm, *l.stream));
    NCCL(ncclRecv(l.output->at<char>(count * BYTES[type]), count, type, l.rank, l.comm, *l.stream));
    return ncclRecv(l.output->all(), count, type, (l.rank + n - 1) % n, l.comm, *l.stream);
  });
  for (Lane &lane : lanes) {
    if (n == 1) continue;  // both messages are to itself: they arrive in order, the first one second
    const std::vector<char> got = lane.output->download();
    check_elements("ring", type, got, 0, count, [&](size_t i) { return value_of((lane.rank + n - 1) % n, i); });
    check_elements("to itself", type, got, count, count, [&](size_t i) { return value_of(lane.rank, i); });
  }
}

void check_all_collectives(Seat &seat) {
  seat.connect();
  for (ncclDataType_t type : TYPES)
    for (size_t count : {size_t(1), size_t(3), size_t(1000)}) check_collectives(seat, type, count);
  for (ncclDataType_t type : {ncclFloat32, ncclFloat8e5m2}) check_collectives(seat, type, 300007);
  seat.disconnect();
}

void collectives_between_threads() { as_threads(4, check_all_collectives); }
void collectives_by_one_thread() { as_one_thread(4, check_all_collectives); }
void collectives_between_processes() { as_processes(4, check_all_collectives); }
void collectives_of_one_and_two_ranks() {
  as_threads(2, check_all_collectives);
  as_threads(1, check_all_collectives);
}

// All-reduces one element of each rank; all ranks must get the same bits.
std::vector<char> reduce_one(std::vector<Lane> &lanes, ncclDataType_t type, ncclRedOp_t op,
                             const std::vector<double> &values) {
  run(lanes, type, 1, 1, [&](int rank, size_t) { return values[size_t(rank)]; }, [&](Lane &l) {
    return ncclAllReduce(l.input->all(), l.output->all(), 1, type, op, l.comm, *l.stream);
  });
  const std::vector<char> result = lanes[0].output->download();
  for (Lane &lane : lanes) CHECK(lane.output->download() == result);
  return result;
}

void numbers_follow_the_rules() {
  as_one_thread(3, [](Seat &seat) {
    seat.connect();
    std::vector<Lane> lanes = lanes_of(seat);
    const auto one = [&](ncclDataType_t type, ncclRedOp_t op, const std::vector<double> &values) {
      return get(type, reduce_one(lanes, type, op, values).data());
    };
    // In rank order.
    CHECK_EQUAL(one(ncclFloat32, ncclSum, {1e8, 1, -1e8}), 0);
    CHECK_EQUAL(one(ncclFloat32, ncclSum, {1e8, -1e8, 1}), 1);
    CHECK_EQUAL(one(ncclFloat64, ncclSum, {1e8, 1, -1e8}), 1);
    // 256 + 1 is not in bfloat16, nor is 2048 + 1 in float16, nor 16 + 1 in e4m3: rounded once at the end.
    CHECK_EQUAL(one(ncclBfloat16, ncclSum, {256, 1, 1}), 258);
    CHECK_EQUAL(one(ncclFloat16, ncclSum, {2048, 1, 1}), 2050);
    CHECK_EQUAL(one(ncclFloat8e4m3, ncclSum, {16, 1, 1}), 18);
    // To nearest even, and saturating.
    CHECK_EQUAL(one(ncclBfloat16, ncclSum, {256, 1, 0}), 256);
    CHECK_EQUAL(one(ncclBfloat16, ncclSum, {258, 1, 0}), 260);
    CHECK_EQUAL(one(ncclFloat8e4m3, ncclSum, {448, 448, 448}), 448);
    CHECK_EQUAL(one(ncclFloat8e5m2, ncclProd, {57344, 2, 1}), 57344);
    CHECK(std::isinf(one(ncclFloat16, ncclSum, {65504, 65504, 0})));
    // Integers wrap, and averages divide the wrapped sum towards zero.
    CHECK_EQUAL(one(ncclInt8, ncclSum, {100, 100, 0}), -56);
    CHECK_EQUAL(one(ncclInt8, ncclAvg, {100, 100, 0}), -18);
    CHECK_EQUAL(one(ncclInt32, ncclAvg, {-5, -5, -1}), -3);
    CHECK_EQUAL(one(ncclUint8, ncclProd, {20, 20, 1}), 400 % 256);
    CHECK_EQUAL(one(ncclUint32, ncclMax, {1, 4294967295.0, 2}), 4294967295.0);
    CHECK_EQUAL(one(ncclInt32, ncclMin, {1, -1, 2}), -1);
    // Averages multiply by 1/3 of the type first.
    const float third = __bfloat162float(__float2bfloat16_rn(1.0f / 3));
    CHECK_EQUAL(one(ncclBfloat16, ncclAvg, {100, 100, 100}),
                __bfloat162float(__float2bfloat16_rn(100 * third + 100 * third + 100 * third)));
    // A NaN loses, and -0 is less than +0.
    CHECK_EQUAL(one(ncclFloat32, ncclMax, {NAN, -2, NAN}), -2);
    CHECK_EQUAL(one(ncclFloat16, ncclMin, {3, NAN, 2}), 2);
    CHECK(std::signbit(one(ncclFloat64, ncclMin, {0.0, -0.0, 0.0})));
    CHECK(!std::signbit(one(ncclFloat64, ncclMax, {-0.0, 0.0, -0.0})));
    // Factors, from the host and from the device.
    for (ncclScalarResidence_t residence : {ncclScalarHostImmediate, ncclScalarDevice}) {
      std::vector<ncclRedOp_t> ops(3);
      std::vector<std::unique_ptr<Memory>> scalars;
      for (size_t rank = 0; rank < 3; ++rank) {
        std::vector<char> factor = elements(ncclFloat16, 1, [&](size_t) { return 0.5 + double(rank); });
        use_device(int(rank));
        scalars.push_back(std::make_unique<Memory>(factor));
        void *scalar = residence == ncclScalarDevice ? scalars[rank]->all() : factor.data();
        NCCL(ncclRedOpCreatePreMulSum(&ops[rank], scalar, ncclFloat16, residence, seat.comms[rank]));
      }
      run(lanes, ncclFloat16, 1, 1, [](int rank, size_t) { return 10.0 * (rank + 1); }, [&](Lane &l) {
        return ncclAllReduce(l.input->all(), l.output->all(), 1, ncclFloat16, ops[size_t(l.rank)], l.comm,
                             *l.stream);
      });
      for (Lane &lane : lanes) CHECK_EQUAL(get(ncclFloat16, lane.output->download().data()), 5 + 30 + 75);
      for (Lane &lane : lanes)
        CHECK_EQUAL(ncclAllReduce(lane.input->all(), lane.output->all(), 1, ncclBfloat16,
                                  ops[size_t(lane.rank)], lane.comm, *lane.stream), ncclInvalidArgument);
      for (size_t rank = 0; rank < 3; ++rank) NCCL(ncclRedOpDestroy(ops[rank], seat.comms[rank]));
      CHECK_EQUAL(ncclRedOpDestroy(ops[0], seat.comms[0]), ncclInvalidArgument);
    }
    CHECK_EQUAL(ncclRedOpDestroy(ncclSum, seat.comms[0]), ncclInvalidArgument);
    seat.disconnect();
  });
}

// ---- Order and groups -----------------------------------------------------------------------------------------------

void CUDA_CB sleep_some(void *) { std::this_thread::sleep_for(std::chrono::milliseconds(30)); }

void expect_sum(Lane &lane, double want) {
  CHECK_EQUAL(get(ncclFloat32, lane.output->download().data()), want);
}

void work_is_ordered_across_streams() {
  as_threads(2, [](Seat &seat) {
    seat.connect();
    std::vector<Lane> lanes = lanes_of(seat);
    Lane &lane = lanes[0];
    Stream other;
    for (int round = 0; round < 20; ++round) {
      lane.input = std::make_unique<Memory>(elements(ncclFloat32, 1, [&](size_t) { return 1.0; }));
      lane.output = std::make_unique<Memory>(4);
      // The first sum comes late, and the second reads its result on another stream.
      if (round % 4 == 0) CUDA(cuLaunchHostFunc(*lane.stream, sleep_some, nullptr));
      NCCL(ncclAllReduce(lane.input->all(), lane.output->all(), 1, ncclFloat32, ncclSum, lane.comm, *lane.stream));
      NCCL(sum_in_place(lane, *lane.output, other));
      other.wait();
      expect_sum(lane, 4);
      lane.stream->wait();
    }
    // Two streams in one group: both are waited for and both wait.
    Memory more(elements(ncclFloat32, 1, [&](size_t) { return 3.0; }));
    CUDA(cuLaunchHostFunc(other, sleep_some, nullptr));
    CUDA(cuMemcpyDtoDAsync(lane.input->address, more.address, 4, other));
    NCCL(ncclGroupStart());
    NCCL(ncclAllReduce(lane.input->all(), lane.output->all(), 1, ncclFloat32, ncclSum, lane.comm, *lane.stream));
    NCCL(ncclAllReduce(more.all(), more.all(), 1, ncclFloat32, ncclMax, lane.comm, other));
    NCCL(ncclGroupEnd());
    other.wait();
    expect_sum(lane, 6);
    seat.disconnect();
  });
}

void groups_mix_collectives_and_messages() {
  as_threads(3, [](Seat &seat) {
    seat.connect();
    std::vector<Lane> lanes = lanes_of(seat);
    Lane &lane = lanes[0];
    const size_t count = 200000;  // more than fits into a pipe: both directions must move at once
    const auto content = [&](int rank) { return [=](size_t i) { return double(i % 1000 + size_t(rank)); }; };
    lane.input = std::make_unique<Memory>(elements(ncclFloat32, count, content(lane.rank)));
    Memory from_first(count * 4), from_last(count * 4), sum(4), largest(4);
    NCCL(ncclGroupStart());
    const int others[] = {(lane.rank + 1) % 3, (lane.rank + 2) % 3};
    for (int peer : others) NCCL(ncclSend(lane.input->all(), count, ncclFloat32, peer, lane.comm, *lane.stream));
    NCCL(ncclAllReduce(lane.input->all(), sum.all(), 1, ncclFloat32, ncclSum, lane.comm, *lane.stream));
    NCCL(ncclGroupStart());
    NCCL(ncclRecv(from_first.all(), count, ncclFloat32, others[0], lane.comm, *lane.stream));
    NCCL(ncclGroupEnd());
    NCCL(ncclRecv(from_last.all(), count, ncclFloat32, others[1], lane.comm, *lane.stream));
    NCCL(ncclAllReduce(sum.all(), largest.all(), 1, ncclFloat32, ncclMax, lane.comm, *lane.stream));
    NCCL(ncclGroupEnd());
    lane.stream->wait();
    check_elements("message", ncclFloat32, from_first.download(), 0, count, content(others[0]));
    check_elements("message", ncclFloat32, from_last.download(), 0, count, content(others[1]));
    CHECK_EQUAL(get(ncclFloat32, sum.download().data()), 3);
    CHECK_EQUAL(get(ncclFloat32, largest.download().data()), 3);

    // An estimate moves nothing.
    ncclSimInfo_t info = NCCL_SIM_INFO_INITIALIZER;
    NCCL(ncclGroupStart());
    if (lane.rank == 0) NCCL(sum_in_place(lane, *lane.input, *lane.stream, count));
    NCCL(ncclGroupSimulateEnd(&info));
    if (lane.rank == 0) CHECK(info.estimatedTime > 0);
    // It closes the group also when it fails.
    info.magic = 0;
    NCCL(ncclGroupStart());
    CHECK_EQUAL(ncclGroupSimulateEnd(&info), ncclInvalidArgument);
    CHECK_EQUAL(ncclGroupSimulateEnd(nullptr), ncclInvalidUsage);
    seat.disconnect();
  });
}

void graphs_repeat_what_was_captured() {
  as_threads(2, [](Seat &seat) {
    seat.connect();
    std::vector<Lane> lanes = lanes_of(seat);
    Lane &lane = lanes[0];
    lane.input = std::make_unique<Memory>(4);
    lane.output = std::make_unique<Memory>(4);
    Stream other;
    CUevent fork, join;
    CUDA(cuEventCreate(&fork, CU_EVENT_DISABLE_TIMING));
    CUDA(cuEventCreate(&join, CU_EVENT_DISABLE_TIMING));
    CUDA(cuStreamBeginCapture(*lane.stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    CUDA(cuEventRecord(fork, *lane.stream));
    CUDA(cuStreamWaitEvent(other, fork, 0));
    NCCL(ncclAllReduce(lane.input->all(), lane.output->all(), 1, ncclFloat32, ncclSum, lane.comm, *lane.stream));
    // Ordered behind the first although nothing but the communicator says so.
    NCCL(sum_in_place(lane, *lane.output, other));
    CUDA(cuEventRecord(join, other));
    CUDA(cuStreamWaitEvent(*lane.stream, join, 0));
    CUgraph graph;
    CUDA(cuStreamEndCapture(*lane.stream, &graph));
    CUgraphExec executable;
    CUDA(cuGraphInstantiate(&executable, graph, 0));
    CUDA(cuGraphDestroy(graph));
    for (int round = 0; round < 50; ++round) {
      lane.input->upload(elements(ncclFloat32, 1, [&](size_t) { return double(round); }));
      CUDA(cuGraphLaunch(executable, *lane.stream));
      // Eager calls between replays.
      if (round % 3 == 0)
        NCCL(ncclAllReduce(lane.output->all(), lane.output->all(), 1, ncclFloat32, ncclMax, lane.comm,
                           *lane.stream));
      lane.stream->wait();
      expect_sum(lane, 4 * round);
    }
    // The graph keeps what it needs.
    seat.disconnect();
    barrier(*seat.shared, 2);
    CUDA(cuGraphLaunch(executable, *lane.stream));
    lane.stream->wait();
    expect_sum(lane, 4 * 49);
    CUDA(cuGraphExecDestroy(executable));
    CUDA(cuEventDestroy(fork));
    CUDA(cuEventDestroy(join));
  });
}

// Nothing orders the streams, and each rank is late at other times: only the order of the launches is common to all.
void replays_and_calls_run_in_the_order_of_their_launches() {
  as_threads(3, [](Seat &seat) {
    seat.connect();
    std::vector<Lane> lanes = lanes_of(seat);
    Lane &lane = lanes[0];
    const size_t count = 100000;
    const auto ones = elements(ncclFloat32, count, [](size_t) { return 1.0; });
    Memory captured(ones), called(ones);
    Stream other;
    CUDA(cuStreamBeginCapture(*lane.stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    for (int i = 0; i < 2; ++i) NCCL(sum_in_place(lane, captured, *lane.stream, count));
    CUgraph graph;
    CUDA(cuStreamEndCapture(*lane.stream, &graph));
    CUgraphExec executable;
    CUDA(cuGraphInstantiate(&executable, graph, 0));
    CUDA(cuGraphDestroy(graph));
    for (int round = 0; round < 4; ++round) {
      if (round == lane.rank) CUDA(cuLaunchHostFunc(*lane.stream, sleep_some, nullptr));
      CUDA(cuGraphLaunch(executable, *lane.stream));
      if (round == lane.rank + 1) CUDA(cuLaunchHostFunc(other, sleep_some, nullptr));
      for (int i = 0; i < 2; ++i) NCCL(sum_in_place(lane, called, other, count));
    }
    for (const Memory *memory : {&captured, &called}) {
      lane.stream->wait();
      other.wait();
      check_elements("sum", ncclFloat32, memory->download(), 0, count, [](size_t) { return std::pow(3, 8); });
    }
    CUDA(cuGraphExecDestroy(executable));
    seat.disconnect();
  });
}

void destroy_waits_for_what_is_enqueued() {
  as_threads(2, [](Seat &seat) {
    seat.connect();
    std::vector<Lane> lanes = lanes_of(seat);
    Lane &lane = lanes[0];
    lane.output = std::make_unique<Memory>(elements(ncclFloat32, 1, [&](size_t) { return 2.0; }));
    CUDA(cuLaunchHostFunc(*lane.stream, sleep_some, nullptr));
    NCCL(sum_in_place(lane, *lane.output, *lane.stream));
    if (lane.rank == 0) NCCL(ncclCommFinalize(lane.comm));
    if (lane.rank == 0)
      CHECK_EQUAL(sum_in_place(lane, *lane.output, *lane.stream), ncclInvalidUsage);
    seat.disconnect();
    CHECK_EQUAL(get_as<float>(lane.output->at<char>(0)), 4);  // read past the stream
  });
}

// ---- Making communicators -------------------------------------------------------------------------------------------

// Waits for a communicator that is not blocking.
void wait_until_ready(ncclComm_t comm) {
  ncclResult_t state = ncclInProgress;
  while (state == ncclInProgress) NCCL(ncclCommGetAsyncError(comm, &state));
  CHECK_EQUAL(state, ncclSuccess);
}

// Sums the ranks of a communicator over it.
double sum_of_ranks(ncclComm_t comm, Stream &stream) {
  int rank = 0;
  NCCL(ncclCommUserRank(comm, &rank));
  Memory memory(elements(ncclInt32, 1, [&](size_t) { return double(rank); }));
  const ncclResult_t result = ncclAllReduce(memory.all(), memory.all(), 1, ncclInt32, ncclSum, comm, stream);
  if (result == ncclInProgress) {
    wait_until_ready(comm);
  } else {
    NCCL(result);
  }
  stream.wait();
  return get(ncclInt32, memory.download().data());
}

void check_splits(Seat &seat) {
  seat.connect();
  const int rank = seat.ranks[0];
  ncclComm_t comm = seat.comms[0];
  Stream stream;
  for (int round = 0; round < 20; ++round) {
    // Even and odd ranks, in reverse.
    ncclComm_t part;
    int count = 0, own = -1, device = -1;
    NCCL(ncclCommSplit(comm, rank % 2, -rank, &part, nullptr));
    NCCL(ncclCommCount(part, &count));
    NCCL(ncclCommUserRank(part, &own));
    NCCL(ncclCommCuDevice(part, &device));
    CHECK_EQUAL(count, 2);
    CHECK_EQUAL(own, rank < 2 ? 1 : 0);
    CHECK_EQUAL(device, rank);
    CHECK_EQUAL(sum_of_ranks(part, stream), 1);
    NCCL(ncclCommDestroy(part));
    // One stays out, and goes on at once.
    NCCL(ncclCommSplit(comm, rank == round % 4 ? NCCL_SPLIT_NOCOLOR : 7, 0, &part, nullptr));
    if (rank == round % 4) {
      CHECK(part == nullptr);
    } else {
      CHECK_EQUAL(sum_of_ranks(part, stream), 3);
      NCCL(ncclCommDestroy(part));
    }
  }
  CHECK_EQUAL(ncclCommSplit(comm, -2, 0, &comm, nullptr), ncclInvalidArgument);
  comm = seat.comms[0];
  CHECK_EQUAL(sum_of_ranks(comm, stream), 6);
  // Ranks 1 and 3 are gone.
  for (int round = 0; round < 10; ++round) {
    if (rank % 2) break;
    int gone[] = {3, 1};
    ncclComm_t rest;
    NCCL(ncclCommShrink(comm, gone, 2, &rest, nullptr, round == 9 ? NCCL_SHRINK_ABORT : NCCL_SHRINK_DEFAULT));
    CHECK_EQUAL(sum_of_ranks(rest, stream), 1);
    NCCL(ncclCommDestroy(rest));
  }
  seat.disconnect();
}

void splits_between_threads() { as_threads(4, check_splits); }
void splits_between_processes() { as_processes(4, check_splits); }

// Ranks 0 and 1 take in rank 2, and then 3.
void check_growths(Seat &seat) {
  const int rank = seat.ranks[0];
  use_device(rank);
  const ncclUniqueId id = agree_on_id(*seat.shared, rank);
  Stream stream;
  ncclComm_t comm = nullptr;
  if (rank < 2) NCCL(ncclCommInitRank(&comm, 2, id, rank));
  for (int ranks = 3; ranks <= 4; ++ranks) {
    barrier(*seat.shared, 4);
    if (rank == 1) NCCL(ncclCommGetUniqueId(comm, &seat.shared->id));
    barrier(*seat.shared, 4);
    if (rank >= ranks) continue;
    ncclComm_t larger;
    if (comm) {
      CHECK_EQUAL(ncclCommGrow(comm, ranks - 1, nullptr, -1, &larger, nullptr), ncclInvalidArgument);
      CHECK_EQUAL(ncclCommGrow(comm, ranks, nullptr, rank, &larger, nullptr), ncclInvalidArgument);
      NCCL(ncclCommGrow(comm, ranks, nullptr, -1, &larger, nullptr));
      NCCL(ncclCommDestroy(comm));
    } else {
      CHECK_EQUAL(ncclCommGrow(nullptr, ranks, nullptr, rank, &larger, nullptr), ncclInvalidArgument);
      NCCL(ncclCommGrow(nullptr, ranks, &seat.shared->id, rank, &larger, nullptr));
    }
    comm = larger;
    CHECK_EQUAL(sum_of_ranks(comm, stream), ranks * (ranks - 1) / 2);
  }
  NCCL(ncclCommSuspend(comm, NCCL_SUSPEND_MEM));
  Memory memory(4);
  CHECK_EQUAL(ncclBcast(memory.all(), 1, ncclFloat32, 0, comm, stream), ncclInvalidUsage);
  CHECK_EQUAL(ncclCommSuspend(comm, NCCL_SUSPEND_MEM), ncclInvalidUsage);
  NCCL(ncclCommResume(comm));
  CHECK_EQUAL(ncclCommResume(comm), ncclInvalidUsage);
  CHECK_EQUAL(sum_of_ranks(comm, stream), 6);
  NCCL(ncclCommDestroy(comm));
}

void growths_between_threads() { as_threads(4, check_growths); }
void growths_between_processes() { as_processes(4, check_growths); }

void splits_by_one_thread() {
  as_one_thread(4, [](Seat &seat) {
    seat.connect();
    std::vector<ncclComm_t> parts(4);
    NCCL(ncclGroupStart());
    for (size_t rank = 0; rank < 4; ++rank)
      NCCL(ncclCommSplit(seat.comms[rank], int(rank / 2), 0, &parts[rank], nullptr));
    NCCL(ncclGroupEnd());
    for (int rank = 0; rank < 4; ++rank) {
      int own = -1;
      NCCL(ncclCommUserRank(parts[size_t(rank)], &own));
      CHECK_EQUAL(own, rank % 2);
      NCCL(ncclCommDestroy(parts[size_t(rank)]));
    }
    seat.disconnect();
  });
}

void init_all_and_small_functions() {
  ncclComm_t comms[4];
  NCCL(ncclCommInitAll(comms, 4, nullptr));
  for (int rank = 0; rank < 4; ++rank) {
    int device = -1;
    NCCL(ncclCommCuDevice(comms[rank], &device));
    CHECK_EQUAL(device, rank);
    NCCL(ncclCommDestroy(comms[rank]));
  }
  const int reversed[] = {3, 2}, twice[] = {1, 1};
  NCCL(ncclCommInitAll(comms, 2, reversed));
  int device = -1;
  NCCL(ncclCommCuDevice(comms[0], &device));
  CHECK_EQUAL(device, 3);
  use_device(3);
  char buffer[16];
  void *handle;
  NCCL(ncclCommRegister(comms[0], buffer, sizeof buffer, &handle));
  NCCL(ncclCommDeregister(comms[0], handle));
  CHECK_EQUAL(ncclCommDeregister(comms[0], handle), ncclInvalidArgument);
  CHECK_EQUAL(ncclAllReduce(buffer, buffer, 1, ncclNumTypes, ncclSum, comms[0], nullptr), ncclInvalidArgument);
  CHECK_EQUAL(ncclAllReduce(buffer, buffer, 1, ncclInt8, ncclNumOps, comms[0], nullptr), ncclInvalidArgument);
  CHECK_EQUAL(ncclBcast(buffer, 1, ncclInt8, 2, comms[0], nullptr), ncclInvalidArgument);
  CHECK_EQUAL(ncclSend(buffer, 1, ncclInt8, 0, comms[0], nullptr), ncclInvalidUsage);  // to itself, alone
  CHECK_EQUAL(ncclAllReduce(nullptr, buffer, 1, ncclInt8, ncclSum, comms[0], nullptr), ncclInvalidArgument);
  NCCL(ncclAllReduce(nullptr, nullptr, 0, ncclInt8, ncclSum, comms[0], nullptr));
  ncclCollConfig_t of_call = NCCL_COLLCONFIG_INITIALIZER;
  NCCL(ncclAllReduceConfig(nullptr, nullptr, 0, ncclInt8, ncclSum, comms[0], nullptr, nullptr));
  NCCL(ncclAllReduceConfig(nullptr, nullptr, 0, ncclInt8, ncclSum, comms[0], nullptr, &of_call));
  of_call.maxCTAs = 0;
  CHECK_EQUAL(ncclAllReduceConfig(nullptr, nullptr, 0, ncclInt8, ncclSum, comms[0], nullptr, &of_call),
              ncclInvalidArgument);
  CHECK_EQUAL(ncclAllReduce(buffer, buffer, 1, ncclInt8, ncclSum, nullptr, nullptr), ncclInvalidArgument);
  CHECK(strstr(ncclGetLastError(nullptr), "NULL"));
  // A failed call fails its group, which does nothing.
  NCCL(ncclGroupStart());
  NCCL(ncclAllReduce(buffer, buffer, 1, ncclInt8, ncclSum, comms[0], nullptr));
  CHECK_EQUAL(ncclBcast(buffer, 1, ncclInt8, -1, comms[0], nullptr), ncclInvalidArgument);
  CHECK_EQUAL(ncclGroupEnd(), ncclInvalidArgument);
  CHECK_EQUAL(ncclGroupEnd(), ncclInvalidUsage);
  NCCL(ncclCommDestroy(comms[0]));
  NCCL(ncclCommDestroy(comms[1]));
  CHECK_EQUAL(ncclCommInitAll(comms, 2, twice), ncclInvalidUsage);
  setenv("NCCL_MULTI_RANK_GPU_ENABLE", "1", 1);
  NCCL(ncclCommInitAll(comms, 2, twice));
  NCCL(ncclCommDestroy(comms[0]));
  NCCL(ncclCommDestroy(comms[1]));
  unsetenv("NCCL_MULTI_RANK_GPU_ENABLE");
  CHECK_EQUAL(ncclCommInitAll(comms, 5, nullptr), ncclInvalidArgument);
  NCCL(ncclCommDestroy(nullptr));
  NCCL(ncclCommAbort(nullptr));

  int version = 0;
  NCCL(ncclGetVersion(&version));
  CHECK_EQUAL(version, 23102);
  CHECK_EQUAL(ncclGetVersion(nullptr), ncclInvalidArgument);
  void *memory;
  NCCL(ncclMemAlloc(&memory, 1000));
  CHECK(memory);
  NCCL(ncclMemFree(memory));
  for (int code = 0; code <= 10; ++code) CHECK(strlen(ncclGetErrorString(ncclResult_t(code))) > 3);
}

void wrong_inits_are_refused() {
  use_device(0);
  ncclUniqueId id;
  NCCL(ncclGetUniqueId(&id));
  ncclComm_t comm, other;
  CHECK_EQUAL(ncclCommInitRank(&comm, 0, id, 0), ncclInvalidArgument);
  CHECK_EQUAL(ncclCommInitRank(&comm, 2, id, 2), ncclInvalidArgument);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 2;
  CHECK_EQUAL(ncclCommInitRankConfig(&comm, 1, id, 0, &config), ncclInvalidArgument);
  config.magic = 0;
  CHECK_EQUAL(ncclCommInitRankConfig(&comm, 1, id, 0, &config), ncclInvalidArgument);
  // Both ranks on one device.
  NCCL(ncclGroupStart());
  NCCL(ncclCommInitRank(&comm, 2, id, 0));
  NCCL(ncclCommInitRank(&other, 2, id, 1));
  CHECK_EQUAL(ncclGroupEnd(), ncclInvalidUsage);
  CHECK(comm == nullptr && other == nullptr);
  // The same rank twice.
  NCCL(ncclGetUniqueId(&id));
  NCCL(ncclGroupStart());
  NCCL(ncclCommInitRank(&comm, 2, id, 0));
  NCCL(ncclCommInitRank(&other, 2, id, 0));
  CHECK_EQUAL(ncclGroupEnd(), ncclInvalidUsage);
  // No such id.
  CHECK_EQUAL(ncclCommInitRank(&comm, 2, id, 0), ncclSystemError);
  memset(&id, 0, sizeof id);
  CHECK_EQUAL(ncclCommInitRank(&comm, 2, id, 0), ncclInvalidArgument);
}

void an_id_is_void_when_its_process_has_gone() {
  Shared *shared = new_shared();
  const pid_t child = fork();
  if (child == 0) {
    agree_on_id(*shared, 0);
    _exit(0);
  }
  waitpid(child, nullptr, 0);
  use_device(0);
  ncclComm_t comm;
  CHECK_EQUAL(ncclCommInitRank(&comm, 2, shared->id, 1), ncclSystemError);
  CHECK(strstr(ncclGetLastError(nullptr), "has exited"));
}

void non_blocking_init_is_polled() {
  as_threads(2, [](Seat &seat) {
    const int rank = seat.ranks[0];
    const ncclUniqueId id = agree_on_id(*seat.shared, rank);
    use_device(rank);
    if (rank == 1) sleep_some(nullptr);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclComm_t comm;
    CHECK_EQUAL(ncclCommInitRankConfig(&comm, 2, id, rank, &config), ncclInProgress);
    int count = 0;
    if (rank == 0) CHECK_EQUAL(ncclCommCount(comm, &count), ncclInvalidArgument);
    wait_until_ready(comm);
    Stream stream;
    CHECK_EQUAL(sum_of_ranks(comm, stream), 1);
    // Calls are enqueued later, and until then no further one is allowed.
    Memory memory(4);
    const auto call = [&] { return ncclBcast(memory.all(), 1, ncclFloat32, 0, comm, stream); };
    CHECK_EQUAL(call(), ncclInProgress);
    CHECK_EQUAL(call(), ncclInvalidArgument);
    wait_until_ready(comm);
    NCCL(ncclGroupStart());
    NCCL(call());
    CHECK_EQUAL(ncclGroupEnd(), ncclInProgress);
    wait_until_ready(comm);
    stream.wait();
    // A split makes progress with its parent.
    ncclComm_t part = nullptr;
    CHECK_EQUAL(ncclCommSplit(comm, 0, -rank, &part, nullptr), ncclInProgress);
    wait_until_ready(comm);
    CHECK(part);
    CHECK_EQUAL(sum_of_ranks(part, stream), 1);
    NCCL(ncclCommFinalize(part));
    wait_until_ready(part);
    NCCL(ncclCommDestroy(part));
    NCCL(ncclCommDestroy(comm));
  });
}

void an_init_without_its_peer_can_be_aborted() {
  use_device(0);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclUniqueId id;
  NCCL(ncclGetUniqueId(&id));
  ncclComm_t comm;
  CHECK_EQUAL(ncclCommInitRankConfig(&comm, 2, id, 0, &config), ncclInProgress);
  sleep_some(nullptr);
  ncclResult_t state;
  NCCL(ncclCommGetAsyncError(comm, &state));
  CHECK_EQUAL(state, ncclInProgress);
  NCCL(ncclCommAbort(comm));
}

// ---- Trouble --------------------------------------------------------------------------------------------------------

void abort_ends_work_that_waits_for_a_peer() {
  as_processes(2, [](Seat &seat) {
    seat.connect();
    if (seat.ranks[0] == 1) {
      barrier(*seat.shared, 2);
      _exit(0);
    }
    std::vector<Lane> lanes = lanes_of(seat);
    Lane &lane = lanes[0];
    lane.input = std::make_unique<Memory>(4);
    for (int i = 0; i < 3; ++i)
      NCCL(sum_in_place(lane, *lane.input, *lane.stream));
    barrier(*seat.shared, 2);
    sleep_some(nullptr);
    CHECK_EQUAL(cuStreamQuery(*lane.stream), CUDA_ERROR_NOT_READY);
    NCCL(ncclCommAbort(lane.comm));
    lane.stream->wait();
  });
}

// Of two communicators whose work is in one stream: the second abort lets the first end.
void aborts_in_a_group_end_together() {
  as_processes(2, [](Seat &seat) {
    seat.connect();
    std::vector<Lane> lanes = lanes_of(seat);
    Lane &lane = lanes[0];
    ncclComm_t child;
    NCCL(ncclCommSplit(lane.comm, 0, 0, &child, nullptr));
    if (seat.ranks[0] == 1) {
      barrier(*seat.shared, 2);
      _exit(0);
    }
    lane.input = std::make_unique<Memory>(4);
    NCCL(sum_in_place(lane, *lane.input, *lane.stream));
    barrier(*seat.shared, 2);
    NCCL(ncclGroupStart());
    NCCL(ncclCommDestroy(child));
    NCCL(ncclCommAbort(lane.comm));
    // Still there, since the group is open.
    ncclResult_t state;
    NCCL(ncclCommGetAsyncError(child, &state));
    NCCL(ncclGroupEnd());
    CHECK_EQUAL(ncclCommGetAsyncError(child, &state), ncclInvalidArgument);
    lane.stream->wait();
  });
}

void revoke_ends_work_but_leaves_the_ranks_together() {
  as_threads(3, [](Seat &seat) {
    seat.connect();
    std::vector<Lane> lanes = lanes_of(seat);
    Lane &lane = lanes[0];
    Memory memory(4);
    if (lane.rank != 2) {
      NCCL(sum_in_place(lane, memory, *lane.stream));
      NCCL(ncclCommRevoke(lane.comm, NCCL_REVOKE_DEFAULT));
      lane.stream->wait();
      CHECK_EQUAL(sum_in_place(lane, memory, *lane.stream), ncclInvalidUsage);
      int gone[] = {2};
      ncclComm_t rest;
      NCCL(ncclCommShrink(lane.comm, gone, 1, &rest, nullptr, NCCL_SHRINK_DEFAULT));
      CHECK_EQUAL(sum_of_ranks(rest, *lane.stream), 1);
      NCCL(ncclCommDestroy(rest));
    }
    seat.disconnect();
  });
}

void ranks_that_disagree_are_told() {
  as_threads(2, [](Seat &seat) {
    seat.connect();
    std::vector<Lane> lanes = lanes_of(seat);
    Lane &lane = lanes[0];
    Memory memory(64);
    NCCL(sum_in_place(lane, memory, *lane.stream, lane.rank == 0 ? 4 : 8));
    ncclResult_t state = ncclSuccess;
    while (state == ncclSuccess) NCCL(ncclCommGetAsyncError(lane.comm, &state));
    CHECK(state == ncclInvalidUsage || state == ncclRemoteError);  // found by this rank, or by the other
    lane.stream->wait();
    CHECK_EQUAL(sum_in_place(lane, memory, *lane.stream), state);
    barrier(*seat.shared, 2);
    seat.disconnect();
  });
}

size_t open_descriptors() {
  DIR *directory = opendir("/proc/self/fd");
  CHECK(directory);
  size_t count = 0;
  while (readdir(directory)) ++count;
  closedir(directory);
  return count;
}

size_t mappings() {
  std::ifstream maps("/proc/self/maps");
  size_t count = 0;
  for (std::string line; std::getline(maps, line);)
    if (line.find("memfd:nccl") != std::string::npos) ++count;
  return count;
}

void communicators_give_everything_back() {
  use_device(0);
  Stream stream;
  const auto round = [&](int number) {
    ncclComm_t comms[2], parts[2];
    NCCL(ncclCommInitAll(comms, 2, nullptr));
    NCCL(ncclGroupStart());
    for (int rank = 0; rank < 2; ++rank) NCCL(ncclCommSplit(comms[rank], 0, rank, &parts[rank], nullptr));
    NCCL(ncclGroupEnd());
    const Memory memory[2] = {Memory(4), Memory(4)};
    for (int rank = 0; rank < 2 && number % 3 == 0; ++rank) {
      use_device(rank);
      NCCL(ncclBcast(memory[rank].all(), 1, ncclFloat32, 0, parts[rank], CU_STREAM_LEGACY));
    }
    use_device(0);
    for (int rank = 0; rank < 2; ++rank) {
      NCCL(number % 2 ? ncclCommAbort(comms[rank]) : ncclCommDestroy(comms[rank]));
      NCCL(ncclCommDestroy(parts[rank]));
    }
  };
  for (int i = 0; i < 10; ++i) round(i);
  const size_t descriptors = open_descriptors();
  for (int i = 0; i < 1000; ++i) round(i);
  CHECK_EQUAL(open_descriptors(), descriptors);
  for (int tries = 0; mappings() != 0 && tries < 1000; ++tries) nap();  // the device's thread frees work a little later
  CHECK_EQUAL(mappings(), size_t(0));
}

struct Test {
  const char *name;
  void (*run)();
};
#define TEST(name) {#name, name}
const Test TESTS[] = {
    TEST(collectives_between_threads),
    TEST(collectives_by_one_thread),
    TEST(collectives_between_processes),
    TEST(collectives_of_one_and_two_ranks),
    TEST(numbers_follow_the_rules),
    TEST(work_is_ordered_across_streams),
    TEST(groups_mix_collectives_and_messages),
    TEST(graphs_repeat_what_was_captured),
    TEST(replays_and_calls_run_in_the_order_of_their_launches),
    TEST(destroy_waits_for_what_is_enqueued),
    TEST(splits_between_threads),
    TEST(splits_between_processes),
    TEST(splits_by_one_thread),
    TEST(growths_between_threads),
    TEST(growths_between_processes),
    TEST(init_all_and_small_functions),
    TEST(wrong_inits_are_refused),
    TEST(an_id_is_void_when_its_process_has_gone),
    TEST(non_blocking_init_is_polled),
    TEST(an_init_without_its_peer_can_be_aborted),
    TEST(abort_ends_work_that_waits_for_a_peer),
    TEST(aborts_in_a_group_end_together),
    TEST(revoke_ends_work_but_leaves_the_ranks_together),
    TEST(ranks_that_disagree_are_told),
    TEST(communicators_give_everything_back),
};

bool passes(const Test &test) {
  constexpr unsigned LIMIT_S = 120;
  const pid_t child = fork();
  if (child == 0) {
    alarm(LIMIT_S);
    test.run();
    exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  const bool passed = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  const char *how = passed ? "ok" : WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "HANGS" : "FAILS";
  printf("%-6s %s\n", how, test.name);
  fflush(stdout);
  return passed;
}

}  // namespace

int main(int count, char **names) {
  setenv("DIME_SIM_DEVICES", "4", 1);
  bool all_pass = true;
  for (const Test &test : TESTS) {
    bool wanted = count == 1;
    for (int i = 1; i < count; ++i) wanted |= strcmp(names[i], test.name) == 0;
    if (wanted) all_pass &= passes(test);
  }
  return all_pass ? 0 : 1;
}
