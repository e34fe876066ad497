//! A tuning file: refused with lines that exist, or read; then it is written and read back the same, and no row of it
//! leads to a launch that cannot run.

#![no_main]

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use dime::kernel::layout::{DATA_BYTES, LL_BYTES, MAX_BLOCKS, MAX_STAGES};
use dime::kernel::{KERNELS, Packet};
use dime::nccl::{DataType, RedOp};
use dime::route::tuning::{COLUMNS, FORMAT, Tuned, Tuning, VERSION};
use dime::route::{Agreed, Reason, Shape, route};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

/// Values that some column takes, and some that look like it.
const VALUES: &[&str] = &[
    "*",
    "-1",
    "0",
    "1",
    "2",
    "3",
    "8",
    "9",
    "16",
    "32",
    "64",
    "90",
    "100",
    "256",
    "512",
    "1024",
    "4K",
    "32M",
    "99G",
    "+8",
    " 4 ",
    "float_sum",
    "other_float",
    "integer",
    "one_shot",
    "two_shot",
    "ll",
    "sentinel",
    "bulk",
    "allreduce",
    "18446744073709551615",
    "",
    "#",
];
/// The most bytes of a fast message.
const LIMIT_BYTES: usize = 32 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    if kind & 1 == 1 {
        check(&String::from_utf8_lossy(bytes), &mut Unstructured::new(bytes));
    } else {
        let mut input = Unstructured::new(bytes);
        let Ok(text) = text(&mut input) else { return };
        check(&text, &mut input);
    }
});

/// A file that is nearly right.
fn text(input: &mut Unstructured) -> Result<String> {
    let mut text = format!("{FORMAT} {VERSION}\n");
    for _ in 0..input.int_in_range(0..=5)? {
        let mut row = vec!["*".to_owned(); COLUMNS.len()];
        row[0] = "allreduce".to_owned();
        if input.arbitrary()? {
            let kernel = input.choose(&KERNELS)?.name();
            let (algorithm, protocol) = kernel.rsplit_once('_').expect("two parts");
            (row[3], row[4]) = (algorithm.to_owned(), protocol.to_owned());
        }
        for _ in 0..input.int_in_range(0..=6)? {
            let at = input.int_in_range(0..=COLUMNS.len() - 1)?;
            row[at] = (*input.choose(VALUES)?).to_owned();
        }
        text += &format!("{}\n", row.join(","));
    }
    Ok(text)
}

fn check(text: &str, input: &mut Unstructured) {
    let tuning = match Tuning::parse(text) {
        Ok(tuning) => tuning,
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in problems {
                assert!((1..=text.lines().count().max(1)).contains(&problem.line), "{problem}");
                assert!(!problem.to_string().chars().any(char::is_control), "{problem}");
            }
            return;
        }
    };
    let again = Tuning::parse(&tuning.text([])).expect("what is written is right");
    assert_eq!((again.digest(), again.rows.len()), (tuning.digest(), tuning.rows.len()));
    // A few messages of each file.
    for _ in 0..8 {
        let _ = check_route(&tuning, input);
    }
}

fn check_route(tuning: &Tuning, input: &mut Unstructured) -> Result<()> {
    let ranks = input.int_in_range(2..=8)?;
    let arch = *input.choose(&[90, 100])?;
    let Some(tuned) = tuning.tuned(arch, ranks) else { return Ok(()) };
    let multiprocessors = *input.choose(&[1, 7, 33, 132])?;
    let agreed = Agreed {
        batch_invariant: input.ratio(1, 4)?,
        tuned: Some(keep(tuned)),
        ..Agreed::without_settings(ranks, arch, multiprocessors)
    };
    let (datatype, op) = (*input.choose(&DataType::ALL)?, *input.choose(&RedOp::ALL)?);
    let shift = input.int_in_range(0..=26)?;
    let Ok(shape) = Shape::parse((1 << shift) + input.int_in_range(0..=1)?, datatype as i32, op as i32) else {
        return Ok(());
    };
    let plan = match route(&agreed, &shape) {
        Ok(plan) => plan,
        Err(reason) => {
            assert_eq!(reason, Reason::TooLarge);
            return Ok(());
        }
    };
    assert!(shape.bytes <= LIMIT_BYTES || agreed.batch_invariant && datatype.is_float());
    assert!(datatype.is_float() || plan.kernel.entry().packet.carries_integers());
    assert!((1..=MAX_BLOCKS.min(agreed.multiprocessors)).contains(&plan.blocks));
    let registers = if plan.reduction.is_specialised() || plan.kernel.uses_pair_form(ranks) { 64 } else { 128 };
    assert!(plan.threads >= 32 && plan.threads.is_multiple_of(32) && plan.threads * registers <= 32 << 10);
    assert!((1..=MAX_STAGES as u8).contains(&plan.stages) && plan.tile_log2 <= 10);
    assert_eq!(plan.each_piece().map(|piece| piece.bytes).sum::<usize>(), shape.bytes);
    let region = if plan.kernel.entry().packet == Packet::Ll { LL_BYTES } else { DATA_BYTES };
    for piece in plan.each_piece() {
        let slots = plan.kernel.entry().exchanges * (ranks - 1) * piece.chunk_packets as usize;
        assert!(slots * 16 <= region && (1..=plan.blocks).contains(&piece.blocks));
    }
    Ok(())
}

/// Routing borrows the rows for good. Those of the last call are freed here, since nothing has them any more.
fn keep(tuned: Tuned) -> &'static Tuned {
    static KEPT: AtomicPtr<Tuned> = AtomicPtr::new(ptr::null_mut());
    let kept = Box::into_raw(Box::new(tuned));
    let last = KEPT.swap(kept, Ordering::Relaxed);
    if !last.is_null() {
        // SAFETY: made from a box by the last call, whose reference is not used any more.
        drop(unsafe { Box::from_raw(last) });
    }
    // SAFETY: it lives until the next call, and the reference is not used after that.
    unsafe { &*kept }
}
