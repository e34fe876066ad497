//! What files are taken and refused, and that rows change the preference alone.

use super::*;
use crate::kernel::layout::{DATA_BYTES, LL_BYTES, MAX_BLOCKS, MAX_RANKS, MAX_STAGES};
use crate::kernel::{KERNELS, Packet};
use crate::nccl::{DataType, RedOp};
use crate::route::{Agreed, LaunchPlan, Reason, Shape, route};

const HEAD: &str = "dime-tuning 1\n";
const ROW: &str = "allreduce,1024,4K,one_shot,ll,8,1,2,90,float_sum,*,*,256,32,1,*";

fn tuning(rows: &[TuningRow]) -> Tuning {
    Tuning { rows: rows.to_vec() }
}

fn agreed(ranks: usize, tuning: &Tuning) -> Agreed {
    Agreed {
        tuned: tuning.tuned(90, ranks).map(|tuned| &*Box::leak(Box::new(tuned))),
        ..Agreed::without_settings(ranks, 90, 132)
    }
}

fn sum(agreed: &Agreed, bytes: usize, datatype: DataType) -> Result<LaunchPlan, Reason> {
    Shape::parse(bytes / datatype.bytes(), datatype as i32, RedOp::Sum as i32).and_then(|shape| route(agreed, &shape))
}

#[test]
fn a_file_is_read_with_comments_and_spaces() {
    let text = format!("dime-tuning  1\r\n# a comment\n\n  {ROW} # another\n{}\n", ROW.replace(',', " , "));
    let parsed = Tuning::parse(&text).expect("a good file");
    let row = TuningRow {
        line: 4,
        min_bytes: 1024,
        max_bytes: 4096,
        kernel: Some(Kernel::OneShotLl),
        blocks: Some(8),
        ranks: Some(2),
        arch: Some(90),
        kind: Some(TypeKind::FloatSum),
        threads: Some(256),
        tile: Some(32),
        stages: Some(1),
        ..TuningRow::ANY
    };
    assert_eq!(parsed.rows, [row.clone(), TuningRow { line: 5, ..row }]);
    assert_eq!(Tuning::parse(HEAD), Ok(tuning(&[])));
    let open = Tuning::parse(&format!("{HEAD}allreduce,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1")).expect("good");
    assert_eq!(open.rows, [TuningRow { line: 2, ..TuningRow::ANY }]);
}

#[test]
fn the_example_of_the_documentation_is_a_good_file() {
    let page = include_str!("../../../docs/tuning.md");
    let example = page.split("```\n").find(|block| block.starts_with(FORMAT)).expect("an example");
    assert_eq!(Tuning::parse(example).expect("a good file").rows.len(), 4);
    assert!(example.contains(&COLUMNS.join(",")));
    assert!(COLUMNS.iter().all(|column| page.contains(column)));
}

#[test]
fn what_is_written_is_read_back() {
    let mut rows = vec![TuningRow::ANY, TuningRow { registered: Some(false), nvls: Some(true), ..TuningRow::ANY }];
    rows.extend(KERNELS.map(|kernel| TuningRow { kernel: Some(kernel), tile: Some(64), ..TuningRow::ANY }));
    rows.extend(TYPE_KINDS.map(|kind| TuningRow { kind: Some(kind), threshold_bytes: Some(7), ..TuningRow::ANY }));
    let written = tuning(&rows);
    let read = Tuning::parse(&written.text(["one", "two"])).expect("a good file");
    assert_eq!(read.digest(), written.digest());
    let without_lines: Vec<_> = read.rows.into_iter().map(|row| TuningRow { line: 0, ..row }).collect();
    assert_eq!(without_lines, rows);
}

#[test]
fn the_digest_is_that_of_what_the_rows_say() {
    let of = |text: &str| Tuning::parse(&format!("{HEAD}{text}")).expect("a good file").digest();
    let same = of(ROW);
    assert_eq!(of(&format!("# a comment\n {} \n", ROW.replace("1024", "1K"))), same);
    for other in ["", &format!("{ROW}\n{ROW}"), &ROW.replace("256", "128"), &ROW.replace(",*,*,", ",0,*,")] {
        assert_ne!(of(other), same, "{other}");
    }
    assert_ne!(of(""), 0);
}

#[test]
fn a_bad_value_is_named_with_line_column_and_what_is_expected() {
    let of = |text: &str| {
        let problems = Tuning::parse(text).expect_err("a bad file");
        problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let first = "line 1: \"\" is not \"dime-tuning 1\", with which a tuning file begins";
    assert_eq!(of(""), [first]);
    assert!(of(ROW)[0].starts_with("line 1: \"allreduce,1024,4K,one_shot,ll,8,1,2,90,f...\" is not \"dime-tuning 1\""));
    let other = "line 1: \"dime-tuning 2\" is not a version that this Dime reads, which is \"dime-tuning 1\"; dime tune writes a new file";
    assert_eq!(of("dime-tuning 2\nnonsense"), [other]);
    for (from, to, expected) in [
        ("allreduce", "broadcast", "line 2, collective: \"broadcast\" is not allreduce"),
        ("1024", "many", "line 2, minbytes: \"many\" is not a number of bytes, such as 4096, 4K or 4M, or *"),
        ("1024", "8K", "line 2, maxbytes: \"4K\" is not at least minbytes, which is 8192"),
        ("one_shot", "ring", "line 2, algorithm: \"ring\" is not one of one_shot, two_shot, or *"),
        (",ll", ",simple", "line 2, protocol: \"simple\" is not one of bulk, ll, sentinel, or *"),
        (",ll", ",bulk", "line 2, protocol: \"bulk\" is not one of ll, sentinel, the protocols of one_shot"),
        (",ll", ",*", "line 2, protocol: \"*\" is not a name, as algorithm has one"),
        ("one_shot", "*", "line 2, protocol: \"ll\" is not *, as algorithm is"),
        ("ll,8", "ll,0", "line 2, channels: \"0\" is not a number from 1 to 256, or *"),
        ("ll,8", "ll,+8", "line 2, channels: \"+8\" is not a number from 1 to 256, or *"),
        ("8,1,", "8,2,", "line 2, nodes: \"2\" is not 1, since Dime works inside one node, or *"),
        ("1,2,90", "1,9,90", "line 2, ranks: \"9\" is not a number from 2 to 8, or *"),
        ("90", "9.0", "line 2, arch: \"9.0\" is not a compute capability, such as 90 for 9.0, or *"),
        ("float_sum", "bf16", "line 2, type: \"bf16\" is not one of float_sum, other_float, integer or *"),
        ("sum,*", "sum,2", "line 2, registered: \"2\" is not 0, 1 or *"),
        ("sum,*,*", "sum,*,yes", "line 2, nvls: \"yes\" is not 0, 1 or *"),
        ("256", "100", "line 2, threads: \"100\" is not a number from 32 to 512 that 32 divides, or *"),
        (",32,", ",33,", "line 2, tile: \"33\" is not a power of two from 16 to 1024, or *"),
        ("32,1", "32,5", "line 2, stages: \"5\" is not a number from 1 to 4, or *"),
        ("1,*", "1,99999999999G", "line 2, threshold: \"99999999999G\" is not a number of bytes, such as"),
        (",ll", "", "is not a row of 16 values; it has 15 (the columns are collective,minbytes,"),
    ] {
        let problems = of(&format!("{HEAD}{}", ROW.replacen(from, to, 1)));
        assert!(problems.len() == 1 && problems[0].contains(expected), "{problems:?}: {expected}");
    }
    assert_eq!(of(&format!("{HEAD}x\n{ROW}\ny")).len(), 2);
    assert!(of(&format!("{HEAD}{}", format!("{ROW}\n").repeat(4097))).len() == 1);
}

#[test]
fn the_first_row_that_holds_decides_and_the_built_in_rows_do_elsewhere() {
    let row = |max_bytes, blocks| TuningRow { max_bytes, blocks: Some(blocks), threads: Some(64), ..TuningRow::ANY };
    let built_in = agreed(4, &tuning(&[]));
    assert_eq!(built_in.tuned, None);
    let tuned = agreed(
        4,
        &tuning(&[
            TuningRow { registered: Some(true), ..row(usize::MAX, 1) },
            TuningRow { nvls: Some(true), ..row(usize::MAX, 1) },
            TuningRow { arch: Some(80), ..row(usize::MAX, 1) },
            TuningRow { ranks: Some(3), ..row(usize::MAX, 1) },
            TuningRow { kind: Some(TypeKind::Integer), ..row(usize::MAX, 5) },
            TuningRow { threshold_bytes: Some(1 << 20), ..TuningRow::ANY },
            row(4096, 2),
            TuningRow { min_bytes: 4096, ..row(8192, 3) },
        ]),
    );
    let blocks =
        |agreed: &Agreed, bytes, datatype| sum(agreed, bytes, datatype).map(|plan| (plan.blocks, plan.threads));
    assert_eq!(blocks(&tuned, 4096, DataType::Bfloat16), Ok((2, 64)));
    assert_eq!(blocks(&tuned, 4098, DataType::Bfloat16), Ok((3, 64)));
    assert_eq!(blocks(&tuned, 8194, DataType::Bfloat16), blocks(&built_in, 8194, DataType::Bfloat16));
    assert_eq!(blocks(&tuned, 8192, DataType::Int32), Ok((5, 64)));
    assert_eq!(blocks(&tuned, 1 << 20, DataType::Bfloat16), blocks(&built_in, 1 << 20, DataType::Bfloat16));
    assert_eq!(blocks(&tuned, (1 << 20) + 2, DataType::Bfloat16), Err(Reason::TooLarge));
    // A setting goes before the file, and a forced kernel too.
    let more = Agreed { threshold_setting: Some(2 << 20), blocks: 1, ..tuned };
    assert_eq!(blocks(&more, (1 << 20) + 2, DataType::Bfloat16).map(|(blocks, _)| blocks), Ok(1));
    let forced = Agreed { forced: Some(Kernel::TwoShotBulk), ..built_in };
    assert_eq!(sum(&Agreed { tuned: tuned.tuned, ..forced }, 4096, DataType::Int8), sum(&forced, 4096, DataType::Int8));
}

#[test]
fn a_row_whose_kernel_cannot_carry_integers_leaves_them_to_the_built_in_row() {
    let rows = [TuningRow { kernel: Some(Kernel::OneShotSentinel), blocks: Some(3), ..TuningRow::ANY }];
    let (tuned, built_in) = (agreed(4, &tuning(&rows)), agreed(4, &tuning(&[])));
    assert_eq!(sum(&tuned, 4096, DataType::Int32), sum(&built_in, 4096, DataType::Int32));
    assert_eq!(sum(&tuned, 4096, DataType::Float64).map(|plan| plan.kernel), Ok(Kernel::OneShotSentinel));
    let shape = |datatype: DataType| Shape::parse(64, datatype as i32, 0).expect("a shape");
    assert_eq!(tuned.tuning_row(&shape(DataType::Int32)), None);
    assert!(tuned.tuning_row(&shape(DataType::Float32)).is_some());
}

#[test]
fn no_row_leads_to_a_launch_that_cannot_run() {
    let extremes = [Some(0), Some(1), Some(33), Some(u32::MAX), None];
    for kernel in KERNELS.into_iter().map(Some).chain([None]) {
        for (blocks, threads) in extremes.into_iter().flat_map(|it| extremes.map(move |other| (it, other))) {
            let row = TuningRow {
                kernel,
                blocks,
                threads,
                tile: threads,
                stages: blocks,
                threshold_bytes: Some(usize::MAX),
                ..TuningRow::ANY
            };
            let file = tuning(&[row]);
            for (ranks, sms) in (2..=MAX_RANKS).flat_map(|ranks| [1, 7, 132].map(|sms| (ranks, sms))) {
                let agreed = Agreed { multiprocessors: sms, ..agreed(ranks, &file) };
                for datatype in DataType::ALL {
                    for bytes in [8, 4096, 1 << 20, 32 << 20, 33 << 20] {
                        check(&agreed, bytes, datatype);
                    }
                }
            }
        }
    }
}

fn check(agreed: &Agreed, bytes: usize, datatype: DataType) {
    let plan = match sum(agreed, bytes, datatype) {
        Ok(plan) => plan,
        Err(reason) => return assert!(reason == Reason::TooLarge && bytes > 32 << 20),
    };
    assert!(bytes <= 32 << 20, "no threshold is above that");
    assert!(datatype.is_float() || plan.kernel.entry().packet.carries_integers());
    assert!((1..=MAX_BLOCKS.min(agreed.multiprocessors)).contains(&plan.blocks));
    let registers = if plan.reduction.is_specialised() || plan.kernel.uses_pair_form(agreed.ranks) { 64 } else { 128 };
    assert!(plan.threads.is_multiple_of(32) && plan.threads >= 32 && plan.threads * registers <= 32 << 10);
    assert!((1..=MAX_STAGES as u8).contains(&plan.stages) && plan.tile_log2 <= 10);
    assert_eq!(plan.each_piece().map(|piece| piece.bytes).sum::<usize>(), bytes);
    let region = if plan.kernel.entry().packet == Packet::Ll { LL_BYTES } else { DATA_BYTES };
    for piece in plan.each_piece() {
        let slots = plan.kernel.entry().exchanges * (agreed.ranks - 1) * piece.chunk_packets as usize;
        assert!(slots * 16 <= region && (1..=plan.blocks).contains(&piece.blocks));
    }
}
