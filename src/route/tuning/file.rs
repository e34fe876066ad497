//! The text of a tuning file: comma-separated values behind a line with format and version. docs/tuning.md describes it.

use std::fmt;

use crate::host::config::Bytes;
use crate::kernel::layout::{MAX_BLOCKS, MAX_RANKS, MAX_STAGES};
use crate::kernel::{KERNELS, Kernel};
use crate::route::tuning::{LEAST_TILE, MOST_TILE, Tuning, TuningRow};
use crate::route::type_kind::{TYPE_KINDS, TypeKind};

/// The first word of a file.
pub const FORMAT: &str = "dime-tuning";
/// The second word. Increased whenever the meaning of a column changes.
pub const VERSION: u32 = 1;

/// The columns. The first eight are those of NCCL's example tuner plugin.
pub const COLUMNS: [&str; 16] = [
    "collective",
    "minbytes",
    "maxbytes",
    "algorithm",
    "protocol",
    "channels",
    "nodes",
    "ranks",
    "arch",
    "type",
    "registered",
    "nvls",
    "threads",
    "tile",
    "stages",
    "threshold",
];

/// More rows would make the search for one slow.
const MOST_ROWS: usize = 4096;
/// Longer values are cut in messages.
const SHOWN_LETTERS: usize = 40;

/// Why a file is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The number of the line, from 1.
    pub line: usize,
    /// The column, if it is about one.
    pub column: Option<&'static str>,
    /// What is there.
    pub value: String,
    /// What is expected there.
    pub expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        if let Some(column) = self.column {
            write!(f, ", {column}")?;
        }
        let cut = if self.value.chars().nth(SHOWN_LETTERS).is_some() { "..." } else { "" };
        let shown: String = self.value.chars().take(SHOWN_LETTERS).collect();
        write!(f, ": {:?} is not {}", format!("{shown}{cut}"), self.expected)
    }
}

impl Tuning {
    /// The rows of a file, or everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
        check_first_line(lines.next().map_or("", |(_, line)| line)).map_err(|problem| vec![problem])?;
        let (mut rows, mut problems) = (Vec::new(), Vec::new());
        for (number, line) in lines {
            let content = line.split('#').next().unwrap_or_default().trim();
            if content.is_empty() {
                continue;
            }
            if rows.len() == MOST_ROWS {
                let expected = format!("in a file of at most {MOST_ROWS} rows");
                problems.push(Problem { line: number, column: None, value: content.to_owned(), expected });
                break;
            }
            match Line::of(number, content).and_then(|line| line.row()) {
                Ok(row) => rows.push(row),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(Self { rows }) } else { Err(problems) }
    }

    /// The file with these rows. Each line of `comments` becomes a comment at the beginning.
    pub fn text<'a>(&self, comments: impl IntoIterator<Item = &'a str>) -> String {
        let comments: String = comments.into_iter().map(|line| format!("# {line}\n")).collect();
        let rows: String = self.rows.iter().map(|row| format!("{row}\n")).collect();
        format!("{FORMAT} {VERSION}\n{comments}# {}\n{rows}", COLUMNS.join(","))
    }
}

fn check_first_line(line: &str) -> Result<(), Problem> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let wrong = |expected: String| Err(Problem { line: 1, column: None, value: line.to_owned(), expected });
    match words.as_slice() {
        [FORMAT, version] if version.parse() == Ok(VERSION) => Ok(()),
        [FORMAT, version] if version.parse::<u32>().is_ok() => wrong(format!(
            "a version that this Dime reads, which is \"{FORMAT} {VERSION}\"; dime tune writes a new file"
        )),
        _ => wrong(format!("\"{FORMAT} {VERSION}\", with which a tuning file begins")),
    }
}

/// The values of a row.
struct Line<'a> {
    number: usize,
    values: [&'a str; COLUMNS.len()],
}

impl<'a> Line<'a> {
    fn of(number: usize, content: &'a str) -> Result<Self, Problem> {
        let values: Vec<&str> = content.split(',').map(str::trim).collect();
        let count = values.len();
        let values = values.try_into().map_err(|_| Problem {
            line: number,
            column: None,
            value: content.to_owned(),
            expected: format!(
                "a row of {} values; it has {count} (the columns are {})",
                COLUMNS.len(),
                COLUMNS.join(",")
            ),
        })?;
        Ok(Self { number, values })
    }

    fn row(&self) -> Result<TuningRow, Problem> {
        let one_of = |names: &[&str]| format!("one of {}", names.join(", "));
        self.required("collective", "allreduce", |text| (text == "allreduce").then_some(()))?;
        let (min_bytes, max_bytes) = (self.bytes("minbytes")?.unwrap_or(0), self.bytes("maxbytes")?);
        let max_bytes = max_bytes.unwrap_or(usize::MAX);
        if max_bytes < min_bytes {
            return Err(self.problem("maxbytes", format!("at least minbytes, which is {min_bytes}")));
        }
        self.value("nodes", "1, since Dime works inside one node,", |text| (text == "1").then_some(()))?;
        let kind_names = one_of(&TYPE_KINDS.map(TypeKind::name));
        Ok(TuningRow {
            line: self.number,
            min_bytes,
            max_bytes,
            kernel: self.kernel()?,
            blocks: self.number("channels", 1, MAX_BLOCKS)?,
            ranks: self.number("ranks", 2, MAX_RANKS as u32)?.map(|ranks| ranks as usize),
            arch: self.value("arch", "a compute capability, such as 90 for 9.0,", |text| within(text, 50, 999))?,
            kind: self.value("type", &kind_names, TypeKind::named)?,
            registered: self.flag("registered")?,
            nvls: self.flag("nvls")?,
            threads: self.value("threads", "a number from 32 to 512 that 32 divides,", |text| {
                within(text, 32, 512).filter(|threads| threads.is_multiple_of(32))
            })?,
            tile: self.value("tile", &format!("a power of two from {LEAST_TILE} to {MOST_TILE},"), |text| {
                within(text, LEAST_TILE, MOST_TILE).filter(|tile| tile.is_power_of_two())
            })?,
            stages: self.number("stages", 1, MAX_STAGES)?,
            threshold_bytes: self.bytes("threshold")?,
        })
    }

    fn text(&self, column: &str) -> &'a str {
        let at = COLUMNS.iter().position(|known| *known == column);
        self.values[at.expect("the name of a column")]
    }

    fn problem(&self, column: &'static str, expected: String) -> Problem {
        Problem { line: self.number, column: Some(column), value: self.text(column).to_owned(), expected }
    }

    fn required<T>(
        &self,
        column: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Problem> {
        parse(self.text(column)).ok_or_else(|| self.problem(column, expected.to_owned()))
    }

    /// A value that may be open. None: it is.
    fn value<T>(
        &self,
        column: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let text = self.text(column);
        // NCCL's example has -1 for it.
        if matches!(text, "*" | "-1") {
            return Ok(None);
        }
        self.required(column, &format!("{expected} or *"), |text| parse(text).map(Some))
    }

    fn number(&self, column: &'static str, least: u32, most: u32) -> Result<Option<u32>, Problem> {
        self.value(column, &format!("a number from {least} to {most},"), |text| within(text, least, most))
    }

    fn bytes(&self, column: &'static str) -> Result<Option<usize>, Problem> {
        self.value(column, "a number of bytes, such as 4096, 4K or 4M,", |text| {
            Bytes::parse(text).map(|bytes| bytes.0 as usize)
        })
    }

    fn flag(&self, column: &'static str) -> Result<Option<bool>, Problem> {
        self.value(column, "0, 1", |text| match text {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        })
    }

    /// Algorithm and protocol are the parts of a kernel's name.
    fn kernel(&self) -> Result<Option<Kernel>, Problem> {
        let names = |part: fn(Kernel) -> &'static str| {
            let mut names: Vec<&str> = KERNELS.into_iter().map(part).collect();
            names.sort_unstable();
            names.dedup();
            format!("one of {},", names.join(", "))
        };
        let known = |part: fn(Kernel) -> &'static str| {
            move |text: &str| KERNELS.into_iter().map(part).find(|name| *name == text)
        };
        let algorithm_of = self.value("algorithm", &names(algorithm), known(algorithm))?;
        let protocol_of = self.value("protocol", &names(protocol), known(protocol))?;
        match (algorithm_of, protocol_of) {
            (None, None) => Ok(None),
            (Some(algorithm), Some(protocol)) => {
                let kernel = Kernel::named(&format!("{algorithm}_{protocol}"));
                let with = KERNELS.into_iter().filter(|kernel| self::algorithm(*kernel) == algorithm);
                let protocols: Vec<&str> = with.map(self::protocol).collect();
                let expected = || format!("one of {}, the protocols of {algorithm}", protocols.join(", "));
                kernel.map(Some).ok_or_else(|| self.problem("protocol", expected()))
            }
            (Some(_), None) => Err(self.problem("protocol", "a name, as algorithm has one".to_owned())),
            (None, Some(_)) => Err(self.problem("protocol", "*, as algorithm is".to_owned())),
        }
    }
}

fn within(text: &str, least: u32, most: u32) -> Option<u32> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_number && (least..=most).contains(number))
}

/// `one_shot` of `one_shot_ll`.
fn algorithm(kernel: Kernel) -> &'static str {
    kernel.name().rsplit_once('_').map_or(kernel.name(), |(algorithm, _)| algorithm)
}

/// `ll` of `one_shot_ll`.
fn protocol(kernel: Kernel) -> &'static str {
    kernel.name().rsplit_once('_').map_or("", |(_, protocol)| protocol)
}

/// The row as a line of a file. It is canonical: rows that say the same have the same line.
impl fmt::Display for TuningRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn open<T: fmt::Display>(value: Option<T>) -> String {
            value.map_or_else(|| "*".to_owned(), |value| value.to_string())
        }
        let flag = |flag: Option<bool>| open(flag.map(u8::from));
        let values: [String; COLUMNS.len()] = [
            "allreduce".to_owned(),
            self.min_bytes.to_string(),
            open((self.max_bytes != usize::MAX).then_some(self.max_bytes)),
            open(self.kernel.map(algorithm)),
            open(self.kernel.map(protocol)),
            open(self.blocks),
            "1".to_owned(),
            open(self.ranks),
            open(self.arch),
            open(self.kind.map(TypeKind::name)),
            flag(self.registered),
            flag(self.nvls),
            open(self.threads),
            open(self.tile),
            open(self.stages),
            open(self.threshold_bytes),
        ];
        f.write_str(&values.join(","))
    }
}
