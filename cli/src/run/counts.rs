//! What all processes counted, as a table.

use std::collections::BTreeMap;
use std::fmt::Write;

use dime_harness::table;

use crate::run::reasons;

/// Before the reason in the names of counters of what is forwarded.
const FORWARDED: &str = "forward_";
/// Before the version in the first line of each file.
const HEAD: &str = "# Dime ";
/// Totals, which the table does not need.
const TOTALS: [&str; 2] = ["fast", "forwarded"];

/// Where no process can be blamed.
const WROTE_NONE: &str = "one that was killed or left by _exit wrote none";

#[derive(Default)]
pub struct Counts {
    /// Processes that wrote a file, and how many of them did no all-reduce.
    processes: usize,
    idle: usize,
    /// By the counter's name.
    counters: BTreeMap<String, Counter>,
}

#[derive(Clone, Copy, Default)]
struct Counter {
    calls: u64,
    processes: usize,
}

impl Counts {
    /// Of the texts that processes wrote. What is no such text is left out.
    pub fn of(texts: &[String]) -> Self {
        let mut counts = Self::default();
        for text in texts {
            let mut lines = text.lines();
            if !lines.next().is_some_and(|head| head.starts_with(HEAD)) {
                continue;
            }
            counts.processes += 1;
            let counted = lines.filter_map(|line| line.split_once(' '));
            let counted = counted.filter_map(|(name, value)| Some((name, value.parse().ok()?)));
            let counted: Vec<(&str, u64)> =
                counted.filter(|(name, value)| *value > 0 && !TOTALS.contains(name)).collect();
            counts.idle += usize::from(counted.is_empty());
            for (name, calls) in counted {
                let counter = counts.counters.entry(name.to_owned()).or_default();
                counter.calls += calls;
                counter.processes += 1;
            }
        }
        counts
    }

    /// The table with a line above it, or why there is none.
    pub fn report(&self) -> String {
        let mut text = String::new();
        let processes = self.processes;
        let total: u64 = self.counters.values().map(|counter| counter.calls).sum();
        // A text takes whatever is written to it.
        let _ = match (processes, total) {
            (0, _) => writeln!(
                text,
                "dime: no process wrote counters: none made a communicator of 2 to 8 ranks or an all-reduce through libdime.so, or \
                 each that did was killed or left by _exit\n\
                 dime: likely no process loaded libdime.so (its environment was cleared on the way, as by sudo or ssh; the program is \
                 statically linked or set-user-ID), or the program does not use NCCL"
            ),
            (_, 0) => writeln!(
                text,
                "dime: no all-reduce through libdime.so; {processes} process{} wrote counters ({WROTE_NONE})\n\
                 dime: likely the framework uses an all-reduce of its own (--for vllm|sglang|trtllm says what turns that off), or \
                 calls another libnccl",
                plural(processes)
            ),
            _ => writeln!(
                text,
                "dime: {total} all-reduces; {processes} process{} wrote counters ({WROTE_NONE})",
                plural(processes)
            ),
        };
        if total == 0 {
            return text;
        }
        text.push_str(&self.table(total));
        if self.idle > 0 {
            let _ = writeln!(
                text,
                "dime: {} of the processes made a communicator of 2 to 8 ranks and did no all-reduce through libdime.so",
                self.idle
            );
        }
        text
    }

    /// Kernels, then reasons, each by the number of calls.
    fn table(&self, total: u64) -> String {
        let mut counters: Vec<(&String, &Counter)> = self.counters.iter().collect();
        counters.sort_by_key(|(name, counter)| (name.starts_with(FORWARDED), std::cmp::Reverse(counter.calls)));
        let rows = counters.into_iter().map(|(name, counter)| {
            vec![title(name), counter.calls.to_string(), share(counter.calls, total), counter.processes.to_string()]
        });
        table::render(&["answered by", "calls", "share", "processes"].map(str::to_owned), &rows.collect::<Vec<_>>())
    }
}

/// How a row begins.
fn title(counter: &str) -> String {
    match counter.strip_prefix(FORWARDED) {
        Some(reason) => format!("NCCL: {}", reasons::text_of(reason).unwrap_or(reason)),
        None => format!("Dime: {counter}"),
    }
}

/// A part in percent; what is not nothing is never shown as 0.
fn share(calls: u64, total: u64) -> String {
    let percent = 100.0 * calls as f64 / total as f64;
    if percent < 0.05 { "<0.1 %".to_owned() } else { format!("{percent:.1} %") }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "es" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(texts: &[&str]) -> String {
        Counts::of(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).report()
    }

    #[test]
    fn the_counters_of_all_processes_are_added() {
        let text = report(&[
            "# Dime 0.1.0, host a, process 1\nfast 3\nforwarded 1\none_shot_ll 3\nforward_too_large 1\n",
            "# Dime 0.1.0, host a, process 2\nfast 3\nforwarded 9993\none_shot_ll 3\nforward_of_the_future 9993\n",
            "# Dime 0.1.0, host a, process 3\nfast 0\nforwarded 0\n",
        ]);
        let expected = "\
dime: 10000 all-reduces; 3 processes wrote counters (one that was killed or left by _exit wrote none)
answered by                                   calls   share  processes
Dime: one_shot_ll                                 6   0.1 %          2
NCCL: of_the_future                            9993  99.9 %          1
NCCL: the message is larger than the threshold    1  <0.1 %          1
dime: 1 of the processes made a communicator of 2 to 8 ranks and did no all-reduce through libdime.so
";
        let squeezed = |text: &str| {
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(squeezed(&text), squeezed(expected));
    }

    #[test]
    fn nothing_counted_is_said_with_the_likely_reason() {
        let text = report(&["# Dime 0.1.0, host a, process 3\nfast 0\nforwarded 0\n"]);
        assert!(
            text.contains("no all-reduce through libdime.so; 1 process wrote") && text.contains("--for vllm"),
            "{text}"
        );
        let text = report(&["something else\none_shot_ll 3\n"]);
        assert!(text.contains("no process wrote counters") && text.contains("likely no process loaded"), "{text}");
    }
}
