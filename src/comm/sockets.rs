//! Passing file descriptors between the processes of a communicator.
//!
//! Every rank listens on an abstract unix socket of random name and connects to every peer's. A message is one packet: who sends,
//! to whom, the receiver's token, which only those know who took part in the exchange of greetings, and one descriptor. Both
//! ends check that the other process belongs to the same user. Whatever is not such a message is dropped without effect.
//! All descriptors are close-on-exec; nothing is left in the file system.

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::{Duration, Instant};

use libc::{c_int, c_void};

const MAGIC: &[u8; 8] = b"DIMESCRA";
/// Bytes of a message: magic, sender, receiver, token.
pub const MESSAGE_BYTES: usize = 8 + 4 + 4 + 16;
/// How long one connection may keep us waiting for its message.
const PATIENCE: Duration = Duration::from_secs(2);
const BACKLOG: c_int = 64;

/// Bytes that nobody can guess.
pub fn random() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    // SAFETY: the buffer is ours and as long as said. Up to 256 bytes come whole.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got == bytes.len() as isize { Ok(bytes) } else { Err(io::Error::last_os_error()) }
}

/// The message from `sender` to `receiver`.
pub fn message(sender: u32, receiver: u32, token: &[u8; 16]) -> [u8; MESSAGE_BYTES] {
    let mut bytes = [0; MESSAGE_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&sender.to_le_bytes());
    bytes[12..16].copy_from_slice(&receiver.to_le_bytes());
    bytes[16..].copy_from_slice(token);
    bytes
}

/// Who sent a message to `receiver`. None: it is not one.
pub fn sender_of(bytes: &[u8], receiver: u32, token: &[u8; 16]) -> Option<u32> {
    let sender = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?);
    (bytes == message(sender, receiver, token)).then_some(sender)
}

fn last_error_if(failed: bool) -> io::Result<()> {
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn socket() -> io::Result<OwnedFd> {
    // SAFETY: plain system call; the new descriptor is ours.
    unsafe {
        let fd = libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0);
        last_error_if(fd < 0)?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// The abstract address of a socket name, and its length.
fn address(name: &[u8; 16]) -> (libc::sockaddr_un, libc::socklen_t) {
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
fn is_same_user(fd: RawFd) -> bool {
    let mut peer = MaybeUninit::<libc::ucred>::uninit();
    let mut bytes = mem::size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the buffer is as long as said; it is read only when the kernel filled it.
    unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, peer.as_mut_ptr().cast(), &mut bytes) == 0
            && bytes as usize == mem::size_of::<libc::ucred>()
            && peer.assume_init().uid == libc::geteuid()
    }
}

fn set_timeout(fd: RawFd, option: c_int, timeout: Duration) -> io::Result<()> {
    // Zero would mean for ever.
    let timeout = timeout.max(Duration::from_millis(1));
    let value = libc::timeval { tv_sec: timeout.as_secs() as _, tv_usec: timeout.subsec_micros() as _ };
    // SAFETY: the option takes a timeval.
    let failed = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            mem::size_of_val(&value) as libc::socklen_t,
        )
    } != 0;
    last_error_if(failed)
}

/// Room for the control data of one descriptor, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Sends a descriptor to the rank that listens at `name`.
pub fn send(name: &[u8; 16], message: &[u8; MESSAGE_BYTES], descriptor: &OwnedFd, timeout: Duration) -> io::Result<()> {
    let socket = socket()?;
    set_timeout(socket.as_raw_fd(), libc::SO_SNDTIMEO, timeout)?;
    let (address, bytes) = address(name);
    // SAFETY: the address is as long as said.
    let failed = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), bytes) } != 0;
    last_error_if(failed)?;
    if !is_same_user(socket.as_raw_fd()) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the peer's socket belongs to another user"));
    }
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: message.as_ptr() as *mut c_void, iov_len: message.len() };
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
    last_error_if(sent != message.len() as isize)
}

/// Where the peers' descriptors arrive.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
}

impl Listener {
    /// Listens under a name.
    pub fn bind(name: &[u8; 16]) -> io::Result<Self> {
        let socket = socket()?;
        let (address, bytes) = address(name);
        // SAFETY: the address is as long as said.
        unsafe {
            last_error_if(libc::bind(socket.as_raw_fd(), (&raw const address).cast(), bytes) != 0)?;
            last_error_if(libc::listen(socket.as_raw_fd(), BACKLOG) != 0)?;
        }
        Ok(Self { socket })
    }

    /// Takes one descriptor from each rank in `senders`, which comes back in that order. Strangers, other users and malformed
    /// messages are dropped; a rank that is not heard until the deadline fails the call.
    pub fn receive(
        &self,
        receiver: u32,
        token: &[u8; 16],
        senders: &[u32],
        deadline: Instant,
    ) -> io::Result<Vec<OwnedFd>> {
        let mut received: Vec<Option<OwnedFd>> = senders.iter().map(|_| None).collect();
        while received.iter().any(Option::is_none) {
            let connection = self.accept(deadline)?;
            if !is_same_user(connection.as_raw_fd()) {
                continue;
            }
            set_timeout(connection.as_raw_fd(), libc::SO_RCVTIMEO, PATIENCE)?;
            let Some((bytes, descriptor)) = receive_one(connection.as_raw_fd()) else { continue };
            let place = sender_of(&bytes, receiver, token)
                .and_then(|sender| senders.iter().position(|expected| *expected == sender));
            if let Some(place) = place
                && received[place].is_none()
            {
                received[place] = Some(descriptor);
            }
        }
        Ok(received.into_iter().flatten().collect())
    }

    fn accept(&self, deadline: Instant) -> io::Result<OwnedFd> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut poll = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            let wait_ms = left.as_millis().min(i32::MAX as u128) as c_int;
            // SAFETY: one pollfd.
            let ready = unsafe { libc::poll(&mut poll, 1, wait_ms) };
            if ready == 0 {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "a peer did not send its scratch in time"));
            }
            if ready < 0 {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                return Err(error);
            }
            // SAFETY: plain system call; the new descriptor is ours.
            unsafe {
                let fd = libc::accept4(self.socket.as_raw_fd(), ptr::null_mut(), ptr::null_mut(), libc::SOCK_CLOEXEC);
                if fd >= 0 {
                    return Ok(OwnedFd::from_raw_fd(fd));
                }
            }
            let error = io::Error::last_os_error();
            if !matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) {
                return Err(error);
            }
        }
    }
}

/// One packet with exactly one descriptor. Descriptors that come with anything else are closed.
fn receive_one(connection: RawFd) -> Option<(Vec<u8>, OwnedFd)> {
    // One byte more than a message has, to see that a packet is too long.
    let mut bytes = vec![0_u8; MESSAGE_BYTES + 1];
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut descriptors = Vec::new();
    // SAFETY: the header points to buffers that live through the call; control data is walked as the macros demand, and each
    // descriptor in it is new and ours.
    let (got, flags) = unsafe {
        let mut header: libc::msghdr = mem::zeroed();
        header.msg_iov = &mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control.0.len() as _;
        let got = libc::recvmsg(connection, &mut header, libc::MSG_CMSG_CLOEXEC);
        if got < 0 {
            return None;
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
    if flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 || descriptors.len() != 1 {
        return None;
    }
    Some((bytes, descriptors.pop()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::thread;

    fn pipe() -> (File, OwnedFd) {
        let mut ends = [0; 2];
        // SAFETY: the array holds two descriptors, which are ours afterwards.
        unsafe {
            assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
            (File::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
        }
    }

    #[test]
    fn descriptors_arrive_in_the_order_of_the_ranks_whatever_order_they_are_sent_in() {
        let (name, token) = (random().unwrap(), random().unwrap());
        let listener = Listener::bind(&name).unwrap();
        let (mut read_2, write_2) = pipe();
        let (_, write_0) = pipe();
        let second = Duration::from_secs(5);
        send(&name, &message(2, 1, &token), &write_2, second).unwrap();
        send(&name, &message(0, 1, &token), &write_0, second).unwrap();
        drop(write_2);
        let received = listener.receive(1, &token, &[0, 2], Instant::now() + second).unwrap();
        let mut from_2 = File::from(received.into_iter().nth(1).unwrap());
        from_2.write_all(b"x").unwrap();
        drop(from_2);
        let mut text = String::new();
        read_2.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
    }

    #[test]
    fn wrong_tokens_wrong_ranks_repeats_and_garbage_are_dropped() {
        let (name, token) = (random().unwrap(), random().unwrap());
        let listener = Listener::bind(&name).unwrap();
        let second = Duration::from_secs(5);
        let (_read, write) = pipe();
        send(&name, &message(0, 1, &[0; 16]), &write, second).unwrap();
        send(&name, &message(0, 3, &token), &write, second).unwrap();
        send(&name, &message(7, 1, &token), &write, second).unwrap();
        send(&name, &[0; MESSAGE_BYTES], &write, second).unwrap();
        let silent = socket().unwrap();
        let (address, bytes) = address(&name);
        // SAFETY: the address is as long as said.
        assert_eq!(unsafe { libc::connect(silent.as_raw_fd(), (&raw const address).cast(), bytes) }, 0);
        drop(silent);
        let timeout = listener.receive(1, &token, &[0], Instant::now() + Duration::from_millis(300));
        assert_eq!(timeout.unwrap_err().kind(), io::ErrorKind::TimedOut);
        send(&name, &message(0, 1, &token), &write, second).unwrap();
        send(&name, &message(0, 1, &token), &write, second).unwrap();
        let good =
            thread::spawn(move || listener.receive(1, &token, &[0], Instant::now() + second).map(|all| all.len()));
        assert_eq!(good.join().unwrap().unwrap(), 1);
    }

    #[test]
    fn what_is_received_is_close_on_exec() {
        let (name, token) = (random().unwrap(), random().unwrap());
        let listener = Listener::bind(&name).unwrap();
        let (_read, write) = pipe();
        let second = Duration::from_secs(5);
        send(&name, &message(0, 1, &token), &write, second).unwrap();
        let received = listener.receive(1, &token, &[0], Instant::now() + second).unwrap();
        // SAFETY: an open descriptor.
        let flags = unsafe { libc::fcntl(received[0].as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    }
}
