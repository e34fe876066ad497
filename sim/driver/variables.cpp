#include "variables.h"

#include <charconv>
#include <cstdio>
#include <cstdlib>

namespace sim {

std::optional<uint64_t> parse_number(std::string_view text) {
  uint64_t number = 0;
  const char *end = text.data() + text.size();
  auto [stopped, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || stopped != end) return std::nullopt;
  return number;
}

uint64_t number_variable(const char *variable, uint64_t without, uint64_t least, uint64_t most) {
  const char *value = getenv(variable);
  if (!value) return without;
  auto number = parse_number(value);
  if (!number || *number < least || *number > most)
    refuse_variable(variable, value,
                    "a number from " + std::to_string(least) + " to " + std::to_string(most) + " is wanted");
  return *number;
}

void refuse_variable(const char *variable, const std::string &value, const std::string &problem) {
  fprintf(stderr, "dime sim: %s=%s: %s\n", variable, value.c_str(), problem.c_str());
  abort();
}

}  // namespace sim
