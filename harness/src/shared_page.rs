//! A page of memory that processes share by passing its descriptor.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// The smallest page of any machine that Dime runs on.
const BYTES: usize = 4096;
/// Words that a page has for its users.
pub const WORDS: usize = BYTES / size_of::<u64>();

/// A mapped page. All its bytes are 0 at first.
pub struct SharedPage {
    words: NonNull<AtomicU64>,
}

impl SharedPage {
    /// Makes a page; the descriptor is what another process maps.
    pub fn create() -> io::Result<(Self, OwnedFd)> {
        // SAFETY: a C string; the new descriptor is ours.
        let descriptor = unsafe {
            let descriptor = libc::memfd_create(c"dime-page".as_ptr(), libc::MFD_CLOEXEC);
            if descriptor < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(descriptor)
        };
        std::fs::File::from(descriptor.try_clone()?).set_len(BYTES as u64)?;
        Ok((Self::map(&descriptor)?, descriptor))
    }

    /// Maps the page behind a descriptor.
    pub fn map(descriptor: &OwnedFd) -> io::Result<Self> {
        // An access behind the end of a file would end the process.
        let bytes = std::fs::File::from(descriptor.try_clone()?).metadata()?.len();
        if bytes < BYTES as u64 {
            return Err(io::Error::other(format!("the descriptor has {bytes} bytes and not {BYTES}")));
        }
        const ACCESS: i32 = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place that the kernel chooses.
        let address =
            unsafe { libc::mmap(std::ptr::null_mut(), BYTES, ACCESS, libc::MAP_SHARED, descriptor.as_raw_fd(), 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let words = NonNull::new(address.cast()).ok_or_else(|| io::Error::other("mmap returned null"))?;
        Ok(Self { words })
    }

    /// One of its words.
    pub fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < WORDS, "a page has {WORDS} words");
        // SAFETY: the page is mapped as long as this lives, aligned, and the index is within it; any bytes are a valid atomic.
        unsafe { self.words.add(index).as_ref() }
    }

    /// Waits until a word has a value. False: it did not in time.
    pub fn await_word(&self, index: usize, value: u64, deadline: std::time::Instant) -> bool {
        while self.word(index).load(Ordering::Acquire) != value {
            if std::time::Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        true
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`; no reference outlives this.
        unsafe { libc::munmap(self.words.as_ptr().cast::<c_void>(), BYTES) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn two_mappings_of_a_descriptor_are_one_memory() {
        let (one, descriptor) = SharedPage::create().unwrap();
        let other = SharedPage::map(&descriptor).unwrap();
        one.word(WORDS - 1).store(7, Ordering::Release);
        assert!(other.await_word(WORDS - 1, 7, Instant::now()));
        assert!(!other.await_word(0, 7, Instant::now() + Duration::from_millis(1)));
    }

    #[test]
    fn a_descriptor_without_a_page_behind_it_is_refused() {
        let empty = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        assert!(SharedPage::map(&empty).is_err());
    }
}
