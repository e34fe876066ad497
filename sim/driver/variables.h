// The simulator's environment variables. What does not parse ends the process with one line: a test that runs with
// other settings than it asked for would prove nothing.
#ifndef DIME_SIM_DRIVER_VARIABLES_H
#define DIME_SIM_DRIVER_VARIABLES_H

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sim {

// Decimal digits and nothing else. None: something else, or too large.
std::optional<uint64_t> parse_number(std::string_view text);

uint64_t number_variable(const char *variable, uint64_t without, uint64_t least, uint64_t most);

// "dime sim: VARIABLE=VALUE: PROBLEM", and abort.
[[noreturn]] void refuse_variable(const char *variable, const std::string &value, const std::string &problem);

}  // namespace sim

#endif
