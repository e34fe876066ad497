//! Sends and receives one packet with one descriptor over a unix socket. The other end belongs to the same user.
//! Nothing here blocks.

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use libc::{c_int, c_void};

/// Names of sockets.
pub type Name = [u8; 16];

/// The last error of a system call, if `failed`.
pub fn last_error_if(failed: bool) -> io::Result<()> {
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A new socket.
pub fn socket() -> io::Result<OwnedFd> {
    // SAFETY: plain system call; the new descriptor is ours.
    unsafe {
        let fd = libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0);
        last_error_if(fd < 0)?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// The abstract address of a socket name, and its length.
pub fn address(name: &Name) -> (libc::sockaddr_un, libc::socklen_t) {
    // SAFETY: a C struct for which zero is valid.
    let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let text = name.iter().flat_map(|byte| format!("{byte:02x}").into_bytes());
    let bytes: Vec<u8> = b"\0dime-".iter().copied().chain(text).collect();
    for (to, from) in address.sun_path.iter_mut().zip(&bytes) {
        *to = *from as libc::c_char;
    }
    (address, (mem::size_of::<libc::sa_family_t>() + bytes.len()) as libc::socklen_t)
}

/// Whether the process at the other end has our effective user.
pub fn is_same_user(socket: &OwnedFd) -> bool {
    let mut peer = MaybeUninit::<libc::ucred>::uninit();
    let mut bytes = mem::size_of::<libc::ucred>() as libc::socklen_t;
    let fd = socket.as_raw_fd();
    // SAFETY: the buffer is as long as said; it is read only when the kernel filled it.
    unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, peer.as_mut_ptr().cast(), &mut bytes) == 0
            && bytes as usize == mem::size_of::<libc::ucred>()
            && peer.assume_init().uid == libc::geteuid()
    }
}

/// Accepts one connection, from any process. None: there is none.
pub fn accept(listener: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    const FLAGS: c_int = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    loop {
        // SAFETY: plain system call; the new descriptor is ours.
        unsafe {
            let fd = libc::accept4(listener.as_raw_fd(), ptr::null_mut(), ptr::null_mut(), FLAGS);
            if fd >= 0 {
                return Ok(Some(OwnedFd::from_raw_fd(fd)));
            }
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock => return Ok(None),
            io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
            _ => return Err(error),
        }
    }
}

/// Room for the control data of one descriptor and of a few unexpected ones, aligned as the kernel demands.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Connects to the listener of this name. None: its backlog is full; try again.
fn connect(name: &Name) -> io::Result<Option<OwnedFd>> {
    let socket = socket()?;
    let (address, bytes) = address(name);
    // SAFETY: the address is as long as said.
    let failed = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), bytes) } != 0;
    match last_error_if(failed) {
        Err(error) if is_temporary(&error) => return Ok(None),
        outcome => outcome?,
    }
    if !is_same_user(&socket) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the peer's socket belongs to another user"));
    }
    Ok(Some(socket))
}

/// Whether the error is temporary.
fn is_temporary(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR | libc::ENOMEM | libc::ENOBUFS))
}

/// Checks that the listener of this name can be reached. It drops this connection, which sends nothing.
pub fn reach(name: &Name) -> io::Result<()> {
    connect(name).map(|_| ())
}

/// Sends a packet and a descriptor to the listener of this name. False: its backlog is full; try again.
pub fn send(name: &Name, packet: &[u8], descriptor: &OwnedFd) -> io::Result<bool> {
    let Some(socket) = connect(name)? else { return Ok(false) };
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: packet.as_ptr() as *mut c_void, iov_len: packet.len() };
    // SAFETY: the header points to buffers that live through the call; the control data is one descriptor.
    let sent = unsafe {
        let mut header: libc::msghdr = mem::zeroed();
        header.msg_iov = &mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = libc::CMSG_SPACE(mem::size_of::<RawFd>() as u32) as _;
        let cmsg = libc::CMSG_FIRSTHDR(&header);
        (*cmsg).cmsg_level = libc::SOL_SOCKET;
        (*cmsg).cmsg_type = libc::SCM_RIGHTS;
        (*cmsg).cmsg_len = libc::CMSG_LEN(mem::size_of::<RawFd>() as u32) as _;
        libc::CMSG_DATA(cmsg).cast::<RawFd>().write_unaligned(descriptor.as_raw_fd());
        libc::sendmsg(socket.as_raw_fd(), &header, libc::MSG_NOSIGNAL)
    };
    // A new connection has room for a packet: it is sent whole, or there is an error.
    match last_error_if(sent != packet.len() as isize) {
        Err(error) if is_temporary(&error) => Ok(false),
        outcome => outcome.map(|()| true),
    }
}

/// What a connection has sent.
pub enum Received {
    /// A packet and its descriptor.
    Packet(Vec<u8>, OwnedFd),
    /// Nothing yet.
    Nothing,
    /// Anything else, or it was closed.
    Garbage,
}

/// Receives one packet of at most `limit` bytes with exactly one descriptor. Descriptors that come with anything else
/// are closed.
pub fn receive(connection: &OwnedFd, limit: usize) -> Received {
    let mut bytes = vec![0_u8; limit];
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut descriptors = Vec::new();
    // SAFETY: the header points to buffers that live through the call; control data is walked as the macros demand, and
    // each descriptor in it is new and ours.
    let (got, flags) = unsafe {
        let mut header: libc::msghdr = mem::zeroed();
        header.msg_iov = &mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control.0.len() as _;
        let got = libc::recvmsg(connection.as_raw_fd(), &mut header, libc::MSG_CMSG_CLOEXEC);
        if got < 0 {
            return match io::Error::last_os_error().kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Received::Nothing,
                _ => Received::Garbage,
            };
        }
        let mut cmsg = libc::CMSG_FIRSTHDR(&header);
        while !cmsg.is_null() {
            if (*cmsg).cmsg_level == libc::SOL_SOCKET && (*cmsg).cmsg_type == libc::SCM_RIGHTS {
                let data = libc::CMSG_DATA(cmsg);
                let count = ((*cmsg).cmsg_len as usize - libc::CMSG_LEN(0) as usize) / mem::size_of::<RawFd>();
                for index in 0..count {
                    let fd = data.cast::<RawFd>().add(index).read_unaligned();
                    descriptors.push(OwnedFd::from_raw_fd(fd));
                }
            }
            cmsg = libc::CMSG_NXTHDR(&header, cmsg);
        }
        (got as usize, header.msg_flags)
    };
    bytes.truncate(got);
    match descriptors.pop() {
        Some(one) if descriptors.is_empty() && flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) == 0 => {
            Received::Packet(bytes, one)
        }
        _ => Received::Garbage,
    }
}
