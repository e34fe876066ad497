// The GPUs of the simulated host and how they reach each other. Every process of the host reads the same, from
//
//   DIME_SIM_DEVICES      how many GPUs, 0 to 16; 4 when it is not set
//   DIME_SIM_SMS          SMs of each, 132 when it is not set
//   DIME_SIM_MEMORY_MIB   memory of each, 4096 when it is not set; counted for each process by itself
//   DIME_SIM_TOPOLOGY     a file that says what is uneven, a line for each thing; # begins a comment
//
//     device 0 name NVIDIA H200            the rest of the line
//     device 0 uuid 81c665f0c1ea96ebc4ce56121c1310c6
//     device 0 arch 80                     compute capability 8.0
//     device 0 sms 108
//     device 0 mig                         a slice of a GPU: its name says so
//     device 0 no_vmm                      no virtual memory management, and so no memory as descriptors
//     pair 0 1 pcie                        or nvlink, or none: no peer access
//
// Without that all are NVIDIA H200 and all pairs have NVLink. Numbers are those of the host; CUDA_VISIBLE_DEVICES
// (integers) picks and renumbers what a process sees.
#ifndef DIME_SIM_DRIVER_TOPOLOGY_H
#define DIME_SIM_DRIVER_TOPOLOGY_H

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace sim {

struct DeviceDescription {
  uint32_t host_number;
  std::string name = "NVIDIA H200";
  std::array<unsigned char, 16> uuid;
  uint32_t arch = 90;
  uint32_t sms = 132;
  uint64_t memory_bytes;
  bool has_vmm = true;
};

enum class Link { Nvlink, Pcie, None };

class Topology {
 public:
  // From the variables; what does not parse ends the process.
  static Topology read();

  const std::vector<DeviceDescription> &devices() const { return devices_; }
  Link link(uint32_t one, uint32_t other) const { return links_[one * devices_.size() + other]; }
  // Host numbers of what this process sees, in its order.
  std::vector<uint32_t> visible() const;

 private:
  void read_file(const char *path);
  // Returns what is wrong with the line; empty: nothing.
  std::string read_line(const std::string &line);
  std::string read_device(DeviceDescription &device, const std::string &key, const std::string &value);

  std::vector<DeviceDescription> devices_;
  std::vector<Link> links_;
};

}  // namespace sim

#endif
