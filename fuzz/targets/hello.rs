//! One message of a setup: whatever bytes come, they are refused, or encode to the same bytes again.

#![no_main]

use dime::comm::setup::hello::{HELLO_BYTES, Hello};
use dime::route::{REASONS, Reason};
use dime_fuzz::ranks;
use libfuzzer_sys::fuzz_target;

/// Where a message has its reason to forward.
const REASON_AT: usize = 93;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    if kind & 1 == 1 {
        check(bytes);
    } else {
        // A good message with these bits turned: the fuzzer need not find the magic number first.
        let mut message = ranks::hello(1, 4).encode();
        message.iter_mut().zip(bytes).for_each(|(byte, bits)| *byte ^= bits);
        check(&message);
    }
});

fn check(bytes: &[u8]) {
    let Some(hello) = Hello::decode(bytes) else { return };
    let mut expected: [u8; HELLO_BYTES] = bytes.try_into().expect("a message has its length");
    if usize::from(expected[REASON_AT]) > REASONS.len() {
        // Reasons of other builds become one of ours, but stay reasons.
        assert_eq!(hello.refusal, Some(Reason::Builds));
        expected[REASON_AT] = Reason::Builds as u8 + 1;
    }
    assert_eq!(hello.encode(), expected);
}
