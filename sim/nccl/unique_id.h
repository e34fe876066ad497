// What an ncclUniqueId names: a piece of anonymous memory of the process that made it, which becomes the shared state
// of the communicator. The id holds that process, its descriptor of the memory, and random bytes that the memory
// begins with; other processes open it below /proc. Nothing appears in the file system.
#ifndef DIME_SIM_NCCL_UNIQUE_ID_H
#define DIME_SIM_NCCL_UNIQUE_ID_H

#include <nccl.h>

#include <cstddef>

#include "descriptor.h"

namespace sim {

// The random bytes.
struct Token {
  unsigned char bytes[32];
};

// Makes zeroed memory of `bytes` bytes, sparse, that begins with the token of the id returned. This process keeps it
// open until `forget_unique_id`.
ncclUniqueId make_unique_id(size_t bytes);

// Opens the memory. Throws when it is gone, or the id was never made here.
Descriptor open_unique_id(const ncclUniqueId &id);

// Nobody will open it any more. Does nothing in other processes than the one that made it, and when called again.
void forget_unique_id(const ncclUniqueId &id);

}  // namespace sim

#endif
