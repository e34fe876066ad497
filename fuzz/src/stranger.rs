//! What can be done to a socket from outside: connections, and packets with descriptors.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::LazyLock;

use dime::comm::setup::sockets::packet::{self, Name};

/// The most descriptors that the kernel lets one packet carry.
pub const MAX_DESCRIPTORS: usize = 253;

/// Files whose descriptors are sent, so that each can be told from the others.
pub static FILES: LazyLock<[OwnedFd; 4]> = LazyLock::new(|| {
    std::array::from_fn(|_| {
        // SAFETY: a plain system call; the new descriptor is ours.
        unsafe {
            let descriptor = libc::memfd_create(c"fuzz".as_ptr(), libc::MFD_CLOEXEC);
            assert!(descriptor >= 0, "{}", io::Error::last_os_error());
            OwnedFd::from_raw_fd(descriptor)
        }
    })
});

/// Two ends of a connection.
pub fn pair() -> [OwnedFd; 2] {
    let mut ends = [-1; 2];
    let flags = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: there is room for two descriptors; both are ours.
    unsafe {
        let made = libc::socketpair(libc::AF_UNIX, flags, 0, ends.as_mut_ptr());
        assert_eq!(made, 0, "{}", io::Error::last_os_error());
        ends.map(|end| OwnedFd::from_raw_fd(end))
    }
}

/// A connection to who listens at `name`.
pub fn connect(name: &Name) -> OwnedFd {
    let socket = packet::socket().expect("a socket");
    let (address, bytes) = packet::address(name);
    // SAFETY: the address is as long as said.
    let connected = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), bytes) };
    assert_eq!(connected, 0, "{}", io::Error::last_os_error());
    socket
}

/// Sends one packet with as many descriptors, all of one file. False: there is no room for more.
pub fn send(connection: &OwnedFd, bytes: &[u8], file: usize, descriptors: usize) -> bool {
    let descriptors = vec![FILES[file].as_raw_fd(); descriptors];
    let descriptor_bytes = mem::size_of_val(descriptors.as_slice()) as u32;
    let mut part = libc::iovec { iov_base: bytes.as_ptr() as *mut _, iov_len: bytes.len() };
    // SAFETY: only computes a length.
    let mut control = vec![0_u64; unsafe { libc::CMSG_SPACE(descriptor_bytes) } as usize / 8 + 1];
    // SAFETY: the header points to buffers that live through the call, and the control data has room for the descriptors.
    let sent = unsafe {
        let mut header: libc::msghdr = mem::zeroed();
        header.msg_iov = &mut part;
        header.msg_iovlen = 1;
        if !descriptors.is_empty() {
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = libc::CMSG_SPACE(descriptor_bytes) as _;
            let cmsg = libc::CMSG_FIRSTHDR(&header);
            (*cmsg).cmsg_level = libc::SOL_SOCKET;
            (*cmsg).cmsg_type = libc::SCM_RIGHTS;
            (*cmsg).cmsg_len = libc::CMSG_LEN(descriptor_bytes) as _;
            let data = libc::CMSG_DATA(cmsg).cast::<RawFd>();
            std::ptr::copy_nonoverlapping(descriptors.as_ptr(), data, descriptors.len());
        }
        libc::sendmsg(connection.as_raw_fd(), &header, libc::MSG_NOSIGNAL)
    };
    sent == bytes.len() as isize
}

/// Which of [`FILES`] a descriptor is of.
pub fn file_of(descriptor: &OwnedFd) -> Option<usize> {
    FILES.iter().position(|file| inode(file) == inode(descriptor))
}

fn inode(descriptor: &OwnedFd) -> u64 {
    // SAFETY: a C struct of integers that the call fills; the descriptor is open.
    unsafe {
        let mut stat: libc::stat = mem::zeroed();
        assert_eq!(libc::fstat(descriptor.as_raw_fd(), &mut stat), 0, "{}", io::Error::last_os_error());
        stat.st_ino
    }
}

/// Whether a descriptor is closed in a program that this one starts.
pub fn is_close_on_exec(descriptor: &OwnedFd) -> bool {
    // SAFETY: a plain system call on an open descriptor.
    unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_GETFD) & libc::FD_CLOEXEC != 0 }
}

/// How many descriptors are open among those that one input can have come to.
pub fn open_descriptors() -> usize {
    // SAFETY: asks about numbers, open or not.
    (0..400).filter(|number| unsafe { libc::fcntl(*number, libc::F_GETFD) } >= 0).count()
}
