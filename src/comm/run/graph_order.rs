//! The order of a communicator's captured operations, within a graph and between graphs.
//!
//! Between graphs: a graph may be replayed while another graph of the same communicator runs, and both would use the
//! same slots. So each graph waits, before its first operation, for an event that every graph records after its last
//! one. That orders the graphs as they are launched, which is the same on all ranks. The two event nodes are added
//! once for each graph, not for each operation. No operation of the graph comes after the record node, so operations
//! can still start early.
//!
//! Within a capture, an operation comes after the previous one: by an edge, unless its stream already has it there.
//!
//! An operation comes after the end of everything before it in its stream. That includes a kernel whose event of
//! programmatic launch the stream waits for (cudaLaunchAttributeProgrammaticEvent), an event that would let the
//! operation start before that kernel ends. Dime's kernels would wait for the end anyway, and event nodes accept no
//! other kind of edge.
//!
//! NCCL orders graphs in the same way. If it is told not to, Dime does not order them either
//! ([`crate::comm::run::declared`]).

use std::cell::RefCell;
use std::ptr;

use crate::comm::run::stream_order::new_event;
use crate::gpu::driver::{Driver, DriverResult, EdgeData};
use crate::gpu::graphs::Graphs;
use crate::gpu::{CUevent, CUgraph, CUgraphNode, CUstream};

/// The capture that a stream is in, and the graph that it makes.
#[derive(Clone, Copy, Debug)]
pub struct Capture {
    /// Unique among the captures of the process; never 0.
    pub id: u64,
    /// Still being captured.
    pub graph: CUgraph,
}

/// A capture that contains operations of this communicator.
#[derive(Clone, Copy, Debug)]
struct KnownCapture {
    id: u64,
    /// The last node of the last operation. Null: no operation has succeeded yet.
    node: CUgraphNode,
    /// The node that records the event after it; null if graphs are not ordered.
    record: CUgraphNode,
}

/// The most captures that are remembered at once. A forgotten capture counts as a new one: later operations on its
/// other streams then do not wait for its earlier operations.
const MOST_KNOWN: usize = 32;

/// The order of the captured lane. Used by one thread at a time, as NCCL demands for a communicator.
#[derive(Debug)]
pub struct GraphOrder {
    /// The event that every graph records. None: graphs are not ordered.
    event: Option<CUevent>,
    /// In the order of their first operations.
    known: RefCell<Vec<KnownCapture>>,
}

impl GraphOrder {
    /// Makes the event in the current context. `between_graphs`: graphs are ordered.
    pub fn new(driver: &Driver, between_graphs: bool) -> DriverResult<Self> {
        let event = if between_graphs { Some(new_event(driver)?) } else { None };
        Ok(Self { event, known: RefCell::default() })
    }

    /// Call before an operation is captured on `stream`. The first call of a capture registers the graph in `graphs`.
    pub(in crate::comm) fn before(
        &self,
        driver: &Driver,
        graphs: &Graphs,
        capture: Capture,
        stream: CUstream,
    ) -> DriverResult<()> {
        const EXTERNAL: u32 = 1;
        const ADD: u32 = 0;
        let last_node = depend_on_ends(driver, stream)?;
        let mut known = self.known.borrow_mut();
        match known.iter().find(|known| known.id == capture.id) {
            None => {
                graphs.hold(driver, capture.graph)?;
                if let Some(event) = self.event {
                    // SAFETY: an event of ours, and a stream of the application that is captured.
                    let waited = unsafe { (driver.stream_wait_event)(stream, event, EXTERNAL) };
                    driver.check("cuStreamWaitEvent", waited)?;
                }
                if known.len() == MOST_KNOWN {
                    known.remove(0);
                }
                known.push(KnownCapture { id: capture.id, node: ptr::null_mut(), record: ptr::null_mut() });
            }
            Some(last) if !last.node.is_null() && last_node != Some(last.node) => {
                let mut node = last.node;
                // SAFETY: a node of the graph that the stream's capture makes.
                let joined = unsafe { (driver.stream_update_capture_dependencies)(stream, &mut node, 1, ADD) };
                driver.check("cuStreamUpdateCaptureDependencies", joined)?;
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Call after an operation was captured on `stream`.
    pub fn after(&self, driver: &Driver, capture: Capture, stream: CUstream) -> DriverResult<()> {
        const ILLEGAL_STATE: i32 = 401;
        let Some(node) = depend_on_ends(driver, stream)? else {
            return driver.check("cuStreamGetCaptureInfo", ILLEGAL_STATE);
        };
        let mut known = self.known.borrow_mut();
        let Some(known) = known.iter_mut().find(|known| known.id == capture.id) else { return Ok(()) };
        if let Some(event) = self.event {
            // SAFETY: nodes of the graph that is being made, an event of ours; the out pointer is ours.
            unsafe {
                if known.record.is_null() {
                    let added = (driver.graph_add_event_record_node)(&mut known.record, capture.graph, &node, 1, event);
                    driver.check("cuGraphAddEventRecordNode", added)?;
                } else {
                    let removed = (driver.graph_remove_dependencies)(capture.graph, &known.node, &known.record, 1);
                    driver.check("cuGraphRemoveDependencies", removed)?;
                    let added = (driver.graph_add_dependencies)(capture.graph, &node, &known.record, 1);
                    driver.check("cuGraphAddDependencies", added)?;
                }
            }
        }
        known.node = node;
        Ok(())
    }

    /// Destroys the event. No graph records it any more.
    pub fn free(self, driver: &Driver) -> DriverResult<()> {
        match self.event {
            // SAFETY: created in `new`.
            Some(event) => driver.check("cuEventDestroy", unsafe { (driver.event_destroy)(event) }),
            None => Ok(()),
        }
    }
}

/// Makes what is captured next on `stream` come after the end of the nodes before it. Returns the node if there is
/// exactly one.
fn depend_on_ends(driver: &Driver, stream: CUstream) -> DriverResult<Option<CUgraphNode>> {
    const SET: u32 = 1;
    let (mut status, mut nodes, mut edges, mut count) = (0, ptr::null::<CUgraphNode>(), ptr::null::<EdgeData>(), 0);
    // SAFETY: out pointers are ours.
    let asked = unsafe {
        let (id, graph) = (ptr::null_mut(), ptr::null_mut());
        match driver.stream_get_capture_info_with_edges {
            Some(ask) => ask(stream, &mut status, id, graph, &mut nodes, &mut edges, &mut count),
            // This older function knows no other edges.
            None => (driver.stream_get_capture_info)(stream, &mut status, id, graph, &mut nodes, &mut count),
        }
    };
    driver.check("cuStreamGetCaptureInfo", asked)?;
    // SAFETY: the arrays are the driver's until the next call on the stream.
    let (nodes, edges) = unsafe { (array(nodes, count), if edges.is_null() { &[] } else { array(edges, count) }) };
    let last = if let [node] = nodes { Some(*node) } else { None };
    if edges.iter().any(|edge| *edge != EdgeData::default()) {
        let mut nodes = nodes.to_vec();
        // SAFETY: nodes of the graph that the stream's capture makes.
        let set = unsafe { (driver.stream_update_capture_dependencies)(stream, nodes.as_mut_ptr(), count, SET) };
        driver.check("cuStreamUpdateCaptureDependencies", set)?;
    }
    Ok(last)
}

/// # Safety
/// There are `count` elements at `first`, valid for `'a`.
unsafe fn array<'a, T>(first: *const T, count: usize) -> &'a [T] {
    // SAFETY: the caller's contract.
    if count == 0 || first.is_null() { &[] } else { unsafe { std::slice::from_raw_parts(first, count) } }
}
