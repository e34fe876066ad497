//! The mailbox: words in host memory between host and spinning kernels. The host writes a command; the kernels write
//! a report of what they wait for.
//!
//! The words lie in pages that are never unmapped and that stay registered with the driver. To free or unregister
//! host memory, the driver waits for the whole GPU, and a kernel of another communicator may spin there until this
//! thread acts. So a communicator returns its words to their page, and the context's next communicator takes them.
//!
//! A page serves one context. If the application destroys the context, the registration ends, but the host can still
//! write to the page. When the driver reuses the handle for a new context, that context registers the page again, once
//! no communicator uses a part of it.

use std::mem::size_of;
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::gpu::driver::{Driver, DriverResult};
use crate::gpu::{CUcontext, CUdeviceptr};
use crate::host::lock::Lock;
use crate::kernel::layout::{COMMAND_GO_ON, COMMAND_REPORT, COMMAND_STOP, LANES, LaneMailbox, MAX_RANKS};

const PAGE_BYTES: usize = 4096;

/// The mailbox of one communicator.
type Words = [LaneMailbox; LANES];

/// The number of communicators that a page has words for.
const MAILBOXES_IN_A_PAGE: usize = PAGE_BYTES / size_of::<Words>();
const _: () =
    assert!(MAILBOXES_IN_A_PAGE * size_of::<Words>() == PAGE_BYTES && MAILBOXES_IN_A_PAGE <= u32::BITS as usize);

/// A page of words. A child of fork has none of its parent's pages, since the parent's kernels use them.
struct Page {
    context: usize,
    /// Unique among all contexts of the process; the driver reuses context handles.
    context_id: u64,
    words: &'static [Words; MAILBOXES_IN_A_PAGE],
    device: CUdeviceptr,
    /// Bit by bit: the entries of `words` that a communicator has.
    taken: u32,
}

static PAGES: Lock<Vec<Page>> = Lock::new(Vec::new());

/// The words of every lane, where kernels can reach them.
#[derive(Debug)]
pub struct Mailbox {
    words: &'static Words,
    /// Device address of lane 0's words; the other lanes' follow.
    pub device: CUdeviceptr,
}

/// The same words for another thread, valid while the communicator has them.
#[derive(Clone, Copy, Debug)]
pub struct View(&'static Words);

/// A report: what a launch waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The launch's epoch.
    pub epoch: u32,
    /// The ranks that it waits for, one bit each.
    pub missing: u32,
    /// NCCL's number of the element type.
    pub datatype: u8,
    /// NCCL's number of the operation.
    pub op: u8,
    /// The number of the kernel.
    pub kernel: u8,
    /// Bytes of the launch.
    pub bytes: u64,
}

impl Page {
    /// Makes a page for `context`, which is current.
    fn new(driver: &Driver, context: CUcontext, context_id: u64) -> DriverResult<Self> {
        const OUT_OF_MEMORY: i32 = 2;
        // Shared: after a fork, this process must keep the page that the GPU uses, not get a copy.
        let (protection, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a mapping of its own.
        let page = unsafe { libc::mmap(ptr::null_mut(), PAGE_BYTES, protection, kind, -1, 0) };
        if page == libc::MAP_FAILED {
            driver.check("mmap", OUT_OF_MEMORY)?;
        }
        // SAFETY: a page of zeros, which are valid words; it stays once the driver knows it. All access is atomic.
        let words = unsafe { &*page.cast::<[Words; MAILBOXES_IN_A_PAGE]>() };
        Self { context: context as usize, context_id, words, device: 0, taken: 0 }.register(driver, context_id)
    }

    /// Registers the page, in which no communicator has words, with the current context, which has this id. If that
    /// fails, the page is unmapped.
    fn register(mut self, driver: &Driver, context_id: u64) -> DriverResult<Self> {
        const DEVICE_MAP: u32 = 2;
        let host = ptr::from_ref(self.words).cast_mut().cast();
        // SAFETY: memory of ours, unmapped only while the driver does not know it; the out pointer is ours.
        unsafe {
            let registered =
                driver.check("cuMemHostRegister", (driver.mem_host_register)(host, PAGE_BYTES, DEVICE_MAP));
            registered.inspect_err(|_| {
                libc::munmap(host, PAGE_BYTES);
            })?;
            driver
                .check("cuMemHostGetDevicePointer", (driver.mem_host_get_device_pointer)(&mut self.device, host, 0))?;
        }
        self.context_id = context_id;
        Ok(self)
    }

    /// Takes words that no communicator has, and clears them: the command is to go on.
    fn take(&mut self) -> Option<Mailbox> {
        let index = self.taken.trailing_ones() as usize;
        let words = self.words.get(index)?;
        self.taken |= 1 << index;
        words.iter().for_each(clear);
        Some(Mailbox { words, device: self.device + (index * size_of::<Words>()) as CUdeviceptr })
    }
}

/// Makes the words as in a new page.
fn clear(words: &LaneMailbox) {
    words.command.store(COMMAND_GO_ON, Relaxed);
    words.launch.store(0, Relaxed);
    words.bytes.store(0, Relaxed);
    words.waits.iter().for_each(|epoch| epoch.store(0, Relaxed));
}

impl Mailbox {
    /// Takes words for a communicator in `context`, which is current.
    pub(crate) fn allocate(driver: &Driver, context: CUcontext) -> DriverResult<Self> {
        let mut id = 0;
        // SAFETY: the context is current; the out pointer is ours.
        driver.check("cuCtxGetId", unsafe { (driver.ctx_get_id)(context, &mut id) })?;
        let of_the_past = {
            let mut pages = PAGES.hold();
            if let Some(words) = pages.iter_mut().filter(|page| page.context_id == id).find_map(Page::take) {
                return Ok(words);
            }
            let is_unused = |page: &Page| page.context == context as usize && page.context_id != id && page.taken == 0;
            pages.iter().position(is_unused).map(|index| pages.swap_remove(index))
        };
        // No lock is held here, because the driver may wait.
        let again = of_the_past.and_then(|page| page.register(driver, id).ok());
        let mut page = again.map_or_else(|| Page::new(driver, context, id), Ok)?;
        let words = page.take().expect("nobody has words in it");
        PAGES.hold().push(page);
        Ok(words)
    }

    /// Writes the stop command for every kernel of the communicator, for good.
    pub fn stop(&self) {
        for lane in self.words {
            lane.command.store(COMMAND_STOP, Release);
        }
    }

    /// The same words for another thread, which must not use them after `release`.
    pub fn view(&self) -> View {
        View(self.words)
    }

    /// Returns the words to their page. No kernel reads or writes them any more. Makes no driver call.
    pub fn release(self) {
        let address = ptr::from_ref(self.words);
        for page in PAGES.hold().iter_mut() {
            if let Some(index) = page.words.iter().position(|words| ptr::eq(words, address)) {
                page.taken &= !(1 << index);
            }
        }
    }
}

impl View {
    fn lanes(&self) -> &[LaneMailbox; LANES] {
        self.0
    }

    /// Asks all spinning kernels to report what they wait for. They report when they next poll.
    pub fn request_reports(&self) {
        for lane in self.lanes() {
            lane.waits.iter().for_each(|epoch| epoch.store(0, Relaxed));
            // A stop command stays.
            let _ = lane.command.compare_exchange(COMMAND_GO_ON, COMMAND_REPORT, AcqRel, Relaxed);
        }
    }

    /// Ends the request for reports.
    pub fn end_request(&self) {
        for lane in self.lanes() {
            let _ = lane.command.compare_exchange(COMMAND_REPORT, COMMAND_GO_ON, AcqRel, Relaxed);
        }
    }

    /// The reports since then, by lane. None: no kernel of the lane has reported.
    pub fn reports(&self) -> [Option<Report>; LANES] {
        self.lanes().each_ref().map(|lane| {
            // Only reports of the latest epoch count: a launch that has ended may have reported before it ended.
            let waits = lane.waits.each_ref().map(|epoch| epoch.load(Acquire));
            let epoch = waits.into_iter().filter(|epoch| *epoch != 0).reduce(later)?;
            let missing = (0..MAX_RANKS).filter(|rank| waits[*rank] == epoch).fold(0, |ranks, rank| ranks | 1 << rank);
            let [datatype, op, kernel, _] = lane.launch.load(Relaxed).to_le_bytes();
            Some(Report { epoch, missing, datatype, op, kernel, bytes: lane.bytes.load(Relaxed) })
        })
    }
}

/// The later of two epochs that are not far apart.
fn later(a: u32, b: u32) -> u32 {
    if b.wrapping_sub(a) < 1 << 31 { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    fn page(context: usize) -> Page {
        let word = |_| AtomicU32::new(0);
        let mailbox = |_| LaneMailbox {
            command: word(0),
            launch: word(0),
            bytes: AtomicU64::new(0),
            waits: std::array::from_fn(word),
            reserved: [0; 4],
        };
        let words = Box::leak(Box::new(std::array::from_fn(|_| std::array::from_fn(mailbox))));
        Page { context, context_id: context as u64, words, device: 0x1000, taken: 0 }
    }

    #[test]
    fn released_words_are_clear_when_they_are_taken_again() {
        let mut first = page(1);
        let all: Vec<Mailbox> = std::iter::from_fn(|| first.take()).collect();
        assert_eq!(all.len(), MAILBOXES_IN_A_PAGE);
        let addresses: std::collections::BTreeSet<u64> = all.iter().map(|words| words.device).collect();
        assert_eq!(addresses.len(), MAILBOXES_IN_A_PAGE, "each has its own");
        PAGES.hold().push(first);
        for (index, words) in all.into_iter().enumerate() {
            words.stop();
            words.words[0].waits[1].store(7, Ordering::Relaxed);
            if index % 2 == 1 {
                words.release();
            }
        }
        let mut pages = PAGES.hold();
        let first = pages.iter_mut().find(|page| page.context == 1).expect("it was pushed");
        let again: Vec<Mailbox> = std::iter::from_fn(|| first.take()).collect();
        assert_eq!(again.len(), MAILBOXES_IN_A_PAGE / 2);
        for words in again {
            assert_eq!(words.view().reports(), [None; LANES]);
            assert!(words.words.iter().all(|lane| lane.command.load(Ordering::Relaxed) == COMMAND_GO_ON));
        }
    }
}
