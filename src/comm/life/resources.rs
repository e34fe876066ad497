//! What a communicator owns on the GPU, from its setup to the deferred free: one owner, one release.

use crate::comm::life::idle::{self, OwnStream};
use crate::comm::run::graph_order::GraphOrder;
use crate::comm::run::stream_order::StreamOrder;
use crate::comm::setup::exchange::Channel;
use crate::comm::setup::under_way;
use crate::gpu::context::PrimaryContext;
use crate::gpu::driver::DriverResult;
use crate::gpu::graphs::Graphs;
use crate::gpu::images::Functions;
use crate::gpu::mailbox::Mailbox;
use crate::gpu::memory::{PeerScratch, Scratch};

/// What a communicator or a setup owns. A setup fills it in step by step; a running communicator has all but the channel.
#[derive(Debug)]
pub struct Resources {
    /// The primary context.
    pub context: PrimaryContext,
    /// What a setup exchanges its messages in.
    pub channel: Option<Channel>,
    /// The kernels, loaded into the context. They stay there as long as it lives.
    pub functions: Option<Functions>,
    /// Own scratch.
    pub scratch: Option<Scratch>,
    /// The peers' scratch as mapped here, by rank.
    pub peers: Vec<(usize, PeerScratch)>,
    /// Between us and the kernels that spin.
    pub mailbox: Option<Mailbox>,
    /// The order of eager launches, and an event behind what is not counted.
    pub order: Option<StreamOrder>,
    /// The order of captured launches, and the event that their graphs record.
    pub graph_order: Option<GraphOrder>,
    /// Graphs that hold captured launches.
    pub graphs: Graphs,
}

// SAFETY: driver handles may be used from any thread; the cells are touched by one thread at a time, as `Fast` says.
unsafe impl Send for Resources {}

/// Who may still use them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// Nobody.
    Nobody,
    /// Work that is enqueued.
    Running,
    /// A graph that can be launched.
    Graph,
    /// Something was enqueued of which nobody can tell when it is over.
    Unknown,
}

impl Resources {
    /// None yet.
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

    /// Who may use them still. `blocks`: how many were enqueued in the eager lane; None: the communicator was never fast. Waits for a
    /// small copy on a stream of its own, and for nothing else.
    pub fn user(&self, blocks: Option<u32>) -> DriverResult<User> {
        if self.order.as_ref().is_some_and(StreamOrder::is_lost) {
            return Ok(User::Unknown);
        }
        if self.channel.as_ref().is_some_and(|channel| !channel.is_idle()) {
            return Ok(User::Running);
        }
        if let (Some(blocks), Some(scratch), Some(order)) = (blocks, &self.scratch, &self.order) {
            let driver = self.context.driver;
            let is_over = self
                .context
                .run(|| idle::is_over(driver, &OwnStream::new(driver)?, scratch.address, blocks, order))??;
            if !is_over {
                return Ok(User::Running);
            }
        }
        Ok(if self.graphs.any_alive() { User::Graph } else { User::Nobody })
    }

    /// Closes the peers' memory, which frees what only this process had open of others. Stops where a setup begins meanwhile.
    pub fn close_peers(&mut self) {
        let driver = self.context.driver;
        let peers = &mut self.peers;
        let closed = self.context.run(|| {
            // One that fails does not keep the others.
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

    /// Frees the rest, but no memory that a peer has open. Some: what is left.
    pub fn free(mut self) -> Option<Self> {
        if !self.peers.is_empty() || under_way::is_any() {
            return Some(self);
        }
        if let Some(mailbox) = self.mailbox.take() {
            mailbox.give_back();
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

    /// Kernels that use them may run, so nothing is freed: not the context either, and no lease that tells a peer that its memory
    /// is closed here.
    pub fn leave_allocated(self) {
        std::mem::forget(self);
    }
}

fn complain(outcome: DriverResult<()>) {
    if let Err(error) = outcome {
        log::warn!("not everything of a communicator could be freed: {error}");
    }
}
