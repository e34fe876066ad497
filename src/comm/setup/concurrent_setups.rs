//! Several setups at the same time.

use std::ptr;
use std::thread::JoinHandle;

use crate::comm::setup::set_up;
use crate::comm::table::fast::Comm;
use crate::host::background;

/// Communicators of one thread that are being set up.
pub struct ConcurrentSetups {
    running: Vec<(&'static Comm, Option<JoinHandle<()>>)>,
}

impl ConcurrentSetups {
    /// Begins to set up these communicators, on each of which the caller is in a call. If there are several, each is
    /// set up in a thread of its own: two may be ranks of one communicator, and other ranks may set them up in
    /// another order.
    pub fn begin(communicators: &[&'static Comm]) -> Self {
        let several = communicators.len() > 1;
        let start = |comm: &&'static Comm| {
            let comm: &'static Comm = comm;
            // If no thread can be started, `finish` runs the setup itself.
            let thread = if several { background::spawn("dime-setup", move || set_up(comm)).ok() } else { None };
            (comm, thread)
        };
        Self { running: communicators.iter().map(start).collect() }
    }

    /// Waits until this communicator is set up, if it is one of these.
    pub fn finish(&mut self, comm: &'static Comm) {
        let Some(index) = self.running.iter().position(|(running, _)| ptr::eq(*running, comm)) else { return };
        match self.running.swap_remove(index).1 {
            None => set_up(comm),
            // The log already has the panic's message.
            Some(thread) => thread.join().unwrap_or_else(|_| comm.poison()),
        }
    }
}
