//! A rank that waits for its peers' descriptors while strangers are at its socket: it takes the first good message of each peer
//! that it waits for, and nothing else has an effect.

#![no_main]

use std::os::fd::OwnedFd;
use std::time::Instant;

use dime::comm::setup::sockets::{Listener, Party, Peer, message, pass};
use dime_fuzz::stranger::{self, FILES};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

/// The rank that waits.
const RANK: u32 = 1;
/// Those it waits for.
const PEERS: [u32; 3] = [0, 2, 5];
const TOKEN: [u8; 16] = *b"a token of ranks";
/// No more than are accepted in one turn.
const MAX_CONNECTIONS: usize = 20;

fuzz_target!(|bytes: &[u8]| {
    // Opened before they are counted.
    let _ = &*FILES;
    let before = stranger::open_descriptors();
    run(&mut Unstructured::new(bytes));
    assert_eq!(stranger::open_descriptors(), before, "descriptors are left open");
});

/// Names of sockets of this process alone.
fn name(kind: u8) -> [u8; 16] {
    let mut name = [kind; 16];
    name[..4].copy_from_slice(&std::process::id().to_le_bytes());
    name
}

fn run(input: &mut Unstructured) {
    let (own_name, peers_name) = (name(1), name(2));
    let (listener, _peers) =
        (Listener::bind(&own_name).expect("a socket"), Listener::bind(&peers_name).expect("a socket"));
    let mut connections = Vec::new();
    let mut expected = [None; PEERS.len()];
    for _ in 0..MAX_CONNECTIONS {
        if input.is_empty() {
            break;
        }
        let connection = stranger::connect(&own_name);
        let said = speak(&connection, input, &mut expected);
        // Some stay open, some are closed at once.
        if said.is_ok_and(|stays| stays) {
            connections.push(connection);
        }
    }

    let peers = PEERS.map(|rank| Peer { rank, socket: &peers_name, token: &TOKEN }).to_vec();
    let party = Party { rank: RANK, token: &TOKEN, listener: &listener, descriptor: &FILES[0], peers };
    // The deadline is past: one turn.
    let outcome = pass(&[party], Instant::now(), |_| false).remove(0);
    match outcome {
        Ok(received) => {
            let received: Vec<(u32, Option<usize>)> =
                received.iter().map(|(rank, descriptor)| (*rank, stranger::file_of(descriptor))).collect();
            assert_eq!(received, PEERS.into_iter().zip(expected).collect::<Vec<_>>());
        }
        Err(error) => {
            let missing = PEERS.iter().zip(expected).find(|(_, file)| file.is_none());
            let (rank, _) = missing.expect("every peer has sent what is right");
            assert!(error.to_string().contains(&format!("rank {rank} did not send")), "{error}");
        }
    }
}

/// Sends a few packets. The first counts when it is a peer's message.
fn speak(connection: &OwnedFd, input: &mut Unstructured, expected: &mut [Option<usize>; PEERS.len()]) -> Result<bool> {
    for packet in 0..input.int_in_range(0..=2)? {
        let peer = input.choose_index(PEERS.len())?;
        let mut bytes = message(PEERS[peer], RANK, &TOKEN).to_vec();
        let good = bytes.clone();
        for _ in 0..input.int_in_range(0..=3)? {
            change(&mut bytes, input)?;
        }
        let file = input.choose_index(FILES.len())?;
        let descriptors = if input.ratio(3, 4)? { 1 } else { input.int_in_range(0..=14)? };
        // Another peer's message may come of the changes.
        let sender = PEERS.iter().position(|rank| bytes == message(*rank, RANK, &TOKEN));
        assert!(bytes != good || sender == Some(peer));
        let is_sent = stranger::send(connection, &bytes, file, descriptors);
        if let (true, 0, 1, Some(sender)) = (is_sent, packet, descriptors, sender) {
            expected[sender].get_or_insert(file);
        }
    }
    input.arbitrary()
}

fn change(bytes: &mut Vec<u8>, input: &mut Unstructured) -> Result<()> {
    match input.int_in_range(0..=3)? {
        0 => bytes.truncate(input.int_in_range(0..=bytes.len())?),
        1 => {
            let more = input.int_in_range(0..=40)?.min(input.len());
            bytes.extend(input.bytes(more)?);
        }
        _ if bytes.is_empty() => {}
        _ => {
            let at = input.choose_index(bytes.len())?;
            bytes[at] ^= input.arbitrary::<u8>()?;
        }
    }
    Ok(())
}
