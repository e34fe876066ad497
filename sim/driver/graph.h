// Graphs as a capture makes them, and executable ones.
#ifndef DIME_SIM_DRIVER_GRAPH_H
#define DIME_SIM_DRIVER_GRAPH_H

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "cuda_api.h"
#include "lock.h"
#include "operation.h"
#include "task.h"
#include "user_object.h"

namespace sim {

class Engine;
class Event;
class Stream;

class Graph {
 public:
  struct NodeContent;
  using Node = const NodeContent *;

  struct Edge {
    size_t from;  // index of the earlier node
    Order order;
    bool operator==(const Edge &) const = default;
  };
  struct NodeContent {
    size_t index;
    Engine &engine;
    std::shared_ptr<const Operation> operation;
    std::vector<Edge> after;
    // Instead of an operation: waits for what the event was recorded as when the graph is launched.
    std::shared_ptr<Event> awaited;
  };
  using Nodes = std::vector<std::shared_ptr<const NodeContent>>;

  // Records an event behind some nodes. No node comes after it, and it is no part of what a capture must join.
  struct Record {
    Engine &engine;
    std::shared_ptr<Event> event;
    std::vector<size_t> after;
  };
  using Records = std::vector<std::shared_ptr<Record>>;

  // What is captured next comes behind: nodes, and beside each of them how, as the driver's functions have it.
  struct Frontier {
    std::vector<Node> nodes;
    std::vector<CUgraphEdgeData> edges;

    void add(Node node, const CUgraphEdgeData &edge = {});
    // Some edge is not a plain one.
    bool is_annotated() const;
  };

  // A programmatic `order` holds behind a single kernel; otherwise the frontier's edges do.
  Node add(Engine &engine, std::shared_ptr<const Operation> operation, const Frontier &after, Order order);
  Node add_wait(Engine &engine, std::shared_ptr<Event> event, const std::vector<Node> &after);
  Record *add_record(Engine &engine, std::shared_ptr<Event> event, const std::vector<Node> &after);
  // Of a handle that may be of anything. Null: it is none of this graph's.
  Node find_node(const void *handle) const;
  Record *find_record(const void *handle) const;
  // Whether every node is one of `last` or before one.
  bool all_lead_to(const std::vector<Node> &last) const;

  // The capture that makes it is over: it may be instantiated and destroyed.
  void complete() { is_complete_ = true; }
  bool is_complete() const { return is_complete_; }

  const Nodes &nodes() const { return nodes_; }
  const Records &records() const { return records_; }
  UserReferences user_references;

 private:
  Nodes nodes_;
  Records records_;
  bool is_complete_ = false;
};

class ExecutableGraph {
 public:
  explicit ExecutableGraph(const Graph &graph) : content_(content_of(graph)) {}

  // Behind what is in the stream, and behind its own launch before.
  void launch(Lock &lock, Stream &stream);
  // Takes over what differs in the same graph captured again. Launches that were enqueued stay as they were.
  CUgraphExecUpdateResult update(Lock &lock, const Graph &graph);

 private:
  struct Content {
    Graph::Nodes nodes;
    std::vector<Graph::Record> records;
    UserReferences user_references;
  };
  static std::shared_ptr<const Content> content_of(const Graph &graph);

  std::shared_ptr<const Content> content_;
  std::shared_ptr<Task> last_launch_;
};

}  // namespace sim

#endif
