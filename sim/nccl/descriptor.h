// An open file descriptor, closed at the end of its life.
#ifndef DIME_SIM_NCCL_DESCRIPTOR_H
#define DIME_SIM_NCCL_DESCRIPTOR_H

#include <unistd.h>

#include <utility>

namespace sim {

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (is_open()) close(number_);
  }
  Descriptor(Descriptor &&other) : number_(std::exchange(other.number_, -1)) {}
  Descriptor &operator=(Descriptor &&other) = delete;

  bool is_open() const { return number_ >= 0; }
  int number() const { return number_; }

 private:
  int number_;
};

}  // namespace sim

#endif
