#include "bad_link.h"

#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "variables.h"

namespace sim::bad_link {

namespace {

constexpr const char *VARIABLE = "DIME_SIM_BAD_LINK";
constexpr uint32_t NO_DEVICE = UINT32_MAX;

thread_local uint32_t running_device = NO_DEVICE;

struct BadLink {
  uint32_t from, to;
  bool packets_only;
};

struct Range {
  size_t bytes;
  uint32_t device;
};

class Links {
 public:
  static Links &instance() {
    static Links *links = new Links;  // engine threads may still store while the process exits
    return *links;
  }

  bool any() const { return !bad_.empty(); }

  void add(uint64_t address, size_t bytes, uint32_t device) {
    std::lock_guard lock(mutex_);
    ranges_[address] = {bytes, device};
  }

  void remove(uint64_t address) {
    std::lock_guard lock(mutex_);
    ranges_.erase(address);
  }

  bool damages(uint64_t address, bool is_of_system_scope) {
    const uint32_t to = device_of(address);
    for (const BadLink &link : bad_)
      if (link.from == running_device && link.to == to && (is_of_system_scope || !link.packets_only)) return true;
    return false;
  }

 private:
  Links() {
    const char *value = getenv(VARIABLE);
    if (!value || !*value) return;
    std::string_view rest = value;
    for (bool more = true; more;) {
      const size_t comma = rest.find(',');
      more = comma != std::string_view::npos;
      bad_.push_back(parse(rest.substr(0, comma)));
      if (more) rest.remove_prefix(comma + 1);
    }
  }

  static BadLink parse(std::string_view item) {
    const size_t first = item.find(':');
    if (first == std::string_view::npos) refuse(item);
    std::string_view to = item.substr(first + 1);
    const size_t second = to.find(':');
    const bool packets_only = second != std::string_view::npos;
    if (packets_only && to.substr(second + 1) != "packets") refuse(item);
    const auto from_number = parse_number(item.substr(0, first)), to_number = parse_number(to.substr(0, second));
    if (!from_number || !to_number || *from_number == *to_number) refuse(item);
    return {uint32_t(*from_number), uint32_t(*to_number), packets_only};
  }

  [[noreturn]] static void refuse(std::string_view item) {
    refuse_variable(VARIABLE, getenv(VARIABLE),
                    "\"" + std::string(item) + "\" is neither FROM:TO nor FROM:TO:packets with two devices (sim/driver/bad_link.h)");
  }

  uint32_t device_of(uint64_t address) {
    std::lock_guard lock(mutex_);
    auto range = ranges_.upper_bound(address);
    if (range == ranges_.begin()) return NO_DEVICE;
    --range;
    return address - range->first < range->second.bytes ? range->second.device : NO_DEVICE;
  }

  std::vector<BadLink> bad_;  // not changed once it is read
  std::mutex mutex_;
  std::map<uint64_t, Range> ranges_;
};

}  // namespace

void run_kernels_of(uint32_t host_number) { running_device = host_number; }

void mapped(uint64_t address, size_t bytes, uint32_t host_number) {
  if (Links::instance().any()) Links::instance().add(address, bytes, host_number);
}

void unmapped(uint64_t address) {
  if (Links::instance().any()) Links::instance().remove(address);
}

uint64_t arriving(uint64_t address, uint64_t value, bool is_of_system_scope) {
  Links &links = Links::instance();
  return links.any() && links.damages(address, is_of_system_scope) ? value ^ 1 : value;
}

}  // namespace sim::bad_link
