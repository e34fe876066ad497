// Functions of the interface that make, end and describe communicators.
#include <nccl.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <string>
#include <vector>

#include "device.h"
#include "exported.h"
#include "failure.h"
#include "group.h"
#include "handle.h"

using namespace sim;

namespace {

// Whether calls wait, by a configuration that may be missing.
bool is_blocking(const ncclConfig_t *config, bool by_default) {
  if (!config) return by_default;
  if (config->size < offsetof(ncclConfig_t, blocking) + sizeof config->blocking || config->magic != NCCL_API_MAGIC)
    fail(ncclInvalidArgument, "the configuration was not initialized with NCCL_CONFIG_INITIALIZER");
  switch (config->blocking) {
    case NCCL_CONFIG_UNDEF_INT: return by_default;
    case 0: return false;
    case 1: return true;
    default: fail(ncclInvalidArgument, "blocking is %d, neither 0 nor 1", config->blocking);
  }
}

// As NCCL does at its first communicator: what the file NCCL_CONF_FILE says is put into the environment, where nothing is said yet.
void read_configuration_file() {
  static std::once_flag once;
  std::call_once(once, [] {
    const char *path = getenv("NCCL_CONF_FILE");
    std::ifstream file(path ? path : "");
    for (std::string line; std::getline(file, line);) {
      const size_t equals = line.find('=');
      if (equals != std::string::npos) setenv(line.substr(0, equals).c_str(), line.substr(equals + 1).c_str(), 0);
    }
  });
}

ncclResult_t init(ncclComm_t *comm, int ranks, const ncclUniqueId &id, int rank, const ncclConfig_t *config) {
  if (!comm) fail(ncclInvalidArgument, "the place for the communicator is NULL");
  if (ranks < 1 || ranks > SharedState::MOST_RANKS)
    fail(ncclInvalidArgument, "%d ranks, not 1 to %d", ranks, SharedState::MOST_RANKS);
  if (rank < 0 || rank >= ranks) fail(ncclInvalidArgument, "rank %d of %d", rank, ranks);
  read_configuration_file();
  const auto join = [=, device = current_device()] {
    return std::make_unique<JoiningById>(id, rank, ranks, device);
  };
  return group::add(Birth::of_new(comm, is_blocking(config, true), join));
}

// The parent of a communicator to come.
Communicator &parent_of(ncclComm_t comm, const ncclComm_t *place) {
  if (!place) fail(ncclInvalidArgument, "the place for the new communicator is NULL");
  Communicator &parent = ready(comm);
  if (comm->is_finalized) fail(ncclInvalidUsage, "the communicator has been finalized");
  return parent;
}

void copy_number(int *place, int number) {
  if (!place) fail(ncclInvalidArgument, "the place for the number is NULL");
  *place = number;
}

}  // namespace

EXPORTED ncclResult_t ncclCommInitRank(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank) {
  return group::boundary("ncclCommInitRank", [&] { return init(comm, ranks, id, rank, nullptr); });
}

EXPORTED ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank,
                                             ncclConfig_t *config) {
  return group::boundary("ncclCommInitRankConfig", [&] { return init(comm, ranks, id, rank, config); });
}

EXPORTED ncclResult_t ncclCommInitRankScalable(ncclComm_t *comm, int ranks, int rank, int count, ncclUniqueId *ids,
                                               ncclConfig_t *config) {
  return group::boundary("ncclCommInitRankScalable", [&] {
    if (!ids || count < 1 || count > ranks) fail(ncclInvalidArgument, "%d unique ids for %d ranks", count, ranks);
    // More than one spread the work of meeting over several ranks: one is enough in a node.
    return init(comm, ranks, ids[0], rank, config);
  });
}

EXPORTED ncclResult_t ncclCommInitAll(ncclComm_t *comms, int count, const int *devices) {
  return boundary("ncclCommInitAll", [&] {
    if (!comms) fail(ncclInvalidArgument, "the place for the communicators is NULL");
    const int present = device_count();
    if (count < 1 || (count > present && !devices)) fail(ncclInvalidArgument, "%d devices, of %d", count, present);
    std::vector<int> chosen;
    for (int rank = 0; rank < count; ++rank) {
      const int device = devices ? devices[rank] : rank;
      if (device < 0 || device >= present) fail(ncclInvalidArgument, "device %d, of %d", device, present);
      if (!ranks_may_share_a_device() && std::count(chosen.begin(), chosen.end(), device))
        fail(ncclInvalidUsage, "device %d twice", device);
      chosen.push_back(device);
    }
    ncclUniqueId id;
    const ncclResult_t made = ncclGetUniqueId(&id);
    if (made != ncclSuccess) return made;
    std::vector<std::unique_ptr<Birth>> births;
    for (int rank = 0; rank < count; ++rank)
      births.push_back(Birth::of_new(&comms[rank], true, [=, device = chosen[size_t(rank)]] {
        return std::make_unique<JoiningById>(id, rank, count, device);
      }));
    return deliver(std::move(births));
  });
}

EXPORTED ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t *newcomm, ncclConfig_t *config) {
  return group::boundary("ncclCommSplit", [&] {
    Communicator &parent = parent_of(comm, newcomm);
    if (color < 0 && color != NCCL_SPLIT_NOCOLOR) fail(ncclInvalidArgument, "color %d", color);
    return group::add(Birth::of_child(newcomm, comm, is_blocking(config, comm->blocking), [&parent, color, key] {
      return std::make_unique<JoiningBySplit>(parent, color, key);
    }));
  });
}

EXPORTED ncclResult_t ncclCommShrink(ncclComm_t comm, int *exclude, int count, ncclComm_t *newcomm,
                                     ncclConfig_t *config, int flags) {
  return group::boundary("ncclCommShrink", [&] {
    Communicator &parent = parent_of(comm, newcomm);
    if (flags != NCCL_SHRINK_DEFAULT && flags != NCCL_SHRINK_ABORT) fail(ncclInvalidArgument, "flags %d", flags);
    if (!exclude || count < 1 || count >= parent.ranks())
      fail(ncclInvalidArgument, "%d of %d ranks to leave out", count, parent.ranks());
    std::vector<int> leave(exclude, exclude + count);
    std::sort(leave.begin(), leave.end());
    leave.erase(std::unique(leave.begin(), leave.end()), leave.end());
    if (leave.front() < 0 || leave.back() >= parent.ranks())
      fail(ncclInvalidArgument, "a rank to leave out is none of 0 to %d", parent.ranks() - 1);
    if (std::binary_search(leave.begin(), leave.end(), parent.rank()))
      fail(ncclInvalidUsage, "rank %d is left out, so it must not call", parent.rank());
    const bool blocking = is_blocking(config, comm->blocking);
    if (flags == NCCL_SHRINK_ABORT) parent.endpoint().stop();
    return group::add(Birth::of_child(
        newcomm, comm, blocking, [&parent, leave] { return std::make_unique<JoiningByShrink>(parent, leave); }));
  });
}

EXPORTED ncclResult_t ncclCommGetUniqueId(ncclComm_t comm, ncclUniqueId *id) {
  return boundary("ncclCommGetUniqueId", [&] {
    Communicator &parent = ready(comm);
    if (!id) fail(ncclInvalidArgument, "the place for the id is NULL");
    *id = JoiningByGrow::coordinate(parent);
    return ncclSuccess;
  });
}

EXPORTED ncclResult_t ncclCommGrow(ncclComm_t comm, int ranks, const ncclUniqueId *id, int rank, ncclComm_t *newcomm,
                                   ncclConfig_t *config) {
  return group::boundary("ncclCommGrow", [&] {
    if (!comm) {
      if (!id) fail(ncclInvalidArgument, "a new rank needs the unique id");
      return init(newcomm, ranks, *id, rank, config);
    }
    Communicator &parent = parent_of(comm, newcomm);
    if (ranks <= parent.ranks() || ranks > SharedState::MOST_RANKS)
      fail(ncclInvalidArgument, "%d ranks, not %d to %d", ranks, parent.ranks() + 1, SharedState::MOST_RANKS);
    if (rank != -1) fail(ncclInvalidArgument, "rank %d: a rank that is there keeps its number and passes -1", rank);
    return group::add(Birth::of_new(newcomm, is_blocking(config, comm->blocking), [&parent, ranks] {
      return std::make_unique<JoiningByGrow>(parent, ranks);
    }));
  });
}

EXPORTED ncclResult_t ncclCommSuspend(ncclComm_t comm, int flags) {
  return boundary("ncclCommSuspend", [&] {
    Communicator &communicator = usable(comm);
    // It has no memory on the device to give back, but waits as the real one does.
    if (flags & NCCL_SUSPEND_MEM) communicator.synchronize_device();
    comm->is_suspended = flags & NCCL_SUSPEND_MEM;
    return ncclSuccess;
  });
}

EXPORTED ncclResult_t ncclCommResume(ncclComm_t comm) {
  return boundary("ncclCommResume", [&] {
    ready(comm);
    if (!comm->is_suspended) fail(ncclInvalidUsage, "the communicator is not suspended");
    comm->is_suspended = false;
    return ncclSuccess;
  });
}

EXPORTED ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  return boundary("ncclCommFinalize", [&] {
    Communicator &communicator = ready(comm);
    if (comm->is_finalized) fail(ncclInvalidArgument, "the communicator has been finalized already");
    if (comm->is_revoked) fail(ncclInvalidArgument, "the communicator has been revoked");
    {
      std::lock_guard lock(comm->mutex);
      comm->is_finalized = true;
    }
    if (!comm->blocking && !communicator.endpoint().is_idle()) return ncclInProgress;
    communicator.endpoint().wait_until_idle();
    return ncclSuccess;
  });
}

EXPORTED ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  return boundary("ncclCommDestroy", [&] {
    if (!comm) return ncclSuccess;
    const ncclResult_t state = state_of(comm);
    if (state == ncclInProgress && !comm->is_finalized)
      fail(ncclInvalidArgument, "the communicator is still at work: wait for it, or abort it");
    return group::add_ending(comm);
  });
}

EXPORTED ncclResult_t ncclCommAbort(ncclComm_t comm) {
  return boundary("ncclCommAbort", [&] {
    if (!comm) return ncclSuccess;
    if (comm->mark != ncclComm::MARK) fail(ncclInvalidArgument, "the communicator has been destroyed, or is none");
    if (comm->communicator) comm->communicator->endpoint().stop();
    return group::add_ending(comm);
  });
}

EXPORTED ncclResult_t ncclCommRevoke(ncclComm_t comm, int flags) {
  return boundary("ncclCommRevoke", [&] {
    if (!comm) return ncclSuccess;
    Communicator &communicator = ready(comm);
    if (flags != NCCL_REVOKE_DEFAULT) fail(ncclInvalidArgument, "flags %d", flags);
    if (comm->is_finalized) fail(ncclInvalidArgument, "the communicator has been finalized");
    if (comm->is_revoked) fail(ncclInvalidArgument, "the communicator has been revoked already");
    communicator.endpoint().stop();
    comm->is_revoked = true;
    return ncclSuccess;
  });
}

EXPORTED ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error) {
  return boundary("ncclCommGetAsyncError", [&] {
    if (!error) fail(ncclInvalidArgument, "the place for the state is NULL");
    *error = state_of(comm);
    if (*error == ncclInProgress && comm->communicator) {
      // Where the real NCCL has a thread that enqueues.
      launch_pending(comm);
    }
    return ncclSuccess;
  });
}

EXPORTED ncclResult_t ncclCommCount(ncclComm_t comm, int *count) {
  return boundary("ncclCommCount", [&] {
    copy_number(count, ready(comm).ranks());
    return ncclSuccess;
  });
}

EXPORTED ncclResult_t ncclCommCuDevice(ncclComm_t comm, int *device) {
  return boundary("ncclCommCuDevice", [&] {
    copy_number(device, ready(comm).device());
    return ncclSuccess;
  });
}

EXPORTED ncclResult_t ncclCommUserRank(ncclComm_t comm, int *rank) {
  return boundary("ncclCommUserRank", [&] {
    copy_number(rank, ready(comm).rank());
    return ncclSuccess;
  });
}

EXPORTED ncclResult_t ncclCommRegister(ncclComm_t comm, void *buffer, size_t bytes, void **handle) {
  return boundary("ncclCommRegister", [&] {
    Communicator &communicator = usable(comm);
    if (!buffer || !bytes || !handle) fail(ncclInvalidArgument, "no buffer, or no place for the handle");
    *handle = communicator.register_buffer();
    return ncclSuccess;
  });
}

EXPORTED ncclResult_t ncclCommDeregister(ncclComm_t comm, void *handle) {
  return boundary("ncclCommDeregister", [&] {
    ready(comm).deregister_buffer(handle);
    return ncclSuccess;
  });
}
