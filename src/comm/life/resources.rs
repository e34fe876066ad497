//! What a communicator owns on the GPU, from its setup to the deferred free. One owner at a time, and one place where
//! it is freed.

use crate::comm::life::idle::{self, OwnStream};
use crate::comm::run::graph_order::GraphOrder;
use crate::comm::run::stream_order::StreamOrder;
use crate::comm::setup::channel::Channel;
use crate::comm::setup::under_way;
use crate::gpu::context::PrimaryContext;
use crate::gpu::driver::DriverResult;
use crate::gpu::functions::Functions;
use crate::gpu::graphs::Graphs;
use crate::gpu::mailbox::Mailbox;
use crate::gpu::memory::{PeerScratch, Scratch};

/// What a communicator or a setup owns. A setup fills it step by step. A running communicator has all but the
/// channel.
#[derive(Debug)]
pub struct Resources {
    /// The primary context.
    pub context: PrimaryContext,
    /// The stream and buffer of a setup's messages.
    pub channel: Option<Channel>,
    /// The kernels, loaded into the context. They stay loaded as long as the context lives.
    pub functions: Option<Functions>,
    /// This rank's scratch.
    pub scratch: Option<Scratch>,
    /// The peers' scratch as mapped here, with the peer's rank.
    pub peers: Vec<(usize, PeerScratch)>,
    /// The mailbox between host and spinning kernels.
    pub mailbox: Option<Mailbox>,
    /// The order of eager launches, with the event behind those that are not counted.
    pub order: Option<StreamOrder>,
    /// The order of captured launches, with the event that their graphs record.
    pub graph_order: Option<GraphOrder>,
    /// The graphs that contain captured launches.
    pub graphs: Graphs,
}

// SAFETY: driver handles may be used from any thread. The cells of a running communicator are touched by one thread at a time
// (`unsafe impl Sync for Comm`); those of a deferred entry are not touched any more.
unsafe impl Send for Resources {}

/// What may still use a communicator's resources.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// Nothing.
    Nothing,
    /// Enqueued work.
    Running,
    /// A graph that can be launched.
    Graph,
    /// Something was enqueued, and the driver cannot tell when it ends.
    Unknown,
}

impl Resources {
    /// Only the context, and no resource yet.
    pub fn new(context: PrimaryContext) -> Self {
        Self {
            context,
            channel: None,
            functions: None,
            scratch: None,
            peers: Vec::new(),
            mailbox: None,
            order: None,
            graph_order: None,
            graphs: Graphs::default(),
        }
    }

    /// What may still use them. `blocks`: how many blocks were enqueued in the eager lane; None: the communicator was
    /// never fast. Waits only for a small copy on a stream of its own.
    pub fn user(&self, blocks: Option<u32>) -> DriverResult<User> {
        if self.order.as_ref().is_some_and(StreamOrder::is_lost) {
            return Ok(User::Unknown);
        }
        if self.channel.as_ref().is_some_and(|channel| !channel.is_idle()) {
            return Ok(User::Running);
        }
        if let (Some(blocks), Some(scratch), Some(order)) = (blocks, &self.scratch, &self.order) {
            let driver = self.context.driver;
            let is_over =
                self.context.run(|| idle::is_over(driver, &OwnStream::new(driver)?, scratch, blocks, order))??;
            if !is_over {
                return Ok(User::Running);
            }
        }
        Ok(if self.graphs.any_alive() { User::Graph } else { User::Nothing })
    }

    /// Releases the physical memory of scratch and unmaps that of the peers; all addresses are kept. The caller knows that
    /// no kernel of Dime uses it. A failure does not stop the others from being released.
    pub fn suspend(&self) -> DriverResult<()> {
        let driver = self.context.driver;
        self.context.run(|| {
            let peers = self.peers.iter().map(|(_, peer)| peer.suspend(driver));
            let released: Vec<_> = peers.chain(self.scratch.iter().map(|scratch| scratch.suspend(driver))).collect();
            released.into_iter().collect()
        })?
    }

    /// Closes the peers' memory. That frees memory that its owner no longer has and only this process still maps.
    /// Stops if a setup begins meanwhile.
    pub fn close_peers(&mut self) {
        let driver = self.context.driver;
        let peers = &mut self.peers;
        let closed = self.context.run(|| {
            // A failure does not stop the others from being closed.
            let mut steps = Vec::new();
            while !under_way::is_any()
                && let Some((_, peer)) = peers.pop()
            {
                steps.push(peer.close(driver));
            }
            steps.into_iter().collect::<DriverResult<()>>()
        });
        complain(closed.and_then(|inner| inner));
    }

    /// Frees the rest, except memory that a peer has open. Some: what could not be freed yet.
    pub fn free(mut self) -> Option<Self> {
        if !self.peers.is_empty() || under_way::is_any() {
            return Some(self);
        }
        if let Some(mailbox) = self.mailbox.take() {
            mailbox.release();
        }
        let driver = self.context.driver;
        let (scratch, order, graph_order, channel) =
            (&mut self.scratch, &mut self.order, &mut self.graph_order, &mut self.channel);
        let freed = self.context.run(|| {
            let mut steps = Vec::new();
            if let Some(scratch) = scratch.take_if(|scratch| !scratch.is_leased()) {
                steps.push(scratch.free(driver));
            }
            steps.extend(order.take().map(|order| order.free(driver)));
            steps.extend(graph_order.take().map(|order| order.free(driver)));
            steps.extend(channel.take().map(Channel::close));
            steps.into_iter().collect::<DriverResult<()>>()
        });
        complain(freed.and_then(|inner| inner));
        if self.scratch.is_some() {
            return Some(self);
        }
        complain(self.context.release());
        None
    }

    /// Leaks them, because kernels may still use them. The context is not released, and a lease is kept, so that its
    /// owner does not free memory that is open here.
    pub fn leave_allocated(self) {
        std::mem::forget(self);
    }
}

fn complain(outcome: DriverResult<()>) {
    if let Err(error) = outcome {
        log::warn!("some resources of a communicator that has ended could not be freed: {error}");
    }
}
