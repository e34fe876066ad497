#include "unique_id.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>

#include "failure.h"

namespace sim {

namespace {

struct Contents {
  char mark[8];
  int32_t process;
  int32_t descriptor;
  Token token;
};
static_assert(sizeof(Contents) <= sizeof(ncclUniqueId));
constexpr char MARK[8] = "simnccl";

Contents contents_of(const ncclUniqueId &id) {
  Contents contents;
  memcpy(&contents, &id, sizeof contents);
  if (memcmp(contents.mark, MARK, sizeof MARK) != 0)
    fail(ncclInvalidArgument, "the unique id was not made by ncclGetUniqueId of this library");
  return contents;
}

// The memory of the ids that this process made and has not forgotten, by descriptor number.
struct Made {
  std::mutex mutex;
  std::map<int, Descriptor> memory;
};

Made &made() {
  static Made *const made = new Made;  // threads may outlive static destruction
  return *made;
}

}  // namespace

ncclUniqueId make_unique_id(size_t bytes) {
  Contents contents = {};
  memcpy(contents.mark, MARK, sizeof MARK);
  contents.process = getpid();
  if (getrandom(&contents.token, sizeof contents.token, 0) != sizeof contents.token) fail_with_errno("getrandom");
  Descriptor memory(memfd_create("nccl", MFD_CLOEXEC));
  if (!memory.is_open()) fail_with_errno("memfd_create");
  if (ftruncate(memory.number(), off_t(bytes)) != 0) fail_with_errno("ftruncate");
  if (pwrite(memory.number(), &contents.token, sizeof contents.token, 0) != sizeof contents.token)
    fail_with_errno("pwrite");
  contents.descriptor = memory.number();
  {
    std::lock_guard lock(made().mutex);
    made().memory.emplace(contents.descriptor, std::move(memory));
  }
  ncclUniqueId id = {};
  memcpy(&id, &contents, sizeof contents);
  return id;
}

Descriptor open_unique_id(const ncclUniqueId &id) {
  const Contents contents = contents_of(id);
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd/%d", contents.process, contents.descriptor);
  // The number may stand for another file by now. Not blocking, in case that is a pipe.
  Descriptor memory(open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!memory.is_open() && errno != ENOENT && errno != ENXIO) fail_with_errno(path);
  struct stat status;
  Token token;
  const bool is_it = memory.is_open() && fstat(memory.number(), &status) == 0 && S_ISREG(status.st_mode) &&
                     pread(memory.number(), &token, sizeof token, 0) == sizeof token &&
                     memcmp(&token, &contents.token, sizeof token) == 0;
  if (!is_it)
    fail(ncclSystemError, "cannot join by this unique id: process %d, which made it, has exited, or the communicator "
         "it stands for is complete or was given up", contents.process);
  return memory;
}

void forget_unique_id(const ncclUniqueId &id) {
  const Contents contents = contents_of(id);
  if (contents.process != getpid()) return;
  std::lock_guard lock(made().mutex);
  const auto found = made().memory.find(contents.descriptor);
  if (found == made().memory.end()) return;
  // The number may have been given to the memory of a later id.
  Token token;
  if (pread(contents.descriptor, &token, sizeof token, 0) == sizeof token &&
      memcmp(&token, &contents.token, sizeof token) == 0)
    made().memory.erase(found);
}

}  // namespace sim
