//! Finds NCCL's own open descriptor of its log file.

use std::fs::{self, File};
use std::mem;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A duplicate of the descriptor with which NCCL writes the file at `path`; both share one position. None: NCCL does
/// not have it open so, or it is no regular file, where each write goes to the end anyway. `known`: the number of
/// NCCL's descriptor when it was found last.
pub fn opened_log(path: &Path, known: &mut Option<RawFd>) -> Option<File> {
    let file = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let identity = (file.dev(), file.ino());
    let is_it = |descriptor: &RawFd| writes_at_its_own_position(*descriptor, identity);
    *known = known.filter(is_it).or_else(|| descriptors()?.find(is_it));
    // SAFETY: borrowed for this call alone, which fails for what was closed meanwhile.
    let theirs = unsafe { BorrowedFd::borrow_raw((*known)?) };
    let theirs = File::from(theirs.try_clone_to_owned().ok()?);
    // The number may belong to another file by now.
    theirs.metadata().is_ok_and(|now| (now.dev(), now.ino()) == identity).then_some(theirs)
}

/// The open descriptors, except the standard ones, which the application was started with.
fn descriptors() -> Option<impl Iterator<Item = RawFd>> {
    let entries = fs::read_dir("/proc/self/fd").ok()?;
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Some(numbers.filter(|descriptor: &RawFd| *descriptor > libc::STDERR_FILENO))
}

/// Whether a descriptor is open on the file with this device and inode for writes at its own position, as NCCL's is.
/// A descriptor in append mode is not NCCL's.
fn writes_at_its_own_position(descriptor: RawFd, (device, inode): (u64, u64)) -> bool {
    // SAFETY: plain numbers, none of which is invalid; the place is ours. Of a descriptor that is closed the calls
    // fail.
    let (there, flags) = unsafe {
        let mut there: libc::stat = mem::zeroed();
        if libc::fstat(descriptor, &mut there) != 0 {
            return false;
        }
        (there, libc::fcntl(descriptor, libc::F_GETFL))
    };
    let writes = flags >= 0 && flags & libc::O_ACCMODE != libc::O_RDONLY && flags & libc::O_APPEND == 0;
    writes && (there.st_dev, there.st_ino) == (device, inode)
}
