//! Room on file systems.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes of the file system that a path lies on, and how many of them are free for this user.
pub fn room(path: &Path) -> io::Result<(u64, u64)> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a C struct of integers for which zero is valid.
    let mut room: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a C string, and an out pointer that is ours.
    if unsafe { libc::statvfs(path.as_ptr(), &mut room) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((room.f_blocks.saturating_mul(room.f_frsize), room.f_bavail.saturating_mul(room.f_frsize)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_has_no_more_free_than_it_has() {
        let (all, free) = room(Path::new("/")).unwrap();
        assert!(all > 0 && free <= all);
        assert!(room(Path::new("/nonexistent")).is_err());
    }
}
