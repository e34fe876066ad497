//! What a connection can bring: packets of any length with any number of descriptors. One of the right length with one descriptor is
//! taken as it was sent; all else is refused, and its descriptors are closed.

#![no_main]

use std::collections::VecDeque;

use dime::comm::setup::sockets::packet::{Received, receive};
use dime_fuzz::stranger::{self, FILES, MAX_DESCRIPTORS};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Opened before they are counted.
    let _ = &*FILES;
    let before = stranger::open_descriptors();
    let _ = run(&mut Unstructured::new(bytes));
    assert_eq!(stranger::open_descriptors(), before, "descriptors are left open");
});

struct Sent {
    bytes: Vec<u8>,
    file: usize,
    descriptors: usize,
}

fn run(input: &mut Unstructured) -> Result<()> {
    let [ours, theirs] = stranger::pair();
    let mut theirs = Some(theirs);
    let mut under_way: VecDeque<Sent> = VecDeque::new();
    while !input.is_empty() {
        match input.int_in_range(0..=7)? {
            0..=3 => {
                let length = input.int_in_range(0..=100)?.min(input.len());
                let sent = Sent {
                    bytes: input.bytes(length)?.to_vec(),
                    file: input.choose_index(FILES.len())?,
                    descriptors: match input.int_in_range(0..=9)? {
                        0..=4 => 1,
                        5 => input.int_in_range(0..=MAX_DESCRIPTORS)?,
                        _ => input.int_in_range(0..=16)?,
                    },
                };
                if theirs.as_ref().is_some_and(|end| stranger::send(end, &sent.bytes, sent.file, sent.descriptors)) {
                    under_way.push_back(sent);
                }
            }
            4 if input.ratio(1, 8)? => theirs = None,
            _ => take(&ours, input.int_in_range(0..=101)?, &mut under_way, theirs.is_none()),
        }
    }
    while !under_way.is_empty() {
        take(&ours, 60, &mut under_way, theirs.is_none());
    }
    Ok(())
}

fn take(ours: &std::os::fd::OwnedFd, limit: usize, under_way: &mut VecDeque<Sent>, is_closed: bool) {
    let received = receive(ours, limit);
    let Some(sent) = under_way.pop_front() else {
        assert!(matches!((received, is_closed), (Received::Nothing, false) | (Received::Garbage, true)));
        return;
    };
    match received {
        Received::Packet(bytes, descriptor) => {
            assert_eq!((bytes, sent.descriptors), (sent.bytes, 1));
            assert_eq!(stranger::file_of(&descriptor), Some(sent.file));
            assert!(stranger::is_close_on_exec(&descriptor));
        }
        Received::Garbage => assert!(sent.bytes.len() > limit || sent.descriptors != 1, "a good packet was refused"),
        Received::Nothing => panic!("a packet was not seen"),
    }
}
