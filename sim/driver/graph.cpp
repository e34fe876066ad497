#include "graph.h"

#include <typeinfo>

#include "device.h"
#include "stream.h"

namespace sim {

Graph::Node Graph::add(Engine &engine, std::shared_ptr<const Operation> operation, const std::vector<Node> &after,
                       Order order) {
  const bool is_behind_one_kernel = after.size() == 1 && after[0]->operation->is_kernel();
  std::vector<Edge> edges;
  for (Node earlier : after) edges.push_back({earlier->index, is_behind_one_kernel ? order : Order::Full});
  NodeContent node{nodes_.size(), engine, std::move(operation), std::move(edges)};
  nodes_.push_back(std::make_shared<NodeContent>(std::move(node)));
  return nodes_.back().get();
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
    for (const Graph::Edge &edge : node->after) task->run_after(tasks[edge.from], edge.order);
    end->run_after(task);
    tasks.push_back(std::move(task));
  }
  end->hold(content_);
  last_launch_ = end;
  for (const auto &task : tasks) task->submit(lock);
  stream.append(lock, end);
}

CUgraphExecUpdateResult ExecutableGraph::update(Lock &lock, const Graph &graph) {
  if (graph.nodes().size() != content_->nodes.size()) return CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
  for (const auto &node : graph.nodes()) {
    const auto &now = content_->nodes[node->index];
    const Operation &operation = *node->operation, &operation_now = *now->operation;
    if (node->after != now->after) return CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
    if (typeid(operation) != typeid(operation_now)) return CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED;
    if (&node->engine != &now->engine) return CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
  }
  lock.drop_later(std::move(content_));
  content_ = content_of(graph);
  return CU_GRAPH_EXEC_UPDATE_SUCCESS;
}

}  // namespace sim
