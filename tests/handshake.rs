//! Passing descriptors between ranks while somebody else is at the sockets: strangers, other users, garbage, floods.
//!
//! The sockets are the library's own; the hostile end is made of system calls here.

use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use dime::comm::setup::sockets::{self, Listener, MESSAGE_BYTES, Party, Peer, message, random};

/// Long enough for what must happen, on a machine that is busy.
const AMPLE: Duration = Duration::from_secs(20);
/// For what must not happen.
const SHORT: Duration = Duration::from_millis(300);

/// Descriptors are counted, so one test runs at a time. Dropped last, it finds as many as there were.
struct NothingLeaks {
    _alone: MutexGuard<'static, ()>,
    before: usize,
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

impl NothingLeaks {
    fn begin() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Self { _alone: alone, before: open_descriptors() }
    }
}

impl Drop for NothingLeaks {
    fn drop(&mut self) {
        if !thread::panicking() {
            assert_eq!(open_descriptors(), self.before, "descriptors are left open");
        }
    }
}

/// A rank: its socket, its token and what it sends.
struct Rank {
    number: u32,
    name: [u8; 16],
    token: [u8; 16],
    listener: Listener,
    descriptor: OwnedFd,
}

fn memfd() -> OwnedFd {
    // SAFETY: plain system call; the new descriptor is ours.
    unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"handshake".as_ptr(), libc::MFD_CLOEXEC)) }
}

impl Rank {
    fn new(number: u32) -> Self {
        let (name, token) = (random().unwrap(), random().unwrap());
        Self { number, name, token, listener: Listener::bind(&name).unwrap(), descriptor: memfd() }
    }

    fn as_peer(&self) -> Peer<'_> {
        Peer { rank: self.number, socket: &self.name, token: &self.token }
    }

    fn party<'a>(&'a self, peers: &[&'a Rank]) -> Party<'a> {
        Party {
            rank: self.number,
            token: &self.token,
            listener: &self.listener,
            descriptor: &self.descriptor,
            peers: peers.iter().map(|peer| peer.as_peer()).collect(),
        }
    }

    /// Passes with `peers`; the outcome of the one party.
    fn pass(&self, peers: &[&Rank], limit: Duration) -> io::Result<Vec<(u32, OwnedFd)>> {
        pass(&[self.party(peers)], Instant::now() + limit).remove(0)
    }

    fn message_from(&self, sender: u32) -> [u8; MESSAGE_BYTES] {
        message(sender, self.number, &self.token)
    }
}

/// Passes as long as nobody aborts.
fn pass(parties: &[Party], deadline: Instant) -> Vec<io::Result<Vec<(u32, OwnedFd)>>> {
    sockets::pass(parties, deadline, |_| false)
}

fn inode(descriptor: &OwnedFd) -> u64 {
    File::from(descriptor.try_clone().unwrap()).metadata().unwrap().ino()
}

fn assert_is_of(received: &[(u32, OwnedFd)], senders: &[&Rank]) {
    let got: Vec<(u32, u64)> = received.iter().map(|(rank, descriptor)| (*rank, inode(descriptor))).collect();
    let expected: Vec<(u32, u64)> = senders.iter().map(|rank| (rank.number, inode(&rank.descriptor))).collect();
    assert_eq!(got, expected);
}

/// A connection to the socket of a name. None: its backlog is full.
fn connect(name: &[u8; 16]) -> Option<OwnedFd> {
    let mut address = libc::sockaddr_un { sun_family: libc::AF_UNIX as _, sun_path: [0; 108] };
    let path: String = "dime-".chars().chain(name.iter().flat_map(|byte| hex(*byte))).collect();
    for (to, from) in address.sun_path[1..].iter_mut().zip(path.bytes()) {
        *to = from as _;
    }
    let bytes = mem::size_of::<libc::sa_family_t>() + 1 + path.len();
    // SAFETY: plain system calls; the address is as long as said and the new descriptor is ours.
    unsafe {
        let flags = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let socket = libc::socket(libc::AF_UNIX, flags, 0);
        assert!(socket >= 0, "{}", io::Error::last_os_error());
        let socket = OwnedFd::from_raw_fd(socket);
        if libc::connect(socket.as_raw_fd(), (&raw const address).cast(), bytes as _) == 0 {
            return Some(socket);
        }
    }
    let error = io::Error::last_os_error();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
    None
}

fn hex(byte: u8) -> [char; 2] {
    [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap())
}

/// Sends a packet with these descriptors.
fn send(connection: &OwnedFd, bytes: &[u8], descriptors: &[RawFd]) {
    #[repr(C, align(8))]
    struct Control([u8; 256]);
    let mut control = Control([0; 256]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr() as *mut _, iov_len: bytes.len() };
    let descriptor_bytes = mem::size_of_val(descriptors) as u32;
    // SAFETY: the header points to buffers that live through the call and are as long as said.
    let sent = unsafe {
        let mut header: libc::msghdr = mem::zeroed();
        header.msg_iov = &mut part;
        header.msg_iovlen = 1;
        if !descriptors.is_empty() {
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = libc::CMSG_SPACE(descriptor_bytes) as _;
            let cmsg = libc::CMSG_FIRSTHDR(&header);
            (*cmsg).cmsg_level = libc::SOL_SOCKET;
            (*cmsg).cmsg_type = libc::SCM_RIGHTS;
            (*cmsg).cmsg_len = libc::CMSG_LEN(descriptor_bytes) as _;
            for (index, descriptor) in descriptors.iter().enumerate() {
                libc::CMSG_DATA(cmsg).cast::<RawFd>().add(index).write_unaligned(*descriptor);
            }
        }
        libc::sendmsg(connection.as_raw_fd(), &header, libc::MSG_NOSIGNAL)
    };
    assert_eq!(sent, bytes.len() as isize, "{}", io::Error::last_os_error());
}

/// What a stranger does once.
fn intrude(name: &[u8; 16], bytes: &[u8], descriptors: &[RawFd]) {
    send(&connect(name).expect("the backlog has room"), bytes, descriptors);
}

#[test]
fn ranks_of_several_threads_get_each_others_descriptors_in_the_order_of_their_peers() {
    let _nothing_leaks = NothingLeaks::begin();
    // Two processes with two ranks each, as far as the sockets know.
    let ranks = [0, 1, 2, 3].map(Rank::new);
    let [zero, one, two, three] = ranks.each_ref();
    let drive = |own: [&Rank; 2], peers: [&Rank; 2]| {
        let parties = own.map(|rank| rank.party(&peers));
        for received in pass(&parties, Instant::now() + AMPLE) {
            assert_is_of(&received.unwrap(), &peers);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| drive([zero, two], [three, one]));
        scope.spawn(|| drive([one, three], [zero, two]));
    });
}

#[test]
fn what_is_not_a_message_has_no_effect() {
    let _nothing_leaks = NothingLeaks::begin();
    let (rank, peer, other) = (Rank::new(1), Rank::new(0), memfd());
    let fd = other.as_raw_fd();
    let good = rank.message_from(0);
    let with = |at: usize, bits: u8| {
        let mut bytes = good;
        bytes[at] ^= bits;
        bytes
    };
    // Too short, too long, by little and by much.
    for bytes in 0..MESSAGE_BYTES {
        intrude(&rank.name, &good[..bytes], &[fd]);
    }
    for more in [1, 2, 100, 5000] {
        intrude(&rank.name, &[good.as_slice(), &vec![0; more]].concat(), &[fd]);
    }
    // One bit wrong anywhere: magic, sender, receiver, token.
    for at in 0..MESSAGE_BYTES {
        for bit in 0..8 {
            intrude(&rank.name, &with(at, 1 << bit), &[fd]);
        }
    }
    // From ranks that are not expected; from ourselves.
    for sender in [1, 2, 7, u32::MAX] {
        intrude(&rank.name, &rank.message_from(sender), &[fd]);
    }
    // No descriptor, two, many.
    intrude(&rank.name, &good, &[]);
    intrude(&rank.name, &good, &[fd; 2]);
    intrude(&rank.name, &good, &[fd; 50]);
    // A good message that comes second on its connection, and nothing at all.
    let late = connect(&rank.name).unwrap();
    send(&late, b"not yet", &[fd]);
    send(&late, &good, &[fd]);
    drop(connect(&rank.name));
    let timeout = rank.pass(&[&peer], SHORT).unwrap_err();
    assert_eq!(timeout.kind(), io::ErrorKind::TimedOut);
    assert!(timeout.to_string().contains("rank 0"), "{timeout}");

    intrude(&rank.name, &with(20, 1), &[fd]);
    intrude(&rank.name, &good, &[peer.descriptor.as_raw_fd()]);
    // The first message of a rank counts.
    intrude(&rank.name, &good, &[fd]);
    assert_is_of(&rank.pass(&[&peer], AMPLE).unwrap(), &[&peer]);
}

#[test]
fn what_is_received_is_close_on_exec() {
    let _nothing_leaks = NothingLeaks::begin();
    let (rank, peer) = (Rank::new(1), Rank::new(0));
    intrude(&rank.name, &rank.message_from(0), &[peer.descriptor.as_raw_fd()]);
    let received = rank.pass(&[&peer], AMPLE).unwrap();
    // SAFETY: an open descriptor.
    let flags = unsafe { libc::fcntl(received[0].1.as_raw_fd(), libc::F_GETFD) };
    assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
}

#[test]
fn silent_connections_cost_nothing() {
    let _nothing_leaks = NothingLeaks::begin();
    let (rank, peer) = (Rank::new(1), Rank::new(0));
    let silent: Vec<OwnedFd> = (0..300).filter_map(|_| connect(&rank.name)).collect();
    assert_eq!(silent.len(), 300);
    let began = Instant::now();
    intrude(&rank.name, &rank.message_from(0), &[peer.descriptor.as_raw_fd()]);
    assert_is_of(&rank.pass(&[&peer], AMPLE).unwrap(), &[&peer]);
    assert!(began.elapsed() < AMPLE / 10, "{:?}", began.elapsed());
}

#[test]
fn a_peer_that_takes_its_time_between_connecting_and_sending_is_heard() {
    let _nothing_leaks = NothingLeaks::begin();
    let (rank, peer) = (Rank::new(1), Rank::new(0));
    let slow = connect(&rank.name).unwrap();
    let _silent: Vec<OwnedFd> = (0..20).filter_map(|_| connect(&rank.name)).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(SHORT);
            send(&slow, &rank.message_from(0), &[peer.descriptor.as_raw_fd()]);
        });
        assert_is_of(&rank.pass(&[&peer], AMPLE).unwrap(), &[&peer]);
    });
}

/// Runs `work` while strangers connect and say nothing, as fast as they can.
fn among_strangers<T>(name: &[u8; 16], work: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut held = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                match connect(name) {
                    Some(stranger) => held.push(stranger),
                    None => thread::yield_now(),
                }
                if held.len() == 200 {
                    held.clear();
                }
            }
        });
        let outcome = work();
        is_over.store(true, Ordering::Relaxed);
        outcome
    })
}

#[test]
fn the_deadline_holds_while_strangers_keep_connecting() {
    let _nothing_leaks = NothingLeaks::begin();
    let (rank, peer) = (Rank::new(1), Rank::new(0));
    let (outcome, took) = among_strangers(&rank.name, || {
        let began = Instant::now();
        (rank.pass(&[&peer], SHORT), began.elapsed())
    });
    assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert!(took >= SHORT && took < SHORT + Duration::from_secs(2), "{took:?}");
}

#[test]
fn peers_find_each_other_while_strangers_keep_connecting() {
    let _nothing_leaks = NothingLeaks::begin();
    let (one, two) = (Rank::new(1), Rank::new(2));
    among_strangers(&one.name, || {
        thread::scope(|scope| {
            scope.spawn(|| assert_is_of(&one.pass(&[&two], AMPLE).unwrap(), &[&two]));
            assert_is_of(&two.pass(&[&one], AMPLE).unwrap(), &[&one]);
        });
    });
}

/// Connections until the backlog is full.
fn fill_backlog(name: &[u8; 16]) -> Vec<OwnedFd> {
    // SAFETY: a C struct of integers, filled by the call that gets it.
    unsafe {
        let mut limit: libc::rlimit = mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max.min(20_000);
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
    std::iter::from_fn(|| connect(name)).collect()
}

#[test]
fn ranks_whose_backlogs_are_full_still_pass() {
    let _nothing_leaks = NothingLeaks::begin();
    // Each could wait for the other to accept before it accepts.
    let (one, two) = (Rank::new(1), Rank::new(2));
    let _strangers = [fill_backlog(&one.name), fill_backlog(&two.name)];
    thread::scope(|scope| {
        scope.spawn(|| assert_is_of(&one.pass(&[&two], AMPLE).unwrap(), &[&two]));
        assert_is_of(&two.pass(&[&one], AMPLE).unwrap(), &[&one]);
    });
}

#[test]
fn a_peer_that_never_accepts_is_given_up_at_the_deadline() {
    let _nothing_leaks = NothingLeaks::begin();
    let (rank, peer) = (Rank::new(1), Rank::new(0));
    let _strangers = fill_backlog(&peer.name);
    let began = Instant::now();
    let error = rank.pass(&[&peer], SHORT).unwrap_err();
    assert_eq!((error.kind(), error.to_string().contains("rank 0")), (io::ErrorKind::TimedOut, true), "{error}");
    assert!(began.elapsed() < SHORT + Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn a_peer_that_is_gone_fails_the_rank_at_once_and_the_others_get_their_descriptor() {
    let _nothing_leaks = NothingLeaks::begin();
    let (rank, gone, other) = (Rank::new(1), Rank::new(0), Rank::new(2));
    let (name, token) = (gone.name, gone.token);
    drop(gone);
    let peers = vec![Peer { rank: 0, socket: &name, token: &token }, other.as_peer()];
    let began = Instant::now();
    let error = pass(&[Party { peers, ..rank.party(&[]) }], began + AMPLE).remove(0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
    assert!(began.elapsed() < AMPLE / 2, "{:?}", began.elapsed());
    let received = pass(&[Party { peers: vec![rank.as_peer()], ..other.party(&[]) }], Instant::now() + AMPLE).remove(0);
    assert_is_of(&received.unwrap(), &[&rank]);
}

#[test]
fn an_abort_ends_the_wait_of_its_party_alone() {
    let _nothing_leaks = NothingLeaks::begin();
    let (one, two, silent, late) = (Rank::new(1), Rank::new(2), Rank::new(3), Rank::new(4));
    let parties = [one.party(&[&silent]), two.party(&[&late])];
    let began = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(300));
            assert_is_of(&late.pass(&[&two], AMPLE).unwrap(), &[&two]);
        });
        let outcomes =
            sockets::pass(&parties, began + AMPLE, |party| party == 0 && began.elapsed() > Duration::from_millis(100));
        assert_eq!(outcomes[0].as_ref().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert_is_of(outcomes[1].as_ref().unwrap(), &[&late]);
        assert!(began.elapsed() < AMPLE / 2, "{:?}", began.elapsed());
    });
}

#[test]
fn a_party_that_fails_leaves_the_other_parties_of_its_thread_alone() {
    let _nothing_leaks = NothingLeaks::begin();
    let (one, two, far) = (Rank::new(1), Rank::new(2), Rank::new(3));
    let nowhere = random().unwrap();
    let lost = Party { peers: vec![Peer { rank: 3, socket: &nowhere, token: &nowhere }], ..one.party(&[]) };
    thread::scope(|scope| {
        scope.spawn(|| assert_is_of(&far.pass(&[&two], AMPLE).unwrap(), &[&two]));
        let outcomes = pass(&[lost, two.party(&[&far])], Instant::now() + AMPLE);
        assert_eq!(outcomes[0].as_ref().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_is_of(outcomes[1].as_ref().unwrap(), &[&far]);
    });
}

/// A process of another user that runs `work` and then waits to be killed.
struct OtherUser(libc::pid_t);

impl OtherUser {
    /// None: this process may not become another user.
    fn run(work: impl FnOnce()) -> Option<Self> {
        const NOBODY: libc::uid_t = 65534;
        let mut ready = [0; 2];
        // SAFETY: the child of this many-threaded process makes system calls and allocates, which glibc allows it, and never
        // returns. The pipe's ends are closed below.
        unsafe {
            if libc::geteuid() != 0 {
                eprintln!("not root: what another user does is not tested");
                return None;
            }
            assert_eq!(libc::pipe2(ready.as_mut_ptr(), libc::O_CLOEXEC), 0);
            let child = libc::fork();
            assert!(child >= 0, "{}", io::Error::last_os_error());
            if child == 0 {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) != 0 {
                    libc::_exit(1);
                }
                work();
                libc::write(ready[1], [1_u8].as_ptr().cast(), 1);
                loop {
                    libc::pause();
                }
            }
            libc::close(ready[1]);
            let mut byte = 0_u8;
            let told = libc::read(ready[0], (&raw mut byte).cast(), 1);
            libc::close(ready[0]);
            assert_eq!(told, 1, "the child did its work");
            Some(Self(child))
        }
    }
}

impl Drop for OtherUser {
    fn drop(&mut self) {
        // SAFETY: our own child.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, &mut 0, 0);
        }
    }
}

#[test]
fn another_user_is_not_heard_even_with_the_right_token() {
    let _nothing_leaks = NothingLeaks::begin();
    let (rank, peer) = (Rank::new(1), Rank::new(0));
    let good = rank.message_from(0);
    let theirs = memfd();
    let Some(_other) = OtherUser::run(|| intrude(&rank.name, &good, &[theirs.as_raw_fd()])) else { return };
    assert_eq!(rank.pass(&[&peer], SHORT).unwrap_err().kind(), io::ErrorKind::TimedOut);
    intrude(&rank.name, &good, &[peer.descriptor.as_raw_fd()]);
    assert_is_of(&rank.pass(&[&peer], AMPLE).unwrap(), &[&peer]);
}

#[test]
fn nothing_is_sent_to_a_socket_of_another_user() {
    let _nothing_leaks = NothingLeaks::begin();
    let (rank, name, token) = (Rank::new(1), random().unwrap(), random().unwrap());
    let Some(_other) = OtherUser::run(|| mem::forget(Listener::bind(&name).unwrap())) else { return };
    let peers = vec![Peer { rank: 0, socket: &name, token: &token }];
    let error = pass(&[Party { peers, ..rank.party(&[]) }], Instant::now() + AMPLE).remove(0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
}

#[test]
fn a_name_that_somebody_else_has_taken_cannot_be_bound() {
    let _nothing_leaks = NothingLeaks::begin();
    let rank = Rank::new(0);
    assert_eq!(Listener::bind(&rank.name).unwrap_err().kind(), io::ErrorKind::AddrInUse);
}
