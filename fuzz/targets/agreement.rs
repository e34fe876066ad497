//! A whole setup, its messages changed on the way: a rank is fast if and only if all that it heard was right. What is right is
//! written down here a second time, over bytes. Ranks that heard the same conclude the same.

#![no_main]

use dime::comm::setup::agreement::{Agreement, STEPS, Step, Verdict};
use dime::comm::setup::hello::{HELLO_BYTES, Hello};
use dime::kernel::layout::MAX_RANKS;
use dime::route::REASONS;
use dime_fuzz::ranks;
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // An input that is too short for all that it begins is a setup as far as it goes.
    let _ = run(&mut Unstructured::new(bytes));
});

/// What a rank said and heard in one round.
struct Heard {
    said: [u8; HELLO_BYTES],
    gathered: Vec<u8>,
}

fn run(input: &mut Unstructured) -> Result<()> {
    let count = input.int_in_range(2..=MAX_RANKS)?;
    let mut agreements = Vec::new();
    for rank in 0..count {
        let mut hello = ranks::hello(rank as u32, count as u32);
        if input.ratio(1, 8)? {
            make_unlike_the_others(&mut hello, input)?;
        }
        agreements.push(Agreement::new(hello));
    }
    let mut history: Vec<Vec<Heard>> = agreements.iter().map(|_| Vec::new()).collect();
    for round in STEPS.iter().filter_map(|stage| if let Step::Round(round) = stage { Some(*round) } else { None }) {
        for agreement in &mut agreements {
            match input.int_in_range(0..=15)? {
                0 => agreement.object(*input.choose(REASONS)?),
                1 => agreement.set_ipc_handle(input.arbitrary()?),
                _ => {}
            }
            agreement.begin_round(round);
        }
        let said: Vec<[u8; HELLO_BYTES]> = agreements.iter().map(|agreement| agreement.message().encode()).collect();
        let before = history[0].last().map_or(&[][..], |heard| &heard.gathered).to_vec();
        let mut gathered = said.concat();
        for _ in 0..input.int_in_range(0..=3)? {
            change(&mut gathered, &before, input)?;
        }
        for (rank, agreement) in agreements.iter_mut().enumerate() {
            let mut gathered = gathered.clone();
            if input.ratio(1, 16)? {
                change(&mut gathered, &before, input)?;
            }
            agreement.hear(&gathered);
            history[rank].push(Heard { said: said[rank], gathered });
        }
        check(&agreements, &history);
        if !agreements.iter().all(Agreement::takes_part) {
            break;
        }
    }
    Ok(())
}

fn make_unlike_the_others(hello: &mut Hello, input: &mut Unstructured) -> Result<()> {
    match input.int_in_range(0..=7)? {
        0 => hello.build = input.arbitrary()?,
        1 => hello.settings = input.arbitrary()?,
        2 => hello.boot_id = input.arbitrary()?,
        3 => hello.process = input.arbitrary()?,
        4 => hello.device_uuid = ranks::hello(input.int_in_range(0..=7)?, 8).device_uuid,
        5 => hello.arch = input.arbitrary()?,
        6 => hello.shares_descriptors = input.arbitrary()?,
        _ => hello.refusal = Some(*input.choose(REASONS)?),
    }
    Ok(())
}

/// Does something to what a round brought.
fn change(gathered: &mut Vec<u8>, before: &[u8], input: &mut Unstructured) -> Result<()> {
    let messages = gathered.len() / HELLO_BYTES;
    if messages == 0 {
        return Ok(());
    }
    let any = |input: &mut Unstructured| input.int_in_range(0..=messages - 1).map(|message| message * HELLO_BYTES);
    let at = any(input)?;
    match input.int_in_range(0..=7)? {
        0..=2 => gathered[at + input.int_in_range(0..=HELLO_BYTES - 1)?] ^= input.arbitrary::<u8>()?,
        3 => gathered[at..at + HELLO_BYTES].fill(0),
        4 => {
            let from = any(input)?;
            gathered.copy_within(from..from + HELLO_BYTES, at);
        }
        5 => {
            // What the round before brought.
            if let Some(old) = before.get(at..at + HELLO_BYTES) {
                gathered[at..at + HELLO_BYTES].copy_from_slice(old);
            }
        }
        6 => gathered.truncate(input.int_in_range(0..=gathered.len())?),
        _ => gathered.extend(input.bytes(input.len().min(HELLO_BYTES))?),
    }
    Ok(())
}

fn check(agreements: &[Agreement], history: &[Vec<Heard>]) {
    let rounds = STEPS.iter().filter(|stage| matches!(stage, Step::Round(_))).count();
    for (rank, agreement) in agreements.iter().enumerate() {
        let is_right = history[rank].iter().enumerate().all(|(index, heard)| {
            is_round_right(index as u32 + 1, rank, agreements.len(), heard, &history[rank][0].gathered)
        });
        match (is_right, agreement.verdict()) {
            (true, None) => assert!(history[rank].len() < rounds, "rank {rank} has not noticed that the setup is over"),
            (true, verdict) => {
                assert_eq!(verdict, Some(Verdict::Fast));
                assert_eq!(history[rank].len(), rounds, "fast before the last round");
            }
            (false, verdict) => {
                assert!(matches!(verdict, Some(Verdict::Forward(_) | Verdict::Failed)), "rank {rank}: {verdict:?}");
            }
        }
    }
    for pair in agreements.iter().zip(history).collect::<Vec<_>>().windows(2) {
        let [(one, heard_by_one), (two, heard_by_two)] = pair else { continue };
        let same = heard_by_one.iter().zip(*heard_by_two).all(|(one, two)| one.gathered == two.gathered);
        let failed = [one, two].iter().any(|agreement| agreement.verdict() == Some(Verdict::Failed));
        if same && !failed {
            assert_eq!(one.verdict(), two.verdict());
        }
    }
}

/// Whether a rank may go on after what it heard in a round.
fn is_round_right(round: u32, rank: usize, ranks: usize, heard: &Heard, first: &[u8]) -> bool {
    if heard.gathered.len() != ranks * HELLO_BYTES || heard.gathered[rank * HELLO_BYTES..][..HELLO_BYTES] != heard.said
    {
        return false;
    }
    let messages: Vec<&[u8]> = heard.gathered.chunks(HELLO_BYTES).collect();
    let number = |message: &[u8], at: usize| u32::from_le_bytes(message[at..at + 4].try_into().expect("4 bytes"));
    let equal = |from: usize, to: usize| messages.iter().all(|message| message[from..to] == messages[0][from..to]);
    messages.iter().enumerate().all(|(rank, message)| {
        message.starts_with(b"DIMEHELO\x02\0\0\0")
            && number(message, 12) == round
            && number(message, 16) == rank as u32
            && number(message, 20) == ranks as u32
            && message[92] <= 1
            // No reason to forward, and nothing behind the end.
            && message[93] == 0
            && message[202..].iter().all(|byte| *byte == 0)
            // Whoever it was in the first round.
            && message[24..128] == first[rank * HELLO_BYTES..][24..128]
            // The limit of its blocks and its rows of a tuning file, in which ranks may differ.
            && message[192..202] == first[rank * HELLO_BYTES..][192..202]
    }) && (round > 1
        // Build, settings and host; the architecture; no GPU twice.
        || equal(24, 56)
            && equal(88, 92)
            && number(messages[0], 88) >= 80
            && (0..ranks).all(|one| (0..one).all(|other| messages[one][72..88] != messages[other][72..88])))
}
