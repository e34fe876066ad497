//! The resumption of a suspended communicator: each rank takes physical memory again and maps it where its scratch was.
//! The steps, the rounds and the agreement are those of a setup.
//!
//! The links, the kernels and the settings were agreed on in the setup, and are not looked at again. The probe is run
//! again, since the mappings are new. Scratch is cleared as in the setup, with the first epoch in every epoch word:
//!
//! - A graph's launches take their epochs from those words, which are alike on all ranks.
//! - The host counts the eager launches from the first one again: its tickets begin at 0, as the count of blocks does.
//!
//! No launch runs meanwhile on any rank: the ranks have entered the first round, so none of them is in a call that
//! launches, and all work before that was waited for.

use std::time::{Duration, Instant};

use crate::comm::life::deferred_free;
use crate::comm::setup::agreement::{STEPS, Step, Verdict};
use crate::comm::setup::exchange::{Exchange, Objection, Offered, Terms, memory, rank_and_device};
use crate::comm::setup::under_way::UnderWay;
use crate::comm::table::fast::{Comm, Fast};
use crate::gpu::context::RelaxedCapture;
use crate::host::config::Config;
use crate::route::Reason;

/// How long a failed resumption waits for its own work on the device.
const WORK_LIMIT: Duration = Duration::from_millis(100);

/// Resumes a communicator that this thread is in a call on. Error: why it cannot be resumed. All ranks conclude the same,
/// except one on which a round failed. Then the scratch is released again.
pub fn resume(comm: &'static Comm, fast: &Fast) -> Result<(), String> {
    let (config, _) = Config::from_env();
    let _relaxed = RelaxedCapture::enter();
    let under_way = UnderWay::begin();
    let mut run = Resumption::open(comm, fast)?;
    for step in STEPS {
        match step {
            Step::Round(round) => run.exchange.run_round(round, "resumption of a communicator"),
            Step::Allocate => run.step(Resumption::allocate),
            Step::PassScratch => run.step(|run| run.exchange.pass_scratch(&config)),
            Step::MapPeers => run.step(Resumption::map_peers),
            Step::Check => run.step(Resumption::check),
        }
    }
    // From here on no other rank waits for this one.
    drop(under_way);
    run.finish()
}

struct Resumption<'a> {
    exchange: Exchange,
    fast: &'a Fast,
    /// Nothing of the scratch from before is left: what is mapped, this resumption has mapped.
    is_clean: bool,
}

impl<'a> Resumption<'a> {
    fn open(comm: &'static Comm, fast: &'a Fast) -> Result<Self, String> {
        let handle = comm.handle() as crate::nccl::ncclComm_t;
        // What was agreed on in the setup still holds, whatever the environment says now.
        let terms = |_: &_| Terms {
            settings: 0,
            shares_descriptors: true,
            shared_gpus: true,
            most_ctas: None,
            tuning: 0,
            refusal: None,
        };
        let exchange = Exchange::open(comm, rank_and_device(handle)?, &fast.resources.context, terms)?;
        Ok(Self { exchange, fast, is_clean: false })
    }

    fn step(&mut self, step: impl FnOnce(&mut Self) -> Result<(), Objection>) {
        if self.exchange.begins_step()
            && let Err(objection) = step(self)
        {
            self.exchange.object(objection);
        }
    }

    /// After round 1.
    fn allocate(&mut self) -> Result<(), Objection> {
        let Some(scratch) = &self.fast.resources.scratch else { return Ok(()) };
        // What was kept when the communicator was suspended.
        self.fast.release_scratch().map_err(|why| (Reason::Memory, why))?;
        self.is_clean = true;
        self.exchange.reach_peers()?;
        let (driver, device) = (self.exchange.driver, self.exchange.device.ordinal);
        self.exchange.in_context(|| scratch.resume(driver, device)).map_err(memory)?;
        self.exchange.offer(scratch, None)
    }

    fn map_peers(&mut self) -> Result<(), Objection> {
        let (driver, device) = (self.exchange.driver, self.exchange.device.ordinal);
        for (peer, scratch) in &self.fast.resources.peers {
            let offered = self.exchange.offered_by(*peer)?;
            self.exchange
                .in_context(|| match &offered {
                    Offered::Here(known) => scratch.resume_same_process(driver, device, &known.key),
                    Offered::Elsewhere(descriptor) => scratch.resume_descriptor(driver, device, descriptor),
                })
                .map_err(memory)?;
        }
        self.exchange.close_export();
        self.exchange.write_patterns(&self.fast.target.functions, &self.fast.resources.peers)
    }

    fn check(&mut self) -> Result<(), Objection> {
        let target = &self.fast.target;
        let own = target.scratch[usize::from(target.rank)];
        self.exchange.check_and_clear(&target.functions, own, target.first_epoch)
    }

    fn finish(self) -> Result<(), String> {
        let Self { exchange, fast, is_clean } = self;
        exchange.withdraw();
        let own = exchange.objection.as_ref().map(|(reason, detail)| format!("this rank: {}: {detail}", reason.text()));
        let why = match exchange.agreement.verdict() {
            Some(Verdict::Fast) => None,
            Some(Verdict::Forward(refusal)) => {
                let own = own.map_or_else(String::new, |own| format!("; {own}"));
                Some(format!("{} (rank {}{own})", refusal.reason.text(), refusal.rank))
            }
            Some(Verdict::Failed) | None => Some(own.unwrap_or_else(|| "a round of messages failed".to_owned())),
        };
        if why.is_some() && is_clean {
            release_again(&exchange, fast);
        }
        deferred_free::defer_channel(exchange.channel, &fast.resources.context);
        why.map_or(Ok(()), Err)
    }
}

/// Releases what a failed resumption has mapped, once its own work on the device has ended. If that does not end, or the
/// memory cannot be released, it stays for good.
fn release_again(exchange: &Exchange, fast: &Fast) {
    let deadline = Instant::now() + WORK_LIMIT;
    while !exchange.channel.is_idle() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_micros(100));
    }
    let released = if exchange.channel.is_idle() {
        fast.resources.suspend().map_err(|error| error.to_string())
    } else {
        Err("its own work on the GPU has not ended".to_owned())
    };
    if let Err(why) = released {
        // What lies there now says nothing about the end of kernels.
        fast.order().lose();
        log::warn!("scratch of a communicator that could not be resumed stays allocated: {why}");
    }
}
