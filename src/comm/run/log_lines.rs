//! Log lines about communicators and all-reduces.
//!
//! At INFO each rank logs once for each communicator whether its all-reduces are fast, or why they are forwarded,
//! when that is decided. If the ranks had to agree, [`crate::comm::setup`] logs it. Before the setup, the first
//! forwarded all-reduce of a communicator is logged with its reason. At TRACE each all-reduce has a line.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::comm::table::fast::{Comm, Fast};
use crate::host::config::Config;
use crate::nccl::{AllReduce, DataType, RedOp, ncclComm_t, ncclSuccess};
use crate::observe::counters;
use crate::real;
use crate::route::{Agreed, LaunchPlan, Reason, TYPE_KINDS, TypeKind};

/// How a log line names a communicator and this rank.
pub fn name(handle: ncclComm_t, rank: usize, ranks: usize, device: i32) -> String {
    crate::observe::log::set_device(device);
    format!("communicator {handle:p} rank {rank} of {ranks} on GPU {device}")
}

/// As [`name`], with what NCCL returns for the handle.
pub(super) fn asked_name(handle: ncclComm_t) -> String {
    let (mut rank, mut ranks, mut device) = (0, 0, 0);
    // SAFETY: the handle is that of the call at hand; out pointers are ours.
    let told = unsafe {
        real::ncclCommUserRank(handle, &mut rank) == ncclSuccess
            && real::ncclCommCount(handle, &mut ranks) == ncclSuccess
            && real::ncclCommCuDevice(handle, &mut device) == ncclSuccess
    };
    match (usize::try_from(rank), usize::try_from(ranks)) {
        (Ok(rank), Ok(ranks)) if told => name(handle, rank, ranks, device),
        _ => format!("communicator {handle:p}"),
    }
}

/// Up to which sizes a communicator is fast.
pub fn thresholds(agreed: &Agreed) -> String {
    let [floats, others, integers] = TYPE_KINDS.map(|kind| agreed.threshold_bytes(kind));
    let floats = if agreed.batch_invariant {
        "floats of every size are batch-invariant".to_owned()
    } else {
        format!("up to {floats} bytes")
    };
    // A tuning file may tell sums of floats from the rest.
    let integers = if others == agreed.threshold_bytes(TypeKind::FloatSum) {
        format!("integers up to {integers}")
    } else {
        format!("other operations and types of floats up to {others}, integers up to {integers}")
    };
    let guess = if agreed.is_guess() { ", not measured on these GPUs with this many ranks" } else { "" };
    let ctas = match agreed.most_ctas {
        u32::MAX => String::new(),
        most => format!(", with at most {most} blocks (NCCL_MAX_CTAS or maxCTAs)"),
    };
    format!("{floats} ({integers}){guess}{ctas}")
}

/// Which tuning file decides, as a part of a line. Empty: none does.
pub fn tuning(agreed: &Agreed) -> String {
    agreed.tuned.map_or_else(String::new, |tuned| {
        format!(", {} rows and thresholds of the tuning file {}", tuned.count(), crate::comm::setup::tuning::path())
    })
}

/// Logs that a communicator forwards, if that was decided without a setup. `detail` follows the reason.
#[cold]
pub fn decided(handle: ncclComm_t, reason: Reason, detail: &str) {
    // One rank's result is its contribution, whoever makes it.
    let varies = reason != Reason::OneRank && Config::from_env().0.batch_invariant;
    if log::log_enabled!(log::Level::Info) || varies {
        forwards(&asked_name(handle), &format!("{}{detail}", reason.text()), log::Level::Info, varies);
    }
}

/// Logs that a communicator forwards. `varies`: although it was to be batch-invariant.
pub fn forwards(name: &str, why: &str, level: log::Level, varies: bool) {
    log::log!(level, "{name}: all-reduces are forwarded: {why}");
    if varies {
        log::warn!("{name}: DIME_BATCH_INVARIANT=1 does not hold, since all-reduces are forwarded: {why}");
    }
}

/// Counts an all-reduce that is forwarded, and logs it at TRACE. The caller forwards it.
#[inline]
pub fn count_forward(call: &AllReduce, reason: Reason) {
    counters::count_forward(reason);
    if crate::observe::log::traces() {
        trace_forward(call, reason);
    }
}

/// As [`count_forward`], on a communicator that is not set up yet.
#[cold]
pub fn count_forward_undecided(comm: &Comm, call: &AllReduce, reason: Reason) {
    if log::log_enabled!(log::Level::Info) && comm.is_first_report() {
        log::info!("{}: all-reduces are forwarded so far: {}", asked_name(call.comm), reason.text());
    }
    count_forward(call, reason);
}

/// As [`count_forward`], on a communicator that the table has no room for.
#[cold]
pub fn count_forward_unknown(call: &AllReduce) {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        decided(call.comm, Reason::TableFull, "");
    }
    count_forward(call, Reason::TableFull);
}

#[cold]
fn trace_forward(call: &AllReduce, reason: Reason) {
    let mut device = -1;
    // SAFETY: the handle is that of the call at hand; the out pointer is ours.
    let told = unsafe { real::ncclCommCuDevice(call.comm, &mut device) };
    crate::observe::log::set_device(if told == ncclSuccess { device } else { -1 });
    log::trace!("{}: forwarded: {}", operation(call), reason.text());
}

/// Logs an all-reduce that was enqueued.
#[cold]
pub fn trace_fast(fast: &Fast, plan: &LaunchPlan, call: &AllReduce) {
    crate::observe::log::set_device(fast.device());
    let (blocks, threads) = (plan.blocks, plan.threads);
    log::trace!("{}: fast: {} with up to {blocks} blocks of {threads} threads", operation(call), plan.kernel.name());
}

fn operation(call: &AllReduce) -> String {
    let op = RedOp::from_nccl(call.op).map_or_else(|| format!("operation {}", call.op), |op| op.name().to_owned());
    let (count, handle) = (call.count, call.comm);
    match DataType::from_nccl(call.datatype) {
        Some(datatype) => {
            let (bytes, name) = (count.saturating_mul(datatype.bytes()), datatype.name());
            format!("communicator {handle:p}: all-reduce of {bytes} bytes, {name} {op}")
        }
        None => format!("communicator {handle:p}: all-reduce of {count} elements, type {} {op}", call.datatype),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thresholds_say_where_nobody_measured_them() {
        let agreed = |arch, ranks| Agreed::without_settings(ranks, arch, 132);
        assert_eq!(thresholds(&agreed(90, 2)), "up to 16777216 bytes (integers up to 8388608)");
        let few = Agreed { most_ctas: 8, ..agreed(90, 2) };
        assert!(thresholds(&few).ends_with("8388608), with at most 8 blocks (NCCL_MAX_CTAS or maxCTAs)"));
        let guess = "up to 1048576 bytes (integers up to 1048576), not measured on these GPUs with this many ranks";
        assert_eq!(thresholds(&agreed(100, 8)), guess);
    }
}
