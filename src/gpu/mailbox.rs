//! Host memory between a communicator and its kernels that spin: the order to stop, and what they wait for.
//!
//! The words lie in pages that are never unmapped, and that the driver only has registered: it waits for the whole GPU when it frees
//! memory of the host or ends a registration, and there another communicator may spin for what this thread does next. So a
//! communicator gives its words back to their page, and the next one of the context takes them. A page serves one context. When the
//! application has ended the context, the driver has forgotten the page, but the words can still be written; the context that takes
//! its place registers the page again once nobody has words in it.

use std::mem::size_of;
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::gpu::driver::{Driver, DriverResult};
use crate::gpu::{CUcontext, CUdeviceptr};
use crate::host::lock::Lock;
use crate::kernel::layout::{COMMAND_GO_ON, COMMAND_REPORT, COMMAND_STOP, LANES, LaneMailbox, MAX_RANKS};

const PAGE_BYTES: usize = 4096;

/// Those of one communicator.
type Words = [LaneMailbox; LANES];

/// Communicators that a page has words for.
const PLACES: usize = PAGE_BYTES / size_of::<Words>();
const _: () = assert!(PLACES * size_of::<Words>() == PAGE_BYTES && PLACES <= u32::BITS as usize);

/// A page of words. A child of fork has none of its parent's: they are the parent's kernels'.
struct Page {
    context: usize,
    /// Unlike that of every context before: the driver gives handles of contexts again.
    context_id: u64,
    words: &'static [Words; PLACES],
    device: CUdeviceptr,
    /// By bit: places whose words a communicator has.
    taken: u32,
}

static PAGES: Lock<Vec<Page>> = Lock::new(Vec::new());

/// The watch words of every lane, where kernels can reach them.
#[derive(Debug)]
pub struct Mailbox {
    words: &'static Words,
    /// Where kernels find those of lane 0; the others follow.
    pub device: CUdeviceptr,
}

/// The same words, for another thread, while the communicator has them.
#[derive(Clone, Copy, Debug)]
pub struct View(&'static Words);

/// What a launch waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The launch's.
    pub epoch: u32,
    /// The ranks it waits for, bit by bit.
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
    /// A page for `context`, which is current.
    fn new(driver: &Driver, context: CUcontext, context_id: u64) -> DriverResult<Self> {
        const OUT_OF_MEMORY: i32 = 2;
        // Shared, so that a fork does not give this process a copy while the GPU goes on with the page.
        let (protection, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a mapping of its own.
        let page = unsafe { libc::mmap(ptr::null_mut(), PAGE_BYTES, protection, kind, -1, 0) };
        if page == libc::MAP_FAILED {
            driver.check("mmap", OUT_OF_MEMORY)?;
        }
        // SAFETY: a page of zeros, which are valid words; it stays once the driver knows it. All access is atomic.
        let words = unsafe { &*page.cast::<[Words; PLACES]>() };
        Self { context: context as usize, context_id, words, device: 0, taken: 0 }.register(driver, context_id)
    }

    /// Has the current context, which is of this id, see the page, in which nobody has words. On failure the page is gone.
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

    /// Words that nobody has. Kernels go on.
    fn take(&mut self) -> Option<Mailbox> {
        let place = self.taken.trailing_ones() as usize;
        let words = self.words.get(place)?;
        self.taken |= 1 << place;
        words.iter().for_each(clear);
        Some(Mailbox { words, device: self.device + (place * size_of::<Words>()) as CUdeviceptr })
    }
}

/// As in a new page.
fn clear(words: &LaneMailbox) {
    words.command.store(COMMAND_GO_ON, Relaxed);
    words.shape.store(0, Relaxed);
    words.bytes.store(0, Relaxed);
    words.waits.iter().for_each(|epoch| epoch.store(0, Relaxed));
}

impl Mailbox {
    /// Words for a communicator in `context`, which is current.
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
        // Nothing is locked here: the driver may wait.
        let again = of_the_past.and_then(|page| page.register(driver, id).ok());
        let mut page = again.map_or_else(|| Page::new(driver, context, id), Ok)?;
        let words = page.take().expect("nobody has words in it");
        PAGES.hold().push(page);
        Ok(words)
    }

    /// Tells every kernel of the communicator to stop spinning, for good.
    pub fn stop(&self) {
        for lane in self.words {
            lane.command.store(COMMAND_STOP, Release);
        }
    }

    /// The same words for another thread, which must not use it after `give_back`.
    pub fn view(&self) -> View {
        View(self.words)
    }

    /// Gives the words back; no kernel reads or writes them any more. Asks nothing of the driver.
    pub fn give_back(self) {
        let address = ptr::from_ref(self.words);
        for page in PAGES.hold().iter_mut() {
            if let Some(place) = page.words.iter().position(|words| ptr::eq(words, address)) {
                page.taken &= !(1 << place);
            }
        }
    }
}

impl View {
    fn lanes(&self) -> &[LaneMailbox; LANES] {
        self.0
    }

    /// Asks all kernels that spin what they wait for. They answer when they look next.
    pub fn ask(&self) {
        for lane in self.lanes() {
            lane.waits.iter().for_each(|epoch| epoch.store(0, Relaxed));
            // Not where they were told to stop.
            let _ = lane.command.compare_exchange(COMMAND_GO_ON, COMMAND_REPORT, AcqRel, Relaxed);
        }
    }

    /// Asks no more.
    pub fn ask_no_more(&self) {
        for lane in self.lanes() {
            let _ = lane.command.compare_exchange(COMMAND_REPORT, COMMAND_GO_ON, AcqRel, Relaxed);
        }
    }

    /// What was answered since, by lane. None: no kernel of the lane spins.
    pub fn reports(&self) -> [Option<Report>; LANES] {
        self.lanes().each_ref().map(|lane| {
            // Those that wait for the latest epoch: a launch that is over may have answered before it ended.
            let waits = lane.waits.each_ref().map(|epoch| epoch.load(Acquire));
            let epoch = waits.into_iter().filter(|epoch| *epoch != 0).reduce(later)?;
            let missing = (0..MAX_RANKS).filter(|rank| waits[*rank] == epoch).fold(0, |ranks, rank| ranks | 1 << rank);
            let [datatype, op, kernel, _] = lane.shape.load(Relaxed).to_le_bytes();
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
            shape: word(0),
            bytes: AtomicU64::new(0),
            waits: std::array::from_fn(word),
            reserved: [0; 4],
        };
        let words = Box::leak(Box::new(std::array::from_fn(|_| std::array::from_fn(mailbox))));
        Page { context, context_id: context as u64, words, device: 0x1000, taken: 0 }
    }

    #[test]
    fn words_that_were_given_back_are_clear_when_they_are_taken_again() {
        let mut first = page(1);
        let all: Vec<Mailbox> = std::iter::from_fn(|| first.take()).collect();
        assert_eq!(all.len(), PLACES);
        let addresses: std::collections::BTreeSet<u64> = all.iter().map(|words| words.device).collect();
        assert_eq!(addresses.len(), PLACES, "each has its own");
        PAGES.hold().push(first);
        for (index, words) in all.into_iter().enumerate() {
            words.stop();
            words.words[0].waits[1].store(7, Ordering::Relaxed);
            if index % 2 == 1 {
                words.give_back();
            }
        }
        let mut pages = PAGES.hold();
        let first = pages.iter_mut().find(|page| page.context == 1).expect("it was pushed");
        let again: Vec<Mailbox> = std::iter::from_fn(|| first.take()).collect();
        assert_eq!(again.len(), PLACES / 2);
        for words in again {
            assert_eq!(words.view().reports(), [None; LANES]);
            assert!(words.words.iter().all(|lane| lane.command.load(Ordering::Relaxed) == COMMAND_GO_ON));
        }
    }
}
