// Graphs and user objects.
#include <algorithm>
#include <utility>

#include "api.h"
#include "device.h"
#include "event.h"

using namespace sim;

namespace {

// A graph that is still being captured belongs to the capture.
std::shared_ptr<Graph> find_complete(CUgraph handle) {
  auto graph = find(Driver::instance().graphs, handle);
  require(graph->is_complete());
  return graph;
}

// Edges can be changed to nodes that record an event only: the others keep the order in which they were added.
std::pair<Graph::Node, Graph::Record *> find_edge(const Graph &graph, CUgraphNode from, CUgraphNode to, const char *function) {
  const Graph::Node earlier = graph.find_node(from);
  require(earlier != nullptr);
  Graph::Record *record = graph.find_record(to);
  if (!record) require(graph.find_node(to) != nullptr);
  require_simulated(record != nullptr, function, "to", uint64_t(to));
  return {earlier, record};
}

// Takes references from the application.
void release(Lock &lock, CUuserObject handle, unsigned count) {
  auto object = find(Driver::instance().user_objects, handle);
  require(count != 0 && count <= object->application_references);
  object->application_references -= count;
  if (object->application_references == 0) lock.drop_later(Driver::instance().user_objects.remove(handle));
  lock.drop_later(std::move(object));
}

}  // namespace

CUresult cuGraphAddEventRecordNode(CUgraphNode *node, CUgraph handle, const CUgraphNode *after, size_t count, CUevent event) {
  return call("cuGraphAddEventRecordNode", [&](Lock &) {
    require(node && (count == 0 || after));
    auto graph = find(Driver::instance().graphs, handle);
    auto recorded = find(Driver::instance().events, event);
    std::vector<Graph::Node> earlier;
    for (size_t i = 0; i < count; ++i) {
      earlier.push_back(graph->find_node(after[i]));
      require(earlier.back() != nullptr);
    }
    Engine &engine = recorded->context.device.engine;
    *node = CUgraphNode(graph->add_record(engine, std::move(recorded), earlier));
  });
}

CUresult cuGraphAddDependencies(CUgraph handle, const CUgraphNode *from, const CUgraphNode *to, size_t count) {
  return call("cuGraphAddDependencies", [&](Lock &) {
    auto graph = find(Driver::instance().graphs, handle);
    for (size_t i = 0; i < count; ++i) {
      auto [earlier, record] = find_edge(*graph, from[i], to[i], "cuGraphAddDependencies");
      auto &after = record->after;
      require(std::find(after.begin(), after.end(), earlier->index) == after.end());
      after.push_back(earlier->index);
    }
  });
}

CUresult cuGraphRemoveDependencies(CUgraph handle, const CUgraphNode *from, const CUgraphNode *to, size_t count) {
  return call("cuGraphRemoveDependencies", [&](Lock &) {
    auto graph = find(Driver::instance().graphs, handle);
    for (size_t i = 0; i < count; ++i) {
      auto [earlier, record] = find_edge(*graph, from[i], to[i], "cuGraphRemoveDependencies");
      require(std::erase(record->after, earlier->index) == 1);
    }
  });
}

CUresult cuGraphGetNodes(CUgraph handle, CUgraphNode *nodes, size_t *count) {
  return call("cuGraphGetNodes", [&](Lock &) {
    require(count);
    auto graph = find(Driver::instance().graphs, handle);
    const size_t there = graph->nodes().size() + graph->records().size();
    if (nodes) {
      require_simulated(*count >= there, "cuGraphGetNodes", "numNodes", *count);
      CUgraphNode *next = nodes;
      for (const auto &node : graph->nodes()) *next++ = CUgraphNode(node.get());
      for (const auto &record : graph->records()) *next++ = CUgraphNode(record.get());
    }
    *count = there;
  });
}

// Of a graph that is still there.
CUresult cuGraphNodeGetType(CUgraphNode handle, CUgraphNodeType *type) {
  return call("cuGraphNodeGetType", [&](Lock &) {
    require(type);
    const auto has_it = [&](const Graph &graph) { return graph.find_node(handle) || graph.find_record(handle); };
    const auto graph = Driver::instance().graphs.find_if(has_it);
    require(graph != nullptr);
    const Graph::Node node = graph->find_node(handle);
    if (node) require_simulated(node->awaited || node->operation->is_kernel(), "cuGraphNodeGetType", "node", uint64_t(handle));
    *type = !node           ? CU_GRAPH_NODE_TYPE_EVENT_RECORD
            : node->awaited ? CU_GRAPH_NODE_TYPE_WAIT_EVENT
                            : CU_GRAPH_NODE_TYPE_KERNEL;
  });
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *executable, CUgraph handle, unsigned long long flags) {
  return call("cuGraphInstantiateWithFlags", [&](Lock &) {
    require(executable);
    require_no_capture();
    // What graphs allocate is freed with that flag; there are no nodes here that do.
    constexpr unsigned long long KNOWN = CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    require_simulated((flags & ~KNOWN) == 0, "cuGraphInstantiateWithFlags", "flags", flags);
    *executable = Driver::instance().executable_graphs.add(std::make_shared<ExecutableGraph>(*find_complete(handle)));
  });
}

CUresult cuGraphExecUpdate_v2(CUgraphExec executable, CUgraph graph, CUgraphExecUpdateResultInfo *info) {
  return call("cuGraphExecUpdate", [&](Lock &lock) {
    require(info);
    *info = {};
    auto updated = find(Driver::instance().executable_graphs, executable);
    info->result = updated->update(lock, *find_complete(graph));
    return info->result == CU_GRAPH_EXEC_UPDATE_SUCCESS ? CUDA_SUCCESS : CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
  });
}

// There is nothing to be uploaded: the arguments are checked.
CUresult cuGraphUpload(CUgraphExec executable, CUstream stream) {
  return call("cuGraphUpload", [&](Lock &) {
    find(Driver::instance().executable_graphs, executable);
    find_stream(stream)->require_open();
  });
}

CUresult cuGraphLaunch(CUgraphExec executable, CUstream handle) {
  return call("cuGraphLaunch", [&](Lock &lock) {
    auto launched = find(Driver::instance().executable_graphs, executable);
    auto stream = find_stream(handle);
    stream->require_open();
    if (stream->capture())
      fail_not_simulated("cuGraphLaunch", "a captured stream", uint64_t(handle), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    launched->launch(lock, *stream);
  });
}

CUresult cuGraphDestroy(CUgraph graph) {
  return call("cuGraphDestroy", [&](Lock &lock) {
    find_complete(graph);
    lock.drop_later(Driver::instance().graphs.remove(graph));
  });
}

CUresult cuGraphExecDestroy(CUgraphExec executable) {
  return call("cuGraphExecDestroy", [&](Lock &lock) {
    find(Driver::instance().executable_graphs, executable);
    lock.drop_later(Driver::instance().executable_graphs.remove(executable));
  });
}

CUresult cuUserObjectCreate(CUuserObject *object, void *pointer, CUhostFn destroy, unsigned count, unsigned flags) {
  return call("cuUserObjectCreate", [&](Lock &) {
    require(object && destroy && count != 0 && flags == CU_USER_OBJECT_NO_DESTRUCTOR_SYNC);
    *object = Driver::instance().user_objects.add(std::make_shared<UserObject>(pointer, destroy, count));
  });
}

CUresult cuUserObjectRetain(CUuserObject object, unsigned count) {
  return call("cuUserObjectRetain", [&](Lock &) {
    require(count != 0);
    find(Driver::instance().user_objects, object)->application_references += count;
  });
}

CUresult cuUserObjectRelease(CUuserObject object, unsigned count) {
  return call("cuUserObjectRelease", [&](Lock &lock) { release(lock, object, count); });
}

CUresult cuGraphRetainUserObject(CUgraph handle, CUuserObject object, unsigned count, unsigned flags) {
  return call("cuGraphRetainUserObject", [&](Lock &lock) {
    require(count != 0 && (flags & ~unsigned(CU_GRAPH_USER_OBJECT_MOVE)) == 0);
    auto graph = find(Driver::instance().graphs, handle);
    auto retained = find(Driver::instance().user_objects, object);
    if (flags & CU_GRAPH_USER_OBJECT_MOVE) release(lock, object, count);
    graph->user_references.add(std::move(retained), count);
  });
}

CUresult cuGraphReleaseUserObject(CUgraph handle, CUuserObject object, unsigned count) {
  return call("cuGraphReleaseUserObject", [&](Lock &lock) {
    require(count != 0);
    auto graph = find(Driver::instance().graphs, handle);
    auto released = find(Driver::instance().user_objects, object);
    graph->user_references.remove(released, count);
    lock.drop_later(std::move(released));
  });
}
