#include "topology.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "variables.h"

namespace sim {

namespace {

constexpr uint32_t MAX_DEVICES = 16;
constexpr uint32_t MAX_SMS = 1024;

// The same in every process.
std::array<unsigned char, 16> uuid_of(uint32_t host_number) {
  std::array<unsigned char, 16> uuid = {'d', 'i', 'm', 'e', ' ', 's', 'i', 'm', ' ', 'd', 'e', 'v', 'i', 'c', 'e'};
  uuid.back() = static_cast<unsigned char>(host_number);
  return uuid;
}

std::string trim(const std::string &text) {
  const size_t first = text.find_first_not_of(" \t\r");
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

}  // namespace

Topology Topology::read() {
  Topology topology;
  const auto count = uint32_t(number_variable("DIME_SIM_DEVICES", 4, 0, MAX_DEVICES));
  const auto sms = uint32_t(number_variable("DIME_SIM_SMS", 132, 1, MAX_SMS));
  const uint64_t memory_mib = number_variable("DIME_SIM_MEMORY_MIB", 4096, 1, 1 << 20);
  for (uint32_t i = 0; i < count; ++i) {
    DeviceDescription device;
    device.host_number = i;
    device.uuid = uuid_of(i);
    device.sms = sms;
    device.memory_bytes = memory_mib << 20;
    topology.devices_.push_back(device);
  }
  topology.links_.assign(size_t(count) * count, Link::Nvlink);
  if (const char *path = getenv("DIME_SIM_TOPOLOGY")) topology.read_file(path);
  return topology;
}

void Topology::read_file(const char *path) {
  std::ifstream file(path);
  if (!file) refuse_variable("DIME_SIM_TOPOLOGY", path, "the file cannot be read");
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    const std::string problem = read_line(trim(line.substr(0, line.find('#'))));
    if (!problem.empty()) refuse_variable("DIME_SIM_TOPOLOGY", path, "line " + std::to_string(number) + ": " + problem);
  }
}

std::string Topology::read_line(const std::string &line) {
  if (line.empty()) return "";
  std::istringstream words(line);
  std::string what, key, rest;
  uint32_t first, second;
  words >> what;
  if (what == "device") {
    if (!(words >> first >> key)) return "device NUMBER KEY [VALUE] is wanted";
    if (first >= devices_.size()) return "there is no device " + std::to_string(first);
    std::getline(words, rest);
    return read_device(devices_[first], key, trim(rest));
  }
  if (what == "pair") {
    if (!(words >> first >> second >> key) || words >> rest) return "pair NUMBER NUMBER KIND is wanted";
    if (first >= devices_.size() || second >= devices_.size() || first == second) return "there is no such pair";
    Link link = Link::Nvlink;
    if (key == "pcie") link = Link::Pcie;
    else if (key == "none") link = Link::None;
    else if (key != "nvlink") return "a pair is nvlink, pcie or none";
    links_[first * devices_.size() + second] = links_[second * devices_.size() + first] = link;
    return "";
  }
  return "it begins neither with device nor with pair";
}

std::string Topology::read_device(DeviceDescription &device, const std::string &key, const std::string &value) {
  const auto number = parse_number(value);
  if (key == "name") {
    if (value.empty()) return "the name is missing";
    device.name = value;
  } else if (key == "uuid") {
    if (value.size() != 32 || value.find_first_not_of("0123456789abcdef") != std::string::npos)
      return "a uuid has 32 digits of 0-9a-f";
    for (size_t i = 0; i < device.uuid.size(); ++i)
      device.uuid[i] = static_cast<unsigned char>(std::stoul(value.substr(2 * i, 2), nullptr, 16));
  } else if (key == "arch") {
    if (!number || *number < 10 || *number > 999) return "arch is a number such as 90";
    device.arch = uint32_t(*number);
  } else if (key == "sms") {
    if (!number || *number < 1 || *number > MAX_SMS) return "sms is a number from 1 to " + std::to_string(MAX_SMS);
    device.sms = uint32_t(*number);
  } else if (key == "mig" && value.empty()) {
    device.name += " MIG 1g.18gb";
  } else if (key == "no_vmm" && value.empty()) {
    device.has_vmm = false;
  } else {
    return "unknown: " + key + (value.empty() ? "" : " " + value);
  }
  return "";
}

// As CUDA reads it: devices behind the first that does not exist are not seen, and none if one is named twice.
std::vector<uint32_t> Topology::visible() const {
  std::vector<uint32_t> seen;
  const char *value = getenv("CUDA_VISIBLE_DEVICES");
  if (!value) {
    for (const DeviceDescription &device : devices_) seen.push_back(device.host_number);
    return seen;
  }
  std::istringstream items(value);
  for (std::string item; std::getline(items, item, ',');) {
    const auto number = parse_number(trim(item));
    if (!number && trim(item) != "-1")
      fprintf(stderr, "dime sim: CUDA_VISIBLE_DEVICES=%s: only integers are simulated\n", value);
    if (!number || *number >= devices_.size()) break;
    if (std::find(seen.begin(), seen.end(), *number) != seen.end()) return {};
    seen.push_back(uint32_t(*number));
  }
  return seen;
}

}  // namespace sim
