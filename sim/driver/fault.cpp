#include "fault.h"

#include <dlfcn.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "variables.h"

namespace sim::fault {

namespace {

constexpr const char *VARIABLE = "DIME_SIM_FAULT";
constexpr int OUT_OF_MEMORY = 2;  // CUDA_ERROR_OUT_OF_MEMORY

enum class Action { Fail, Kill, Delay };

struct Rule {
  Action action;
  uint64_t passing;  // 0: each
  uint64_t value;    // error number, or milliseconds
  std::string text;  // as it was given

  // On stderr: a fault that never came would be a test of nothing.
  void announce() const {
    const std::string line = "dime sim: fault " + text + "\n";
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
  }
};

struct Place {
  std::vector<Rule> rules;
  std::atomic<uint64_t> passings{0};
};

// A fault at a place that nothing ever passes would be a test of nothing.
bool is_place(const std::string &name) {
  if (name == "spin" || name == "barrier" || name == "block") return true;
  Dl_info here;
  if (name.rfind("cu", 0) != 0 || !dladdr(reinterpret_cast<void *>(&is_place), &here)) return false;
  void *library = dlopen(here.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  if (!library) return false;
  bool found = dlsym(library, name.c_str()) || dlsym(library, (name + "_v2").c_str());
  dlclose(library);
  return found;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

class Faults {
 public:
  static Faults &instance() {
    static Faults *faults = new Faults;  // engine threads may still pass places while the process exits
    return *faults;
  }

  // Null: nothing happens there.
  Place *find(const char *name) {
    if (places_.empty()) return nullptr;
    auto place = places_.find(name);
    return place == places_.end() ? nullptr : &place->second;
  }

 private:
  Faults() {
    const char *value = getenv(VARIABLE);
    if (!value || !*value) return;
    for (std::string_view item : split(value, ',')) add(item);
  }

  void add(std::string_view item) {
    const size_t at = item.find('@');
    if (at == std::string_view::npos) refuse(item, "no @");
    const std::string_view action = item.substr(0, at);
    const std::vector<std::string_view> parts = split(item.substr(at + 1), ':');
    if (parts.size() < 2 || parts.size() > 3) refuse(item, "a place, a passing and at most one value are wanted");
    const std::string place(parts[0]);

    Rule rule{};
    if (action == "fail") rule = {Action::Fail, 0, OUT_OF_MEMORY, std::string(item)};
    else if (action == "kill") rule = {Action::Kill, 0, 0, std::string(item)};
    else if (action == "delay") rule = {Action::Delay, 0, 0, std::string(item)};
    else refuse(item, "the action is neither fail nor kill nor delay");
    if (!is_place(place)) refuse(item, "there is no such place");
    if (rule.action == Action::Fail && place[0] != 'c') refuse(item, "only a driver function can fail");

    if (parts[1] != "*") {
      auto passing = parse_number(parts[1]);
      if (!passing || *passing == 0) refuse(item, "the passing is neither * nor a number from 1");
      rule.passing = *passing;
    }
    if (parts.size() == 3) {
      auto number = parse_number(parts[2]);
      if (!number || *number == 0 || *number > INT32_MAX) refuse(item, "the value is no number from 1");
      if (rule.action == Action::Kill) refuse(item, "kill takes no value");
      rule.value = *number;
    } else if (rule.action == Action::Delay) {
      refuse(item, "delay wants milliseconds");
    }
    places_[place].rules.push_back(rule);
  }

  [[noreturn]] static void refuse(std::string_view item, const char *problem) {
    refuse_variable(VARIABLE, getenv(VARIABLE),
                    "\"" + std::string(item) + "\": " + problem +
                        "; the form is ACTION@PLACE:N[:VALUE] (sim/driver/fault.h)");
  }

  std::map<std::string, Place, std::less<>> places_;  // not changed once it is read
};

}  // namespace

int pass(const char *name) {
  Place *place = Faults::instance().find(name);
  if (!place) return 0;
  const uint64_t passing = ++place->passings;
  int error = 0;
  for (const Rule &rule : place->rules) {
    if (rule.passing != 0 && rule.passing != passing) continue;
    if (rule.passing != 0 || passing == 1) rule.announce();
    switch (rule.action) {
      case Action::Fail: error = int(rule.value); break;
      case Action::Kill: kill(getpid(), SIGKILL); break;
      case Action::Delay: std::this_thread::sleep_for(std::chrono::milliseconds(rule.value)); break;
    }
  }
  return error;
}

}  // namespace sim::fault
