#include "operation.h"

#include <algorithm>
#include <cstring>

#include "failure.h"

namespace sim {

namespace {

struct MessageHeader {
  uint64_t subject;
  uint64_t bytes;
};
static_assert(sizeof(MessageHeader) == Pipe::UNIT_BYTES);

}  // namespace

Operation::Operation(Subject subject, int rank, int ranks)
    : subject_(subject), rank_(rank), ranks_(ranks), outgoing_(size_t(ranks)), incoming_(size_t(ranks)) {}

const void *Operation::multiply(ncclDataType_t type, const ReductionOp &op, const void *input, size_t elems) {
  multiplication_.emplace(Multiplication{type, op, input, elems, std::vector<char>(elems * bytes_of(type))});
  return multiplication_->output.data();
}

void Operation::copy(const void *from, void *to, size_t bytes) {
  if (from != to && bytes) copies_.push_back({from, to, bytes});
}

void Operation::send(int to, const void *from, size_t bytes) {
  char *const only_read = static_cast<char *>(const_cast<void *>(from));
  if (bytes) outgoing_[size_t(to)].messages.push_back({only_read, bytes, 0, false, false});
}

void Operation::receive(int from, void *to, size_t bytes) {
  if (bytes) incoming_[size_t(from)].messages.push_back({static_cast<char *>(to), bytes, 0, false, false});
}

void Operation::reduce(ncclDataType_t type, const Reduction &reduction, const void *own, void *output, size_t elems) {
  if (!elems) return;
  reducing_.emplace(Reducing{type, reduction, static_cast<const char *>(own), static_cast<char *>(output),
                             elems * bytes_of(type), 0, std::vector<char>(size_t(ranks_))});
}

void Operation::send_reduced(int to) {
  if (reducing_) outgoing_[size_t(to)].messages.push_back({reducing_->output, reducing_->bytes, 0, false, true});
}

void Operation::restart() {
  has_begun_ = false;
  for (auto *queues : {&outgoing_, &incoming_}) {
    for (Queue &queue : *queues) {
      queue.next = 0;
      for (Message &message : queue.messages) {
        message.done = 0;
        message.has_header = false;
      }
    }
  }
  if (reducing_) {
    reducing_->done = 0;
    std::fill(reducing_->has_header.begin(), reducing_->has_header.end(), false);
  }
}

bool Operation::advance(SharedState &shared) {
  bool moved = false;
  if (!has_begun_) {
    begin();
    has_begun_ = moved = true;
  }
  if (reducing_ && !reducing_->is_done()) moved |= reduce_some(shared);
  const bool receives = !reducing_ || reducing_->is_done();
  for (int peer = 0; peer < ranks_; ++peer) {
    moved |= send_some(shared.pipe(rank_, peer), outgoing_[size_t(peer)]);
    if (receives) moved |= receive_some(shared.pipe(peer, rank_), peer, incoming_[size_t(peer)]);
  }
  return moved;
}

void Operation::begin() {
  if (multiplication_) {
    const ReductionOp &op = multiplication_->op;
    sim::multiply(multiplication_->type, op.factor_address ? op.factor_address : op.factor, multiplication_->input,
                  multiplication_->output.data(), multiplication_->elems);
  }
  for (const Copy &copy : copies_) memmove(copy.to, copy.from, copy.bytes);
}

bool Operation::is_done() const {
  const auto queue_is_done = [](const Queue &queue) { return queue.is_done(); };
  return has_begun_ && (!reducing_ || reducing_->is_done()) &&
         std::all_of(outgoing_.begin(), outgoing_.end(), queue_is_done) &&
         std::all_of(incoming_.begin(), incoming_.end(), queue_is_done);
}

bool Operation::send_some(Pipe &pipe, Queue &queue) {
  bool moved = false;
  while (!queue.is_done()) {
    Message &message = queue.messages[queue.next];
    if (!message.has_header) {
      if (pipe.room() < sizeof(MessageHeader)) break;
      const MessageHeader header = {subject_.code, message.length};
      pipe.write(&header, sizeof header);
      message.has_header = moved = true;
    }
    size_t bytes = std::min(pipe.room(), message.length - message.done);
    if (message.is_reduced) bytes = std::min(bytes, reducing_->done - message.done);
    if (bytes == 0) break;
    pipe.write(message.bytes + message.done, bytes);
    message.done += bytes;
    moved = true;
    if (message.done == message.length) ++queue.next;
  }
  return moved;
}

bool Operation::receive_some(Pipe &pipe, int from, Queue &queue) {
  bool moved = false;
  while (!queue.is_done()) {
    Message &message = queue.messages[queue.next];
    if (!message.has_header) {
      if (pipe.arrived().length == 0) break;
      read_header(pipe, from, message.length);
      message.has_header = moved = true;
    }
    const Pipe::Run run = pipe.arrived();
    const size_t bytes = std::min(run.length, message.length - message.done);
    if (bytes == 0) break;
    memcpy(message.bytes + message.done, run.bytes, bytes);
    pipe.discard(bytes);
    message.done += bytes;
    moved = true;
    if (message.done == message.length) ++queue.next;
  }
  return moved;
}

bool Operation::reduce_some(SharedState &shared) {
  Reducing &reducing = *reducing_;
  bool moved = false;
  std::vector<const char *> inputs(size_t(ranks_), nullptr);
  // As far as all have arrived.
  size_t bytes = reducing.bytes - reducing.done;
  for (int peer = 0; peer < ranks_; ++peer) {
    if (peer == rank_) {
      inputs[size_t(peer)] = reducing.own + reducing.done;
      continue;
    }
    Pipe &pipe = shared.pipe(peer, rank_);
    if (!reducing.has_header[size_t(peer)] && pipe.arrived().length) {
      read_header(pipe, peer, reducing.bytes);
      reducing.has_header[size_t(peer)] = moved = true;
    }
    const Pipe::Run run = pipe.arrived();
    inputs[size_t(peer)] = run.bytes;
    bytes = std::min(bytes, reducing.has_header[size_t(peer)] ? run.length : 0);
  }
  if (bytes == 0) return moved;
  sim::reduce(reducing.type, reducing.reduction, inputs.data(), ranks_, reducing.output + reducing.done,
              bytes / bytes_of(reducing.type));
  for (int peer = 0; peer < ranks_; ++peer)
    if (peer != rank_) shared.pipe(peer, rank_).discard(bytes);
  reducing.done += bytes;
  return true;
}

void Operation::read_header(Pipe &pipe, int from, size_t bytes) {
  MessageHeader header;
  memcpy(&header, pipe.arrived().bytes, sizeof header);
  pipe.discard(sizeof header);
  if (header.subject != subject_.code)
    fail(ncclInvalidUsage, "in %s, rank %d finds that rank %d calls something else, or has another type, operation "
         "or root", subject_.what, rank_, from);
  if (header.bytes != bytes)
    fail(ncclInvalidUsage, "in %s, rank %d expects %zu bytes from rank %d, which sends %zu", subject_.what, rank_,
         bytes, from, size_t(header.bytes));
}

}  // namespace sim
