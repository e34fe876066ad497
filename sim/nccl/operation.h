// One operation of a communicator as one rank sees it: what it sends to each rank through the pipes, what it receives,
// and what it reduces. Never blocks: `advance` moves what can move.
//
// A message is a header and its bytes. The messages from one rank to another arrive in the order in which they were
// added, so both sides must add them alike; the header tells when they did not. The contributions to a reduction come
// first in the pipes: what else is received is taken up when the reduction has ended.
#ifndef DIME_SIM_NCCL_OPERATION_H
#define DIME_SIM_NCCL_OPERATION_H

#include <nccl.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "reduction_op.h"
#include "shared_state.h"

namespace sim {

// Which operation a message belongs to. The code is equal at both ends when both ranks made the same call.
struct Subject {
  const char *what;
  uint64_t code;
};

class Operation {
 public:
  Operation(Subject subject, int rank, int ranks);

  // Multiplies elements by the factor of `op` into memory of its own, before all else. At most once.
  const void *multiply(ncclDataType_t type, const ReductionOp &op, const void *input, size_t elems);
  void copy(const void *from, void *to, size_t bytes);
  void send(int to, const void *from, size_t bytes);
  void receive(int from, void *to, size_t bytes);
  // Reduces a contribution from each rank, this one's being `own`, into `output`. At most once.
  void reduce(ncclDataType_t type, const Reduction &reduction, const void *own, void *output, size_t elems);
  // Sends the output of the reduction.
  void send_reduced(int to);

  // Begins from the start.
  void restart();
  // False: nothing moved. Throws when a message is not what it must be.
  bool advance(SharedState &shared);
  bool is_done() const;

 private:
  struct Message {
    char *bytes;
    size_t length;
    size_t done;
    bool has_header;  // it has been written, or read
    bool is_reduced;
  };
  // The messages to or from one rank, in order.
  struct Queue {
    std::vector<Message> messages;
    size_t next = 0;
    bool is_done() const { return next == messages.size(); }
  };
  struct Multiplication {
    ncclDataType_t type;
    ReductionOp op;
    const void *input;
    size_t elems;
    std::vector<char> output;
  };
  struct Copy {
    const void *from;
    void *to;
    size_t bytes;
  };
  struct Reducing {
    ncclDataType_t type;
    Reduction reduction;
    const char *own;
    char *output;
    size_t bytes;  // of a contribution
    size_t done;
    std::vector<char> has_header;  // by rank
    bool is_done() const { return done == bytes; }
  };

  void begin();
  bool send_some(Pipe &pipe, Queue &queue);
  bool receive_some(Pipe &pipe, int from, Queue &queue);
  bool reduce_some(SharedState &shared);
  void read_header(Pipe &pipe, int from, size_t bytes);

  Subject subject_;
  int rank_, ranks_;
  std::optional<Multiplication> multiplication_;
  std::vector<Copy> copies_;
  bool has_begun_ = false;
  std::vector<Queue> outgoing_, incoming_;  // by rank
  std::optional<Reducing> reducing_;
};

}  // namespace sim

#endif
