//! `dime tune`: finds the kernel, the grid and the threshold that are fastest on the GPUs here, and writes a tuning file.
//!
//! Each number of ranks is measured in three runs: a coarse set of candidates, the neighbours of the best, and the best
//! against the built-in row and NCCL. A run is a process with a thread for each GPU, as in `dime bench`, and its
//! candidates are rows of a temporary tuning file. A process reads one file, so each candidate of a size has a row for
//! a message of a few bytes less. docs/tuning.md says what the output means.

mod candidates;
mod outcome;
mod search;
mod stage;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dime::gpu::driver::Driver;
use dime::gpu::topology::Device;
use dime::host::tuning_file;
use dime::kernel::layout::MAX_RANKS;
use dime::route::tuning::Tuning;
use dime_harness::args::{Sizes, at_least};
use dime_harness::locate::Paths;
use dime_harness::output::{note, print, say};
use dime_harness::stats::{now_utc, show_bytes};
use dime_harness::team::{ask_child, set_variables};
use dime_harness::{Fallible, cuda};

use crate::bench::simulated::Node;
use outcome::Outcome;
use search::Search;

/// Options of `dime tune`.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    paths: Paths,
    /// The file to write [default: dime/tuning.csv in XDG_CONFIG_HOME, else in ~/.config]
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    out: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long, conflicts_with = "dry_run")]
    force: bool,
    /// Measure and print, but write nothing
    #[arg(long)]
    dry_run: bool,
    /// Numbers of ranks; each uses the first of the GPUs visible [default: all from 2 to the number of GPUs, 8 at most]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = at_least(2_usize))]
    ranks: Vec<usize>,
    /// The most time for all numbers of ranks together, in minutes
    #[arg(long, default_value_t = 5.0, value_parser = minutes)]
    minutes: f64,
    /// Message sizes: a list of sizes and of doubling ranges [default: 1K..32M]
    #[arg(long)]
    bytes: Option<Sizes>,
}

/// Variables that would decide in place of the rows.
const DECIDING: [&str; 6] =
    ["DIME_BATCH_INVARIANT", "DIME_BLOCKS", "DIME_KERNEL", "DIME_THREADS", "DIME_THRESHOLD_BYTES", "DIME_DISABLE"];

/// The smallest size: its candidates are messages of up to 224 bytes less.
const LEAST_BYTES: usize = 256;
/// No message above it is fast.
const MOST_BYTES: usize = 32 << 20;

fn minutes(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|minutes: &f64| *minutes > 0.0 && *minutes <= 24.0 * 60.0);
    number.ok_or_else(|| "write a number of minutes above 0, at most 1440".to_owned())
}

/// What the GPUs have in common.
struct Machine {
    arch: u32,
    multiprocessors: u32,
}

/// Measures, prints what was gained, and writes the file. False: a result was wrong.
pub fn run(options: &Options) -> Fallible<bool> {
    let sizes = options.bytes.as_ref().map(check_sizes).transpose()?;
    check_ranks(&options.ranks)?;
    let node = Node::find_or_simulate()?;
    let ranks = present_ranks(&options.ranks, node.gpus)?;
    let out = destination(options, node.is_simulated)?;
    let machine = Machine::ask(ranks.iter().copied().max().unwrap_or_default())?;
    let paths = options.paths.resolve()?;
    set_variables(&DECIDING.map(|name| (name, "")));
    node.warn();
    let usual = if node.is_simulated { "1K,16K" } else { "1K..32M" };
    let sizes = sizes.map_or_else(|| usual.parse().map(|Sizes(sizes)| sizes), Ok)?;

    let end = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);
    let mut outcomes = Vec::new();
    for (done, &ranks_now) in ranks.iter().enumerate() {
        let left = end.saturating_duration_since(Instant::now()) / (ranks.len() - done) as u32;
        let search = Search { paths: &paths, node: &node, machine: &machine, ranks: ranks_now, sizes: &sizes };
        let outcome = search.run(left)?;
        print(outcome.table(&node, &machine))?;
        outcomes.push(outcome);
    }
    let all_right = outcomes.iter().all(Outcome::is_right);
    write_file(options, out, &node, &machine, &outcomes)?;
    Ok(all_right)
}

/// The sizes in ascending order, if each has room for its candidates.
fn check_sizes(Sizes(sizes): &Sizes) -> Fallible<Vec<usize>> {
    let mut sizes = sizes.clone();
    sizes.sort_unstable();
    let is_good = |size: usize| (LEAST_BYTES..=MOST_BYTES).contains(&size) && size.is_multiple_of(16);
    if let Some(bad) = sizes.iter().find(|size| !is_good(**size)) {
        return Err(format!("--bytes {}: name sizes from 256 to 32M that 16 divides", show_bytes(*bad)));
    }
    if let Some([below, above]) = sizes.windows(2).find(|two| two[1] - two[0] < LEAST_BYTES) {
        return Err(format!(
            "--bytes {},{}: sizes must be {LEAST_BYTES} bytes apart, since candidates are messages of a few bytes less",
            show_bytes(*below),
            show_bytes(*above)
        ));
    }
    Ok(sizes)
}

fn check_ranks(ranks: &[usize]) -> Fallible<()> {
    match ranks.iter().find(|count| **count > MAX_RANKS) {
        Some(many) => Err(format!("--ranks {many}: all-reduces of more than {MAX_RANKS} ranks go to NCCL")),
        None => Ok(()),
    }
}

fn present_ranks(wanted: &[usize], gpus: usize) -> Fallible<Vec<usize>> {
    if gpus < 2 {
        return Err(format!("there is nothing to tune: {gpus} GPU is visible, and an all-reduce needs 2"));
    }
    if let Some(many) = wanted.iter().find(|count| **count > gpus) {
        return Err(format!("--ranks {many}: {gpus} GPUs are visible"));
    }
    let mut ranks = if wanted.is_empty() { (2..=gpus.min(MAX_RANKS)).collect() } else { wanted.to_vec() };
    ranks.sort_unstable();
    ranks.dedup();
    Ok(ranks)
}

/// The file to write, which is not there, or may be replaced. None: none is written.
fn destination(options: &Options, is_simulated: bool) -> Fallible<Option<PathBuf>> {
    if options.dry_run || (is_simulated && options.out.is_none()) {
        return Ok(None);
    }
    let of_user =
        || tuning_file::of_user().ok_or("neither XDG_CONFIG_HOME nor HOME is set; name a file with --out FILE");
    let path = options.out.clone().map_or_else(of_user, Ok)?;
    if !options.force && path.symlink_metadata().is_ok() {
        return Err(format!("{} is there; replace it with --force, or name another file with --out", path.display()));
    }
    Ok(Some(path))
}

impl Machine {
    /// Asks the driver in a child: this process is going to fork.
    fn ask(gpus: usize) -> Fallible<Machine> {
        let answer = ask_child(|| {
            let driver = Driver::get()?;
            cuda::init()?;
            let describe = |ordinal| Device::describe(driver, ordinal).map_err(|error| error.to_string());
            let devices = (0..gpus as i32).map(describe).collect::<Fallible<Vec<Device>>>()?;
            let lines = devices.iter().map(|device| format!("{} {}\n", device.arch, device.multiprocessors));
            Ok(lines.collect::<String>().into_bytes())
        })?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let numbers = |line: &str| {
            let (arch, multiprocessors) = line.split_once(' ')?;
            Some((arch.parse().ok()?, multiprocessors.parse().ok()?))
        };
        let gpus: Vec<(u32, u32)> = text.lines().filter_map(numbers).collect();
        let (arch, _) = *gpus.first().ok_or("no answer about the GPUs")?;
        if gpus.iter().any(|(other, _)| *other != arch) {
            return Err("the GPUs differ in architecture, so all-reduces on them go to NCCL; show equal ones with \
                        CUDA_VISIBLE_DEVICES"
                .to_owned());
        }
        Ok(Machine { arch, multiprocessors: gpus.iter().map(|(_, sms)| *sms).min().unwrap_or_default() })
    }
}

/// Writes the rows of all numbers of ranks, or says why no file is written.
fn write_file(
    options: &Options,
    out: Option<PathBuf>,
    node: &Node,
    machine: &Machine,
    outcomes: &[Outcome],
) -> Fallible<()> {
    let rows: Vec<_> = outcomes.iter().flat_map(|outcome| outcome.rows(machine.arch)).collect();
    let Some(path) = out else {
        let why = if options.dry_run { "--dry-run" } else { "on the simulated node a file is written with --out only" };
        note!("dime: nothing is written: {why}");
        return Ok(());
    };
    if !outcomes.iter().all(Outcome::is_right) {
        return Err(format!("{} is not written, since a result was wrong", path.display()));
    }
    if rows.is_empty() {
        say!("\nthe built-in rows are as fast as any other to 2 %, so no file is written")?;
        return Ok(());
    }
    let simulated = if node.is_simulated { " (simulated: the rows mean nothing)" } else { "" };
    let head = [
        format!("dime tune {}, {}, {}{simulated}", env!("CARGO_PKG_VERSION"), now_utc(), node.gpu),
        "docs/tuning.md describes the columns. The first row that holds decides; built-in rows do elsewhere."
            .to_owned(),
    ];
    let text = Tuning { rows }.text(head.iter().map(String::as_str));
    write_whole(&path, &text, options.force).map_err(|error| format!("{}: {error}", path.display()))?;
    let is_found = tuning_file::of_user().is_some_and(|of_user| of_user == path);
    let how = if is_found {
        "libdime.so reads it from now on".to_owned()
    } else {
        format!("libdime.so reads it with DIME_TUNING_FILE={}", path.display())
    };
    say!("\nwrote {}: {how}", path.display())
}

/// Writes a file that nobody sees half-written.
fn write_whole(path: &Path, text: &str, may_replace: bool) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let new = folder.join(format!(".dime-tuning-{}.new", std::process::id()));
    let written = std::fs::File::options().write(true).create_new(true).open(&new).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        // A link fails where the name is taken meanwhile; a rename replaces it.
        if may_replace { std::fs::rename(&new, path) } else { std::fs::hard_link(&new, path) }
    });
    // A rename has taken it away.
    let _ = std::fs::remove_file(&new);
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_room_for_their_candidates() {
        let check = |text: &str| check_sizes(&text.parse().expect("sizes"));
        assert_eq!(check("4K,1K"), Ok(vec![1024, 4096]));
        assert!(check("128").unwrap_err().contains("--bytes 128: name sizes from 256 to 32M"));
        assert!(check("64M").unwrap_err().contains("--bytes 64M"));
        assert!(check("1001").unwrap_err().contains("that 16 divides"));
        assert!(check("1K,1K").unwrap_err().contains("256 bytes apart"));
        assert!(check("1024,1200").unwrap_err().contains("--bytes 1K,1200"));
    }

    #[test]
    fn ranks_are_those_of_the_gpus_that_are_there() {
        assert_eq!(present_ranks(&[], 4), Ok(vec![2, 3, 4]));
        assert_eq!(present_ranks(&[], 16).map(|ranks| ranks.last().copied()), Ok(Some(8)));
        assert_eq!(present_ranks(&[4, 2, 4], 4), Ok(vec![2, 4]));
        assert_eq!(present_ranks(&[5], 4), Err("--ranks 5: 4 GPUs are visible".to_owned()));
        assert!(present_ranks(&[], 1).is_err());
        assert!(check_ranks(&[9]).unwrap_err().contains("more than 8 ranks go to NCCL"));
    }

    #[test]
    fn a_number_of_minutes_is_above_zero() {
        assert_eq!(minutes("0.5"), Ok(0.5));
        for bad in ["0", "-1", "nan", "inf", "2000", "five"] {
            assert!(minutes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_is_written_whole_and_replaced_only_when_it_may_be() {
        let folder = std::env::temp_dir().join(format!("dime-tune-test-{}", std::process::id()));
        let path = folder.join("a/tuning.csv");
        write_whole(&path, "one", false).expect("written");
        assert_eq!(write_whole(&path, "two", false).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).expect("text"), "one");
        write_whole(&path, "two", true).expect("replaced");
        assert_eq!(std::fs::read_to_string(&path).expect("text"), "two");
        assert_eq!(std::fs::read_dir(folder.join("a")).expect("a folder").count(), 1);
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
