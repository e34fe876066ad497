//! Counters of the whole process: fast all-reduces by kernel, forwarded ones by reason. A child of fork starts with
//! zeros.
//!
//! The counters are relaxed atomics. Each is exact; several that are read together need not belong to one moment.

use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicU64, Ordering};

use once_cell::race::OnceBox;

use crate::kernel::{KERNELS, Kernel};
use crate::route::{REASONS, Reason};

static BY_KERNEL: [AtomicU64; KERNELS.len()] = [const { AtomicU64::new(0) }; KERNELS.len()];
static BY_REASON: [AtomicU64; REASONS.len()] = [const { AtomicU64::new(0) }; REASONS.len()];

/// Counts an all-reduce that was enqueued with this kernel.
#[inline]
pub fn count_kernel(kernel: Kernel) {
    BY_KERNEL[kernel as usize].fetch_add(1, Ordering::Relaxed);
}

/// Counts an all-reduce that was forwarded.
#[inline]
pub fn count_forward(reason: Reason) {
    BY_REASON[reason as usize].fetch_add(1, Ordering::Relaxed);
}

/// Counts an all-reduce that was forwarded for the reason of this number.
#[inline(always)]
pub fn count_forward_index(reason: usize) {
    if let Some(counter) = BY_REASON.get(reason) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The name of a counter by its index: first the kernels, then `forward_` and each reason. None: the index is too
/// large.
pub fn name(index: usize) -> Option<&'static CStr> {
    static NAMES: OnceBox<Vec<CString>> = OnceBox::new();
    let names = NAMES.get_or_init(|| {
        let kernels = KERNELS.iter().map(|kernel| kernel.name().to_owned());
        let reasons = REASONS.iter().map(|reason| format!("forward_{}", reason.name()));
        Box::new(kernels.chain(reasons).map(|name| CString::new(name).expect("names hold no NUL")).collect())
    });
    names.get(index).map(CString::as_c_str)
}

/// The value of a counter by its index. None: the index is too large.
pub fn value(index: usize) -> Option<u64> {
    BY_KERNEL.iter().chain(&BY_REASON).nth(index).map(|value| value.load(Ordering::Relaxed))
}

/// The number of all-reduces of this process that were fast.
pub fn fast() -> u64 {
    sum(&BY_KERNEL)
}

/// The number of all-reduces of this process that were forwarded.
pub fn forwarded() -> u64 {
    sum(&BY_REASON)
}

fn sum(counters: &[AtomicU64]) -> u64 {
    counters.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
}

/// Sets all counters to 0: in a child of fork, they counted the parent's calls.
pub fn leave_all_to_parent() {
    BY_KERNEL.iter().chain(&BY_REASON).for_each(|counter| counter.store(0, Ordering::Relaxed));
}
