#include "collectives.h"

#include <optional>

#include "failure.h"

namespace sim {

namespace {

const char *part(const void *base, size_t bytes) { return static_cast<const char *>(base) + bytes; }
char *part(void *base, size_t bytes) { return static_cast<char *>(base) + bytes; }

// Elements of an all-reduce that a rank reduces for all: from `first`, `count` of them.
struct Share {
  Share(size_t elems, int rank, int ranks)
      : first(begin(elems, rank, ranks)), count(begin(elems, rank + 1, ranks) - first) {}
  static size_t begin(size_t elems, int rank, int ranks) {
    const size_t n = size_t(ranks), r = size_t(rank);
    return elems / n * r + elems % n * r / n;
  }
  const size_t first, count;
};

class Builder {
 public:
  Builder(const Call &call, int rank, int ranks)
      : call_(call), rank_(rank), ranks_(ranks), elem_bytes_(bytes_of(call.type)), bytes_(call.count * elem_bytes_),
        operation_({name_of(call.kind), code(call)}, rank, ranks), contribution_(call.send) {
    if (!call.reduces() || !call.op.has_factor) return;
    const size_t elems = call.kind == Kind::REDUCE_SCATTER ? call.count * size_t(ranks) : call.count;
    contribution_ = operation_.multiply(call.type, call.op, call.send, elems);
  }

  Operation build() {
    // As in NCCL, one rank alone copies: numbers that no factor changes are not even looked at.
    if (ranks_ == 1 && call_.reduces()) {
      operation_.copy(contribution_, call_.receive, bytes_);
      return std::move(operation_);
    }
    switch (call_.kind) {
      case Kind::ALL_REDUCE: all_reduce(); break;
      case Kind::REDUCE: reduce(); break;
      case Kind::BROADCAST: broadcast(); break;
      case Kind::ALL_GATHER: all_gather(); break;
      case Kind::REDUCE_SCATTER: reduce_scatter(); break;
      case Kind::ALL_TO_ALL: all_to_all(); break;
      case Kind::GATHER: gather(); break;
      case Kind::SCATTER: scatter(); break;
      case Kind::SEND:
      case Kind::RECEIVE: break;  // not collectives
    }
    return std::move(operation_);
  }

 private:
  // What must be equal on all ranks.
  static uint64_t code(const Call &call) {
    return uint64_t(call.kind) | uint64_t(call.type) << 8 | uint64_t(call.op.common) << 16 | uint64_t(call.root) << 32;
  }

  template <class Body>
  void for_peers(Body body) {
    for (int peer = 0; peer < ranks_; ++peer)
      if (peer != rank_) body(peer);
  }

  void all_reduce() {
    const Share own(call_.count, rank_, ranks_);
    for_peers([&](int peer) {
      const Share share(call_.count, peer, ranks_);
      operation_.send(peer, part(contribution_, share.first * elem_bytes_), share.count * elem_bytes_);
    });
    operation_.reduce(call_.type, call_.op.reduction, part(contribution_, own.first * elem_bytes_),
                      part(call_.receive, own.first * elem_bytes_), own.count);
    for_peers([&](int peer) {
      const Share share(call_.count, peer, ranks_);
      operation_.send_reduced(peer);
      operation_.receive(peer, part(call_.receive, share.first * elem_bytes_), share.count * elem_bytes_);
    });
  }

  void reduce() {
    if (rank_ == call_.root) {
      operation_.reduce(call_.type, call_.op.reduction, contribution_, call_.receive, call_.count);
    } else {
      operation_.send(call_.root, contribution_, bytes_);
    }
  }

  void reduce_scatter() {
    for_peers([&](int peer) { operation_.send(peer, part(contribution_, size_t(peer) * bytes_), bytes_); });
    operation_.reduce(call_.type, call_.op.reduction, part(contribution_, size_t(rank_) * bytes_), call_.receive,
                      call_.count);
  }

  void broadcast() {
    if (rank_ == call_.root) {
      operation_.copy(call_.send, call_.receive, bytes_);
      for_peers([&](int peer) { operation_.send(peer, call_.send, bytes_); });
    } else {
      operation_.receive(call_.root, call_.receive, bytes_);
    }
  }

  void all_gather() {
    operation_.copy(call_.send, part(call_.receive, size_t(rank_) * bytes_), bytes_);
    for_peers([&](int peer) {
      operation_.send(peer, call_.send, bytes_);
      operation_.receive(peer, part(call_.receive, size_t(peer) * bytes_), bytes_);
    });
  }

  void all_to_all() {
    const size_t own = size_t(rank_) * bytes_;
    operation_.copy(part(call_.send, own), part(call_.receive, own), bytes_);
    for_peers([&](int peer) {
      operation_.send(peer, part(call_.send, size_t(peer) * bytes_), bytes_);
      operation_.receive(peer, part(call_.receive, size_t(peer) * bytes_), bytes_);
    });
  }

  void gather() {
    if (rank_ == call_.root) {
      operation_.copy(call_.send, part(call_.receive, size_t(rank_) * bytes_), bytes_);
      for_peers([&](int peer) { operation_.receive(peer, part(call_.receive, size_t(peer) * bytes_), bytes_); });
    } else {
      operation_.send(call_.root, call_.send, bytes_);
    }
  }

  void scatter() {
    if (rank_ == call_.root) {
      operation_.copy(part(call_.send, size_t(rank_) * bytes_), call_.receive, bytes_);
      for_peers([&](int peer) { operation_.send(peer, part(call_.send, size_t(peer) * bytes_), bytes_); });
    } else {
      operation_.receive(call_.root, call_.receive, bytes_);
    }
  }

  const Call &call_;
  const int rank_, ranks_;
  const size_t elem_bytes_, bytes_;
  Operation operation_;
  const void *contribution_;  // to a reduction
};

}  // namespace

const char *name_of(Kind kind) {
  switch (kind) {
    case Kind::ALL_REDUCE: return "ncclAllReduce";
    case Kind::REDUCE: return "ncclReduce";
    case Kind::BROADCAST: return "ncclBroadcast";
    case Kind::ALL_GATHER: return "ncclAllGather";
    case Kind::REDUCE_SCATTER: return "ncclReduceScatter";
    case Kind::ALL_TO_ALL: return "ncclAlltoAll";
    case Kind::GATHER: return "ncclGather";
    case Kind::SCATTER: return "ncclScatter";
    case Kind::SEND: return "ncclSend";
    case Kind::RECEIVE: return "ncclRecv";
  }
  return "";
}

void check_arguments(const Call &call, const Communicator &communicator) {
  const int ranks = communicator.ranks();
  if (call.type < 0 || call.type >= ncclNumTypes) fail(ncclInvalidArgument, "%d is no data type", int(call.type));
  if (call.root < 0 || call.root >= ranks)
    fail(ncclInvalidArgument, "%s %d: the communicator has ranks 0 to %d", call.is_point_to_point() ? "peer" : "root",
         call.root, ranks - 1);
  const bool is_float8 = call.type == ncclFloat8e4m3 || call.type == ncclFloat8e5m2;
  if (is_float8 && call.reduces() && communicator.least_arch() < 90)
    fail(ncclInvalidArgument, "%s is reduced from sm_90 on only", name_of(call.type));
  const bool has_root = call.kind == Kind::REDUCE || call.kind == Kind::BROADCAST || call.kind == Kind::GATHER ||
                        call.kind == Kind::SCATTER;
  const bool is_root = communicator.rank() == call.root;
  bool sends = call.kind != Kind::RECEIVE, receives = call.kind != Kind::SEND;
  if (has_root && !is_root) {
    const bool root_receives = call.kind == Kind::REDUCE || call.kind == Kind::GATHER;
    (root_receives ? receives : sends) = false;
  }
  if (call.count && sends && !call.send) fail(ncclInvalidArgument, "the send buffer is NULL");
  if (call.count && receives && !call.receive) fail(ncclInvalidArgument, "the receive buffer is NULL");
}

std::vector<Operation> operations_of(const std::vector<Call> &calls, int rank, int ranks) {
  std::vector<Operation> operations;
  std::optional<Operation> point_to_point;
  int to_itself = 0;
  for (const Call &call : calls) {
    if (!call.is_point_to_point()) {
      operations.push_back(Builder(call, rank, ranks).build());
      continue;
    }
    if (!point_to_point) point_to_point.emplace(Subject{"ncclSend and ncclRecv", uint64_t(Kind::SEND)}, rank, ranks);
    const bool sends = call.kind == Kind::SEND;
    const size_t bytes = call.count * bytes_of(call.type);
    if (sends) {
      point_to_point->send(call.root, call.send, bytes);
    } else {
      point_to_point->receive(call.root, call.receive, bytes);
    }
    if (call.root == rank) to_itself += sends ? 1 : -1;
  }
  if (to_itself != 0)
    fail(ncclInvalidUsage, "rank %d %s itself, and no matching call is in the group", rank,
         to_itself > 0 ? "sends to" : "receives from");
  if (point_to_point) operations.push_back(std::move(*point_to_point));
  return operations;
}

}  // namespace sim
