//! The few bytes that this library keeps for each thread.
//!
//! Every forwarded call touches them. So they lie together, and on x86-64 at a fixed distance from the thread pointer
//! ("initial exec"). A `thread_local!` of a shared library is found by a call of the loader. Saving seven arguments
//! across that call would cost more instructions than the rest of forwarding. Initial exec uses a small reserve of
//! the loader if the library is opened after the program's start, so keep this small.

use std::cell::Cell;
use std::ffi::c_void;

/// All zeros at the start of a thread; has no destructor.
#[repr(C)]
struct Thread {
    /// How many calls into the real NCCL this thread is inside of.
    ///
    /// NCCL calls some of its own public functions, and the dynamic linker brings those calls to Dime. They belong to
    /// a call that is already under way, so they are forwarded without a second look.
    nccl_depth: Cell<u32>,
    /// The last failure on this thread was Dime's, not NCCL's.
    failure_is_ours: Cell<bool>,
    /// How many groups this thread has opened and not closed.
    group_depth: Cell<u32>,
    /// What the last lookup of a communicator found on this thread, or null. Only the communicator table interprets
    /// it.
    last_found: Cell<*const c_void>,
}

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .tbss.dime_thread, \"awT\", @nobits",
    ".globl dime_thread",
    ".hidden dime_thread",
    ".type dime_thread, @object",
    ".size dime_thread, {size}",
    ".balign 8",
    "dime_thread:",
    ".zero {size}",
    ".popsection",
    size = const size_of::<Thread>(),
);

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn with_thread<R>(body: impl FnOnce(&Thread) -> R) -> R {
    const { assert!(align_of::<Thread>() <= 8) };
    let thread: *const Thread;
    // SAFETY: reads the distance of `dime_thread` from the thread pointer, a constant that the loader filled in, and
    // the thread pointer, which every thread has at fs:0. Touches nothing else but the flags.
    unsafe {
        std::arch::asm!(
            "mov {thread}, qword ptr [rip + dime_thread@gottpoff]",
            "add {thread}, qword ptr fs:[0]",
            thread = out(reg) thread,
            options(pure, readonly, nostack),
        );
    }
    // SAFETY: the loader made these bytes for this thread, zeroed, as large and as aligned as a Thread, and they live
    // as long as the thread. The reference does not leave it.
    body(unsafe { &*thread })
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn with_thread<R>(body: impl FnOnce(&Thread) -> R) -> R {
    thread_local! {
        static THREAD: Thread = const {
            Thread {
                nccl_depth: Cell::new(0),
                failure_is_ours: Cell::new(false),
                group_depth: Cell::new(0),
                last_found: Cell::new(std::ptr::null()),
            }
        };
    }
    THREAD.with(body)
}

/// Runs a call into the real NCCL. `is_failure` says whether the returned value makes NCCL's the last failure.
///
/// The call cannot unwind, so the depth is always restored.
#[inline(always)]
pub(crate) fn inside_nccl<R: Copy>(call: impl FnOnce() -> R, is_failure: impl FnOnce(R) -> bool) -> R {
    with_thread(|thread| {
        thread.nccl_depth.set(thread.nccl_depth.get() + 1);
        let returned = call();
        thread.nccl_depth.set(thread.nccl_depth.get() - 1);
        if is_failure(returned) {
            thread.failure_is_ours.set(false);
        }
        returned
    })
}

/// True when the current call comes from within the real NCCL, on the thread that called into it.
#[inline(always)]
pub fn is_inside_nccl() -> bool {
    with_thread(|thread| thread.nccl_depth.get() != 0)
}

/// Marks the last failure on this thread as Dime's.
pub fn note_failure_of_ours() {
    with_thread(|thread| thread.failure_is_ours.set(true));
}

/// Whether the last failure on this thread was Dime's.
pub fn failure_is_ours() -> bool {
    with_thread(|thread| thread.failure_is_ours.get())
}

/// How many groups this thread has opened and not closed.
#[inline(always)]
pub fn group_depth() -> u32 {
    with_thread(|thread| thread.group_depth.get())
}

/// Sets what [`group_depth`] returns.
#[inline(always)]
pub fn set_group_depth(depth: u32) {
    with_thread(|thread| thread.group_depth.set(depth));
}

/// A number that no other living thread has.
#[inline(always)]
pub fn number() -> usize {
    with_thread(|thread| std::ptr::from_ref(thread).addr())
}

/// What [`set_last_found`] was last given on this thread; null at first.
#[inline(always)]
pub fn last_found() -> *const c_void {
    with_thread(|thread| thread.last_found.get())
}

/// Remembers what a lookup found.
#[inline(always)]
pub fn set_last_found(found: *const c_void) {
    with_thread(|thread| thread.last_found.set(found));
}
