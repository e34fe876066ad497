//! Lines of the log, in NCCL's format: `host:pid:tid [device] DIME LEVEL text`.

/// One line of our log.
#[derive(Debug)]
pub struct LogLine {
    pub host: String,
    pub pid: u32,
    pub tid: u32,
    pub device: i64,
    pub level: String,
    pub text: String,
}

impl LogLine {
    /// None: the line does not have the format.
    pub fn parse(line: &str) -> Option<LogLine> {
        let (source, rest) = line.split_once(" [")?;
        let (device, rest) = rest.split_once("] DIME ")?;
        let mut source = source.rsplitn(3, ':');
        let tid = source.next()?.parse().ok()?;
        let pid = source.next()?.parse().ok()?;
        let host = source.next()?.to_string();
        let device = device.parse().ok()?;
        let (level, text) = rest.split_once(' ')?;
        let named = ["ERROR", "WARN", "INFO", "TRACE"].contains(&level);
        let (level, text) = if named { (level, text) } else { ("", rest) };
        Some(LogLine { host, pid, tid, device, level: level.to_string(), text: text.to_string() })
    }

    /// All lines of ours in an output, each of which must have the format.
    pub fn all(output: &str) -> Vec<LogLine> {
        output
            .lines()
            .filter(|line| line.contains("DIME "))
            .map(|line| LogLine::parse(line).unwrap_or_else(|| panic!("{line:?} is no line of a log")))
            .collect()
    }
}
