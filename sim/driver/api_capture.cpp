// Stream capture.
#include <algorithm>

#include "api.h"

using namespace sim;

namespace {

CUstreamCaptureStatus status_of(const Stream &stream) {
  if (!stream.capture()) return CU_STREAM_CAPTURE_STATUS_NONE;
  return stream.capture()->is_valid() ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_INVALIDATED;
}

// What the legacy default stream's status would be is undefined while a stream that synchronises with it is captured.
// To ask does no harm to that capture.
std::shared_ptr<Stream> find_asked(CUstream handle) {
  auto stream = find_stream(handle);
  if (stream->kind == Stream::Kind::Legacy)
    for (const auto &blocking : stream->context.blocking_streams())
      require(!blocking->capture(), CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
  return stream;
}

bool is_mode(CUstreamCaptureMode mode) {
  return mode == CU_STREAM_CAPTURE_MODE_GLOBAL || mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL ||
         mode == CU_STREAM_CAPTURE_MODE_RELAXED;
}

}  // namespace

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
  return call("cuStreamBeginCapture", [&](Lock &) {
    require(is_mode(mode));
    Capture::begin(*find_stream(stream), mode);
  });
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
  return call("cuStreamEndCapture", [&](Lock &lock) {
    require(graph);
    *graph = nullptr;
    *graph = Capture::end_in(*find_stream(stream), lock);
  });
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
  return call("cuStreamIsCapturing", [&](Lock &) {
    require(status);
    *status = status_of(*find_asked(stream));
  });
}

CUresult cuStreamGetCaptureInfo_v2(CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
                                   const CUgraphNode **dependencies, size_t *dependency_count) {
  return cuStreamGetCaptureInfo_v3(stream, status, id, graph, dependencies, nullptr, dependency_count);
}

CUresult cuStreamGetCaptureInfo_v3(CUstream handle, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
                                   const CUgraphNode **dependencies, const CUgraphEdgeData **edges,
                                   size_t *dependency_count) {
  return call("cuStreamGetCaptureInfo", [&](Lock &) {
    require(status && (dependencies || !edges));
    auto stream = find_asked(handle);
    *status = status_of(*stream);
    if (*status != CU_STREAM_CAPTURE_STATUS_ACTIVE) return;
    if (id) *id = stream->capture()->id;
    if (graph) *graph = stream->capture()->graph_handle();
    const Capture::Frontier &frontier = stream->frontier();
    require(!dependencies || edges || !frontier.is_annotated(), CUDA_ERROR_LOSSY_QUERY);
    if (dependencies) *dependencies = (const CUgraphNode *)frontier.nodes.data();
    if (edges) *edges = frontier.edges.data();
    if (dependency_count) *dependency_count = frontier.nodes.size();
  });
}

CUresult cuStreamUpdateCaptureDependencies(CUstream handle, CUgraphNode *nodes, size_t count, unsigned flags) {
  return call("cuStreamUpdateCaptureDependencies", [&](Lock &) {
    require(count == 0 || nodes);
    require(flags == CU_STREAM_ADD_CAPTURE_DEPENDENCIES || flags == CU_STREAM_SET_CAPTURE_DEPENDENCIES);
    auto stream = find_stream(handle);
    require(stream->capture() != nullptr, CUDA_ERROR_ILLEGAL_STATE);
    stream->require_open();
    Capture::Frontier frontier;
    for (size_t i = 0; i < count; ++i) {
      frontier.add(stream->capture()->graph().find_node(nodes[i]));
      require(frontier.nodes.back() != nullptr);
    }
    if (flags == CU_STREAM_ADD_CAPTURE_DEPENDENCIES) {
      stream->join_capture(stream->capture(), frontier);
      return;
    }
    // A node that is left out would count as joined.
    for (Capture::Node node : stream->frontier().nodes)
      require_simulated(std::find(frontier.nodes.begin(), frontier.nodes.end(), node) != frontier.nodes.end(),
                        "cuStreamUpdateCaptureDependencies", "flags", flags);
    stream->set_frontier(std::move(frontier));
  });
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode) {
  return call("cuThreadExchangeStreamCaptureMode", [&](Lock &) {
    require(mode && is_mode(*mode));
    std::swap(capture_mode_of_thread(), *mode);
  });
}
