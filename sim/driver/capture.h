// A capture under way: the streams in it, and the graph that it makes.
#ifndef DIME_SIM_DRIVER_CAPTURE_H
#define DIME_SIM_DRIVER_CAPTURE_H

#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "cuda_api.h"
#include "graph.h"

namespace sim {

class Stream;

class Capture : public std::enable_shared_from_this<Capture> {
 public:
  using Node = Graph::Node;
  using Frontier = Graph::Frontier;

  // Begins it; `stream` joins.
  static void begin(Stream &stream, CUstreamCaptureMode mode);
  // Ends the one that began in `stream`, with its graph or a failure.
  static CUgraph end_in(Stream &stream, Lock &lock);

  Capture(const Stream &origin, CUstreamCaptureMode mode);

  const uint64_t id;
  const CUstreamCaptureMode mode;
  const std::thread::id thread = std::this_thread::get_id();
  const Stream *const origin;
  std::vector<std::weak_ptr<Stream>> streams;

  Graph &graph() { return *graph_; }
  CUgraph graph_handle() const { return graph_handle_; }
  bool is_valid() const { return is_valid_; }
  bool is_over() const { return is_over_; }
  void invalidate() { is_valid_ = false; }
  // All streams leave, and the graph is taken off its handle.
  std::shared_ptr<Graph> abandon();

 private:
  std::shared_ptr<Graph> end();

  std::shared_ptr<Graph> graph_;  // until it is over: an event may keep the capture longer than the graph lives
  CUgraph graph_handle_;
  bool is_valid_ = true;
  bool is_over_ = false;
};

// The calling thread's mode for calls that are not safe while something is captured.
CUstreamCaptureMode &capture_mode_of_thread();
// Called by those: fails, and makes the captures invalid that it would have disturbed.
void require_no_capture();

}  // namespace sim

#endif
