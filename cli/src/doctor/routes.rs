//! Which all-reduces would be fast on the GPUs here: asked of the library's own routing.

use dime::nccl::{DataType, RedOp};
use dime::route::{Agreed, Shape, never_fast, route};
use serde_json::{Value, json};

use crate::doctor::gpus::{Gpu, Machine};
use crate::doctor::report::{Check, Section};
use crate::doctor::surroundings::Surroundings;

/// Types that are shown: those of models, and an integer one.
const TYPES: [(DataType, &str); 3] =
    [(DataType::Bfloat16, "bf16"), (DataType::Float32, "f32"), (DataType::Int32, "int32")];
/// More elements than any fast all-reduce has, as a power of 2.
const MOST_ELEMENTS_LOG2: u32 = 41;

/// The smallest and the largest message of a type whose sum is fast, in bytes.
fn fast_bytes(agreed: &Agreed, datatype: DataType) -> Option<(usize, usize)> {
    let is_fast = |count: usize| {
        let shape = Shape::parse(count, datatype as i32, RedOp::Sum as i32);
        shape.and_then(|shape| route(agreed, &shape)).is_ok()
    };
    let first = (0..MOST_ELEMENTS_LOG2).map(|shift| 1_usize << shift).find(|count| is_fast(*count))?;
    // Fast sizes have no gaps: bisect between one that is fast and one that is not.
    let (mut fast, mut slow) = (first, 1_usize << MOST_ELEMENTS_LOG2);
    while fast + 1 < slow {
        let middle = fast + (slow - fast) / 2;
        if is_fast(middle) { fast = middle } else { slow = middle }
    }
    Some((first * datatype.bytes(), fast * datatype.bytes()))
}

/// What ranks with a GPU each would agree on.
fn agreed(set: &[&Gpu], ranks: usize, surroundings: &Surroundings) -> Agreed {
    let config = &surroundings.config;
    let arch = set.iter().map(|gpu| gpu.arch).min().unwrap_or_default();
    let file = surroundings.tuning.as_ref().and_then(|file| file.tuning.as_ref().ok());
    Agreed {
        ranks,
        arch,
        multiprocessors: set.iter().map(|gpu| gpu.multiprocessors).min().unwrap_or_default(),
        forced: config.kernel.0,
        threshold_setting: config.threshold_bytes.map(|bytes| bytes.0 as usize),
        batch_invariant: config.batch_invariant,
        blocks: config.blocks,
        threads: config.threads,
        most_ctas: u32::MAX,
        // One for each number of ranks, in the life of the tool.
        tuned: file.and_then(|file| file.tuned(arch, ranks)).map(|tuned| &*Box::leak(Box::new(tuned))),
    }
}

/// A size as people write it, when it is a round one.
fn size_text(bytes: usize) -> String {
    [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
        .into_iter()
        .find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .map_or_else(|| format!("{bytes} B"), |(unit, name)| format!("{} {name}", bytes / unit))
}

/// Sizes that would be fast, for each number of ranks.
pub fn section(machine: &Machine, surroundings: &Surroundings) -> Section {
    let set = machine.largest_set(surroundings.allows_pcie);
    let checks = if let Some(why) = surroundings.forwards {
        vec![Check::warn("routes", format!("no all-reduce would be fast: {why}"), "see the line about it above")]
    } else if set.len() < 2 {
        let text = "no all-reduce would be fast: there are no two GPUs of one kind that NVLink joins";
        vec![Check::warn("routes", text, "see the lines about GPUs and links above")]
    } else {
        let counts = (2..=set.len()).filter(|ranks| never_fast(*ranks).is_none());
        counts.map(|ranks| of_ranks(&agreed(&set, ranks, surroundings))).collect()
    };
    Section { name: "routes", title: "Sizes that would be fast (sum, one GPU a rank)", checks }
}

fn of_ranks(agreed: &Agreed) -> Check {
    let (mut shown, mut data) = (Vec::new(), Vec::<Value>::new());
    for (datatype, name) in TYPES {
        let range = fast_bytes(agreed, datatype);
        shown.push(match range {
            Some((from, to)) => format!("{name} {} to {}", size_text(from), size_text(to)),
            None => format!("{name} none"),
        });
        data.push(json!({
            "type": name,
            "op": "sum",
            "from_bytes": range.map(|(from, _)| from),
            "to_bytes": range.map(|(_, to)| to),
        }));
    }
    let guess = if agreed.is_guess() { " (the ends are not measured on these GPUs with this many ranks)" } else { "" };
    let text = format!("{} ranks: {}{guess}", agreed.ranks, shown.join(", "));
    let check = if data.iter().any(|range| range["to_bytes"].is_null()) {
        Check::warn("routes", text, "see the variables of Dime above: DIME_KERNEL and DIME_THRESHOLD_BYTES decide")
    } else {
        Check::ok("routes", text)
    };
    check.with("ranks", agreed.ranks).with("measured", !agreed.is_guess()).with("fast", data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_of_a_range_is_fast_and_the_next_one_is_not() {
        for ranks in 2..=8 {
            let agreed = Agreed::without_settings(ranks, 90, 132);
            for (datatype, name) in TYPES {
                let (from, to) = fast_bytes(&agreed, datatype).expect("a range");
                let is_fast = |bytes: usize| route(&agreed, &Shape { datatype, op: RedOp::Sum, bytes }).is_ok();
                let steps = (0..64).map(|step| from + (to - from) / 64 / datatype.bytes() * datatype.bytes() * step);
                assert!(steps.chain([to]).all(is_fast), "{ranks} {name}");
                assert!(!is_fast(to + datatype.bytes()), "{ranks} {name}");
            }
        }
    }

    #[test]
    fn a_threshold_moves_the_end_and_a_kernel_that_cannot_carry_a_type_leaves_none() {
        let agreed = Agreed { threshold_setting: Some(4096), ..Agreed::without_settings(4, 90, 132) };
        assert_eq!(fast_bytes(&agreed, DataType::Float32), Some((4, 4096)));
        let invariant = Agreed { batch_invariant: true, ..agreed };
        assert_eq!(fast_bytes(&invariant, DataType::Float32), Some((4, 1 << 40)));
        assert_eq!(fast_bytes(&invariant, DataType::Int32), Some((4, 4096)));
        let forced = Agreed { forced: dime::kernel::Kernel::named("one_shot_sentinel"), ..agreed };
        assert_eq!(fast_bytes(&forced, DataType::Int32), None);
    }

    #[test]
    fn sizes_are_written_in_the_largest_unit_that_divides_them() {
        let sizes = [2, 4096, 16 << 20, 1025, 3 << 30, 1 << 40].map(size_text);
        assert_eq!(sizes, ["2 B", "4 KiB", "16 MiB", "1025 B", "3 GiB", "1 TiB"]);
    }
}
