// Links that damage what kernels store across them, from the variable DIME_SIM_BAD_LINK: a comma list of FROM:TO or
// FROM:TO:packets, with the host's numbers of two devices. What a kernel of device FROM stores into memory of device TO
// arrives with its lowest bit flipped. With `packets` only stores of system scope do, which are packets and flags.
#ifndef DIME_SIM_DRIVER_BAD_LINK_H
#define DIME_SIM_DRIVER_BAD_LINK_H

#include <cstddef>
#include <cstdint>

namespace sim::bad_link {

// The calling thread runs the kernels of this device from now on.
void run_kernels_of(uint32_t host_number);

// Memory of a device is mapped in this process, or no longer.
void mapped(uint64_t address, size_t bytes, uint32_t host_number);
void unmapped(uint64_t address);

// What arrives of a value that the calling thread's device stores. Cheap when no link is bad. Thread-safe.
uint64_t arriving(uint64_t address, uint64_t value, bool is_of_system_scope);

}  // namespace sim::bad_link

#endif
