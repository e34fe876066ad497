#include "graph.h"

#include <algorithm>
#include <typeinfo>

#include "device.h"
#include "event.h"
#include "stream.h"

namespace sim {

namespace {

bool is_plain(const CUgraphEdgeData &edge) { return edge.from_port == 0 && edge.to_port == 0 && edge.type == 0; }

}  // namespace

void Graph::Frontier::add(Node node, const CUgraphEdgeData &edge) {
  nodes.push_back(node);
  edges.push_back(edge);
}

bool Graph::Frontier::is_annotated() const { return !std::all_of(edges.begin(), edges.end(), is_plain); }

Graph::Node Graph::add(Engine &engine, std::shared_ptr<const Operation> operation, const Frontier &after, Order order) {
  const auto is_kernel = [](Node node) { return node->operation && node->operation->is_kernel(); };
  const bool is_programmatic = order == Order::Programmatic && after.nodes.size() == 1 && is_kernel(after.nodes[0]);
  std::vector<Edge> edges;
  for (size_t i = 0; i < after.nodes.size(); ++i) {
    const bool is_full = is_plain(after.edges[i]) && !is_programmatic;
    edges.push_back({after.nodes[i]->index, is_full ? Order::Full : Order::Programmatic});
  }
  NodeContent node{nodes_.size(), engine, std::move(operation), std::move(edges), nullptr};
  nodes_.push_back(std::make_shared<NodeContent>(std::move(node)));
  return nodes_.back().get();
}

Graph::Node Graph::add_wait(Engine &engine, std::shared_ptr<Event> event, const std::vector<Node> &after) {
  std::vector<Edge> edges;
  for (Node earlier : after) edges.push_back({earlier->index, Order::Full});
  NodeContent node{nodes_.size(), engine, nullptr, std::move(edges), std::move(event)};
  nodes_.push_back(std::make_shared<NodeContent>(std::move(node)));
  return nodes_.back().get();
}

Graph::Record *Graph::add_record(Engine &engine, std::shared_ptr<Event> event, const std::vector<Node> &after) {
  records_.push_back(std::make_shared<Record>(Record{engine, std::move(event), {}}));
  for (Node node : after) records_.back()->after.push_back(node->index);
  return records_.back().get();
}

Graph::Node Graph::find_node(const void *handle) const {
  for (const auto &node : nodes_)
    if (node.get() == handle) return node.get();
  return nullptr;
}

Graph::Record *Graph::find_record(const void *handle) const {
  for (const auto &record : records_)
    if (record.get() == handle) return record.get();
  return nullptr;
}

bool Graph::all_lead_to(const std::vector<Node> &last) const {
  std::vector<bool> leads(nodes_.size());
  for (Node node : last) leads[node->index] = true;
  // Edges come from nodes that were added before.
  for (size_t i = nodes_.size(); i-- > 0;) {
    if (!leads[i]) return false;
    for (const Edge &edge : nodes_[i]->after) leads[edge.from] = true;
  }
  return true;
}

std::shared_ptr<const ExecutableGraph::Content> ExecutableGraph::content_of(const Graph &graph) {
  auto content = std::make_shared<Content>(Content{graph.nodes(), {}, graph.user_references});
  for (const auto &record : graph.records()) content->records.push_back(*record);
  return content;
}

void ExecutableGraph::launch(Lock &lock, Stream &stream) {
  Engine &engine = stream.context.device.engine;
  auto begin = std::make_shared<Task>(engine, nullptr);
  begin->run_after(last_launch_);
  stream.append(lock, begin);

  std::vector<std::shared_ptr<Task>> tasks;
  auto end = std::make_shared<Task>(engine, nullptr);
  for (const auto &node : content_->nodes) {
    auto task = std::make_shared<Task>(node->engine, node->operation);
    if (node->after.empty()) task->run_after(begin);
    if (node->awaited) task->run_after(node->awaited->latest());
    for (const Graph::Edge &edge : node->after) task->run_after(tasks[edge.from], edge.order);
    end->run_after(task);
    tasks.push_back(std::move(task));
  }
  // Behind all waits of this launch, which are for what was recorded before it.
  for (const Graph::Record &record : content_->records) {
    auto task = std::make_shared<Task>(record.engine, nullptr);
    for (size_t earlier : record.after) task->run_after(tasks[earlier]);
    if (record.after.empty()) task->run_after(begin);
    record.event->record_as(task);
    end->run_after(task);
    tasks.push_back(std::move(task));
  }
  end->hold(content_);
  last_launch_ = end;
  for (const auto &task : tasks) task->submit(lock);
  stream.append(lock, end);
}

CUgraphExecUpdateResult ExecutableGraph::update(Lock &lock, const Graph &graph) {
  const auto changed = CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
  if (graph.nodes().size() != content_->nodes.size() || graph.records().size() != content_->records.size()) return changed;
  for (size_t i = 0; i < graph.records().size(); ++i) {
    const Graph::Record &record = *graph.records()[i], &now = content_->records[i];
    if (record.after != now.after || &record.engine != &now.engine) return changed;
  }
  for (const auto &node : graph.nodes()) {
    const auto &now = content_->nodes[node->index];
    if (node->after != now->after) return changed;
    if (!node->operation != !now->operation) return CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED;
    if (node->operation) {
      const Operation &operation = *node->operation, &operation_now = *now->operation;
      if (typeid(operation) != typeid(operation_now)) return CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED;
    }
    if (&node->engine != &now->engine) return CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
  }
  lock.drop_later(std::move(content_));
  content_ = content_of(graph);
  return CU_GRAPH_EXEC_UPDATE_SUCCESS;
}

}  // namespace sim
