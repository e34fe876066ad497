//! Suspended communicators: ncclCommSuspend gives back NCCL's memory and the physical memory of scratch, dimeCommSuspend
//! that of scratch alone. Resuming maps new memory at the same addresses.
//!
//! The addresses stay reserved, so graphs with fast operations stay valid. What lay in scratch is lost: a resumed
//! communicator begins as after its setup, with the first epochs on all ranks ([`crate::comm::setup::resumption`]).
//!
//! 1. All ranks call suspend, with no operation under way. NCCL waits for the device, and for the other ranks;
//!    dimeCommSuspend waits for the device alone. Then each rank releases its scratch and its mappings of the peers'
//!    scratch. What cannot be released is kept, with a log line.
//! 2. Until the communicator is resumed, all-reduces on it are refused.
//! 3. All ranks call resume. They agree in the rounds of a setup whether all have their scratch again. If not, the
//!    communicator is poisoned on all ranks: graphs may contain fast operations, so no rank may forward from now on.
//!
//! Scratch by legacy IPC is kept, because its addresses would change. All ranks agree on how scratch is shared, so all
//! leave the rounds out then.
//!
//! In a group NCCL suspends and resumes at the group's end. Dime's part follows then.

use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::comm::run::{dispatch, group, log_lines};
use crate::comm::setup::{channel, resumption, under_way};
use crate::comm::table;
use crate::comm::table::fast::{Comm, Fast, Status};
use crate::gpu::context::RelaxedCapture;
use crate::gpu::memory::Sharing;
use crate::host::error::Error;
use crate::host::{background, thread};
use crate::kernel::layout::SCRATCH_BYTES;
use crate::nccl::{ncclComm_t, ncclInProgress, ncclInvalidUsage, ncclResult_t, ncclSuccess, ncclUnhandledCudaError};

/// How long dimeCommSuspend waits for this communicator's operations.
const WORK_LIMIT: Duration = Duration::from_secs(10);

/// How long a suspend waits for setups in other threads: scratch must not be unmapped while a setup maps memory.
const SETUPS_LIMIT: Duration = Duration::from_secs(1);

/// What NCCL was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// ncclCommSuspend with NCCL_SUSPEND_MEM.
    Suspend,
    /// ncclCommResume.
    Resume,
}

thread_local! {
    /// What is left to do at the end of this thread's open group.
    static AT_GROUP_END: RefCell<Vec<(Change, ncclComm_t)>> = const { RefCell::new(Vec::new()) };
}

/// Takes what is left to do for communicators that NCCL suspends or resumes at the end of the group that this thread
/// has just closed.
pub fn take_at_group_end() -> Vec<(Change, ncclComm_t)> {
    AT_GROUP_END.take()
}

/// Call before NCCL suspends or resumes a communicator. Some: the call must not reach NCCL.
pub fn refusal(handle: ncclComm_t) -> Option<ncclResult_t> {
    let comm = known(handle)?;
    match comm.status() {
        Status::Poisoned(_) if !comm.is_revoked() => Some(dispatch::refuse(comm)),
        Status::Suspended if is_suspended_by_dime(comm, handle) => {
            let text = "this communicator is suspended by dimeCommSuspend: call dimeCommResume first";
            Some(group::note(Error::new(ncclInvalidUsage, text).report()))
        }
        _ => None,
    }
}

/// Call after NCCL was asked to suspend or resume a communicator and returned `result`. Returns the result of both.
pub fn changed(change: Change, handle: ncclComm_t, result: ncclResult_t) -> ncclResult_t {
    if known(handle).is_none() || (result != ncclSuccess && result != ncclInProgress) {
        return result;
    }
    if group::is_open() {
        group::acts_at_end();
        AT_GROUP_END.with_borrow_mut(|changes| changes.push((change, handle)));
        return result;
    }
    settle(vec![(change, handle)], result)
}

/// Does Dime's part of these changes, after NCCL's part ended with `result`. Returns the result of both.
pub fn settle(changes: Vec<(Change, ncclComm_t)>, result: ncclResult_t) -> ncclResult_t {
    let mut first = result;
    let mut resumed = Vec::new();
    for (change, handle) in changes {
        let result = if result == ncclInProgress { channel::await_ready(handle) } else { result };
        let Some(comm) = known(handle).filter(|_| result == ncclSuccess) else { continue };
        match change {
            Change::Suspend => release(comm, handle, false),
            Change::Resume => resumed.push((comm, handle as usize)),
        }
    }
    for failure in resume_all(resumed) {
        if first == ncclSuccess || first == ncclInProgress {
            first = failure;
        }
    }
    first
}

/// Gives back Dime's memory of a communicator, without NCCL.
pub fn suspend(handle: ncclComm_t) -> ncclResult_t {
    if let Some(refused) = refusal(handle) {
        return refused;
    }
    let Some(comm) = known(handle) else { return ncclSuccess };
    match comm.status() {
        Status::Suspended => {
            return Error::new(ncclInvalidUsage, "this communicator is suspended already").report();
        }
        Status::Fast => {}
        // It has no memory of Dime.
        _ => return ncclSuccess,
    }
    if let Err(why) = await_device(comm, handle) {
        return Error::new(ncclInvalidUsage, format!("this communicator cannot be suspended: {why}")).report();
    }
    release(comm, handle, true);
    ncclSuccess
}

/// Takes back what [`suspend`] gave up.
pub fn resume(handle: ncclComm_t) -> ncclResult_t {
    let Some(comm) = known(handle) else { return ncclSuccess };
    match comm.status() {
        Status::Poisoned(_) => dispatch::refuse(comm),
        Status::Suspended if !is_suspended_by_dime(comm, handle) => {
            let text = "this communicator is suspended by ncclCommSuspend: call ncclCommResume";
            Error::new(ncclInvalidUsage, text).report()
        }
        Status::Suspended => resume_one(comm, handle),
        _ => ncclSuccess,
    }
}

/// Dime's state of a communicator. None: it has none, or this call comes from inside NCCL.
fn known(handle: ncclComm_t) -> Option<&'static Comm> {
    if thread::is_inside_nccl() || handle.is_null() { None } else { table::find(handle as usize) }
}

fn is_suspended_by_dime(comm: &'static Comm, handle: ncclComm_t) -> bool {
    let busy = comm.begin(handle as usize);
    busy.as_ref().and_then(|busy| busy.fast()).is_some_and(|fast| fast.is_suspended_by_dime.load(Ordering::Relaxed))
}

/// Waits until the device has nothing to do. An abort from another thread ends what waits for peers.
fn await_device(comm: &'static Comm, handle: ncclComm_t) -> Result<(), String> {
    let Some(busy) = comm.enter(handle as usize) else { return Err("it was aborted".to_owned()) };
    let Some(fast) = busy.fast() else { return Ok(()) };
    let _relaxed = RelaxedCapture::enter();
    let has_ended = fast.await_eager_lane(Some(WORK_LIMIT), || comm.is_aborted()).map_err(|error| error.to_string())?;
    if !has_ended {
        return Err(format!("its all-reduces have not ended after {} s", WORK_LIMIT.as_secs()));
    }
    let driver = fast.driver();
    // Replays of graphs are not counted.
    fast.resources
        .context
        // SAFETY: the context is current.
        .run(|| driver.check("cuCtxSynchronize", unsafe { (driver.ctx_synchronize)() }))
        .and_then(|inner| inner)
        .map_err(|error| error.to_string())
}

/// Releases the scratch of a fast communicator, as far as that can be done.
fn release(comm: &'static Comm, handle: ncclComm_t, by_dime: bool) {
    // It may have been aborted meanwhile.
    let Some(busy) = comm.enter(handle as usize) else { return };
    let Some(fast) = busy.fast() else { return };
    fast.is_suspended_by_dime.store(by_dime, Ordering::Relaxed);
    if !comm.set_suspended() {
        return;
    }
    let _relaxed = RelaxedCapture::enter();
    let line = name(fast, handle);
    let deadline = Instant::now() + SETUPS_LIMIT;
    while under_way::is_any() && !comm.is_aborted() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    let released = match fast.sharing() {
        Sharing::LegacyIpc => Err("it is shared by legacy IPC".to_owned()),
        Sharing::Descriptor if under_way::is_any() => Err("another communicator is being set up".to_owned()),
        Sharing::Descriptor => fast.release_scratch(),
    };
    match released {
        Ok(()) => log::info!("{line}: suspended, {} MiB of scratch are given back", SCRATCH_BYTES >> 20),
        Err(why) => log::warn!("{line}: suspended, but its scratch stays allocated: {why}"),
    }
}

/// Resumes communicators, of which some may be ranks of one communicator: each in a thread of its own if there are
/// several. Returns the failures.
fn resume_all(communicators: Vec<(&'static Comm, usize)>) -> Vec<ncclResult_t> {
    let several = communicators.len() > 1;
    let start = |(comm, handle): (&'static Comm, usize)| {
        let work = move || resume_one(comm, handle as ncclComm_t);
        // If no thread can be started, it is resumed below.
        if several { background::spawn("dime-resume", work).map_err(|_| (comm, handle)) } else { Err((comm, handle)) }
    };
    let started: Vec<_> = communicators.into_iter().map(start).collect();
    let finish = |thread: Result<std::thread::JoinHandle<ncclResult_t>, (&'static Comm, usize)>| match thread {
        Err((comm, handle)) => resume_one(comm, handle as ncclComm_t),
        // The log already has the panic's message.
        Ok(thread) => thread.join().unwrap_or(ncclUnhandledCudaError),
    };
    started.into_iter().map(finish).filter(|result| *result != ncclSuccess).collect()
}

fn resume_one(comm: &'static Comm, handle: ncclComm_t) -> ncclResult_t {
    let Some(busy) = comm.enter(handle as usize) else { return dispatch::refuse(comm) };
    let Some(fast) = busy.fast() else { return dispatch::refuse(comm) };
    if comm.status() != Status::Suspended {
        return ncclSuccess;
    }
    let began = Instant::now();
    if fast.sharing() == Sharing::Descriptor {
        if let Err(why) = resumption::resume(comm, fast) {
            comm.poison();
            let text = format!("{}: cannot be resumed: {why}. Abort the communicator on all ranks", name(fast, handle));
            return group::note(Error::new(ncclUnhandledCudaError, text).report());
        }
        fast.eager.begin_anew();
    }
    // An abort from another thread may have poisoned it.
    if !comm.set_resumed() {
        return dispatch::refuse(comm);
    }
    log::info!("{}: resumed in {:.0} ms", name(fast, handle), began.elapsed().as_secs_f64() * 1e3);
    ncclSuccess
}

fn name(fast: &Fast, handle: ncclComm_t) -> String {
    log_lines::name(handle, fast.target.rank.into(), fast.target.ranks.into(), fast.device())
}
