//! Processes that the doctor starts: each has a deadline, so a driver or an interpreter that hangs cannot hang the doctor.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use dime_harness::Fallible;
use dime_harness::output::note;
use serde_json::{Value, json};

/// Longer than a driver takes to start with many GPUs.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What a process left.
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs a command to its end. What it writes is short: it must fit into a pipe.
pub fn run(command: &mut Command, limit: Duration) -> Fallible<Output> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    finish(child, Instant::now() + limit)
}

/// Waits for a process, and ends it at the deadline.
pub fn finish(mut child: Child, deadline: Instant) -> Fallible<Output> {
    let status = loop {
        match child.try_wait().map_err(|error| format!("waiting for a process: {error}"))? {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                let _ = child.kill();
                let _ = child.wait();
                return Err("it did not end in time".to_owned());
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let mut bytes = [Vec::new(), Vec::new()];
    if let Some(mut stdout) = child.stdout.take() {
        let _ = stdout.read_to_end(&mut bytes[0]);
    }
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_end(&mut bytes[1]);
    }
    let [stdout, stderr] = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Output { status, stdout, stderr })
}

/// How a process ended, in words.
pub fn ending(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("dies of signal {signal}"),
        None => format!("ends with status {}", status.code().unwrap_or_default()),
    }
}

/// A command for a part of the doctor's work that is done in a process of its own: this program again.
pub fn part(name: &str) -> Fallible<Command> {
    let program = std::env::current_exe().map_err(|error| format!("the path of this program: {error}"))?;
    let mut command = Command::new(program);
    command.args(["doctor", "--part", name]);
    Ok(command)
}

/// In a part: tells its result. It is the last line of standard error; others may have written before.
pub fn tell(result: Fallible<Value>) {
    let answer = match result {
        Ok(value) => json!({ "answer": value }),
        Err(error) => json!({ "error": error }),
    };
    note!("{answer}");
}

/// What a part told.
pub fn told(output: &Output) -> Fallible<Value> {
    let last = output.stderr.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
    match last {
        Some(Value::Object(mut told)) if told.contains_key("answer") => Ok(told["answer"].take()),
        Some(told) if told["error"].is_string() => Err(told["error"].as_str().unwrap_or_default().to_owned()),
        _ => Err(format!("a process that tries it {}", ending(output.status))),
    }
}

/// Does a part and takes its result.
pub fn ask(name: &str) -> Fallible<Value> {
    told(&run(&mut part(name)?, LIMIT)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_hangs_is_ended() {
        let began = Instant::now();
        let outcome = run(Command::new("sleep").arg("60"), Duration::from_millis(50));
        assert_eq!(outcome.err().as_deref(), Some("it did not end in time"));
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn the_last_line_of_a_part_is_its_answer() {
        let output = |script: &str| run(Command::new("sh").args(["-c", script]), LIMIT).expect("a shell");
        assert_eq!(told(&output("echo noise >&2; echo '{\"answer\":7}' >&2")), Ok(json!(7)));
        assert_eq!(told(&output("echo '{\"error\":\"no\"}' >&2")), Err("no".to_owned()));
        assert_eq!(told(&output("kill -9 $$")), Err("a process that tries it dies of signal 9".to_owned()));
    }
}
