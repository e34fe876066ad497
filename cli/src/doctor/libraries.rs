//! Which file answers ncclAllReduce, here and in the command, and which NCCL lies behind Dime.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use dime_harness::Fallible;
use dime_harness::locate::Paths;
use dime_harness::nccl::Library;
use dime_harness::team::ask_child;
use serde_json::{Value, json};

use crate::doctor::child::{self, LIMIT};
use crate::doctor::elf;
use crate::doctor::program::Program;
use crate::doctor::python::Python;
use crate::doctor::report::{Check, Section};

/// The releases that are known to work behind Dime, and those that are tested.
const OLDEST_NCCL: (u32, u32) = (2, 13);
const OLDEST_TESTED_NCCL: (u32, u32) = (2, 18);
/// The library of PyTorch that is linked with NCCL.
const TORCH_LIBRARY: &str = "torch/lib/libtorch_cuda.so";

/// What the user asked about.
pub struct Subject<'a> {
    /// Where the libraries are, as far as it was said.
    pub paths: &'a Paths,
    /// The libdime.so to look at, or why there is none.
    pub dime: Fallible<PathBuf>,
    /// The program of the command. None: there is no command.
    pub program: Option<Fallible<Program>>,
    /// The interpreter that the command is, else that of the environment that is active here. None: there is no Python.
    pub python: Option<Fallible<Python>>,
}

impl<'a> Subject<'a> {
    /// Finds libdime.so and the program.
    pub fn find(paths: &'a Paths, command: &[OsString]) -> Self {
        let program = (!command.is_empty()).then(|| Program::of_command(command));
        let own = program.as_ref().and_then(|program| program.as_ref().ok()).filter(|program| program.is_python());
        let python = own.cloned().map(Python::of_program).or_else(Python::active);
        Self { paths, dime: paths.find_dime(), program, python }
    }

    /// The program of the command, where there is one.
    fn command(&self) -> Option<&Program> {
        self.program.as_ref()?.as_ref().ok()
    }

    /// The interpreter that the command is.
    fn python_of_command(&self) -> Option<&Python> {
        self.command().filter(|program| program.is_python()).and(self.python.as_ref()?.as_ref().ok())
    }
}

/// Who answers ncclAllReduce.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// The libdime.so that is looked at, or a copy.
    Dime,
    OtherDime,
    Nccl,
    None,
}

impl Kind {
    fn of(file: Option<&Path>, dime: Option<&Path>) -> Self {
        match file {
            None => Self::None,
            Some(file) if dime.is_some_and(|dime| is_same(file, dime)) => Self::Dime,
            Some(file) if elf::defines(file, "dimeVersion") => Self::OtherDime,
            Some(_) => Self::Nccl,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Dime => "dime",
            Self::OtherDime => "other-dime",
            Self::Nccl => "nccl",
            Self::None => "none",
        }
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| path.canonicalize().ok();
    let bytes = |path: &Path| std::fs::metadata(path).map(|file| file.len()).ok();
    let content = |path: &Path| std::fs::read(path).ok();
    place(one) == place(other)
        || bytes(one) == bytes(other) && content(one).is_some_and(|it| content(other) == Some(it))
}

/// The file that answers in a program, how it gets there, and what the loader says of LD_PRELOAD.
struct Answer {
    file: Option<PathBuf>,
    way: &'static str,
    not_preloaded: Vec<String>,
}

fn answer_in(program: &Program, python: Option<&Python>) -> Fallible<Answer> {
    let first = |libraries: &[PathBuf]| libraries.iter().find(|file| elf::defines(file, "ncclAllReduce")).cloned();
    let loaded = program.list(&program.file, None)?;
    let not_preloaded = loaded.not_preloaded;
    // A program's own symbols come before what is preloaded.
    if elf::defines(&program.file, "ncclAllReduce") {
        return Ok(Answer { file: Some(program.file.clone()), way: "the program's own", not_preloaded });
    }
    if let Some(file) = first(&loaded.libraries) {
        return Ok(Answer { file: Some(file), way: "preloaded or linked", not_preloaded });
    }
    if let Some(torch) = python.and_then(|python| python.find(TORCH_LIBRARY)) {
        let mut libraries = program.list(&torch, None)?.libraries;
        libraries.push(torch);
        if let Some(file) = first(&libraries) {
            return Ok(Answer { file: Some(file), way: "linked with PyTorch", not_preloaded });
        }
    }
    let named = program.list(&program.file, Some("libnccl.so.2"))?;
    Ok(Answer { file: first(&named.libraries), way: "opened by the name libnccl.so.2", not_preloaded })
}

/// Which file answers, as a check with this name, and what the loader says of libraries that it cannot preload.
fn answer_check(name: &'static str, subject: &Subject, program: &Program, is_command: bool) -> (Check, Vec<String>) {
    let place = if is_command { "in the command" } else { "here" };
    let dime = subject.dime.as_deref().ok();
    let python = is_command.then(|| subject.python_of_command()).flatten();
    let answer = match answer_in(program, python) {
        Ok(answer) => answer,
        Err(error) => {
            let text = format!("{}: cannot see which file answers ncclAllReduce: {error}", program.file.display());
            let advice = "name a dynamically linked program, or link it with libdime.so in the place of libnccl.so.2";
            let check = Check::fail(name, text, advice).with("program", program.file.display().to_string());
            return (check, Vec::new());
        }
    };
    let shown = dime.map_or("/path/to/libdime.so".into(), |dime| dime.display().to_string());
    let advice = format!("start it with `dime run -- COMMAND`, or set LD_PRELOAD={shown}");
    let file = answer.file.as_ref().map(|file| file.display().to_string());
    let kind = Kind::of(answer.file.as_deref(), dime);
    let shown = file.as_deref().unwrap_or_default();
    let not_ours = if is_command { Check::fail } else { Check::warn };
    let check = match kind {
        Kind::Dime => Check::ok(name, format!("ncclAllReduce {place}: this libdime.so, {shown} ({})", answer.way)),
        Kind::OtherDime => Check::warn(
            name,
            format!("ncclAllReduce {place}: another build of Dime, {shown} ({})", answer.way),
            "give all ranks the same libdime.so, or check that one with --dime PATH",
        ),
        Kind::Nccl => not_ours(name, format!("ncclAllReduce {place}: NCCL alone, {shown} ({})", answer.way), advice),
        Kind::None => not_ours(
            name,
            format!(
                "ncclAllReduce {place}: nothing is preloaded or linked that answers, and the loader finds no libnccl.so.2"
            ),
            advice,
        ),
    };
    let check =
        check.with("file", file).with("answered_by", kind.name()).with("program", program.file.display().to_string());
    (check, answer.not_preloaded)
}

/// Part `nccl`: the real NCCL that libdime.so finds in this process, and its version.
pub fn part_nccl(paths: &Paths) -> Fallible<Value> {
    let path = paths.find_nccl()?;
    let version = ask_child(|| Ok(Library::real(&path)?.version()?.into_bytes()))?;
    Ok(json!({ "path": path.display().to_string(), "version": String::from_utf8_lossy(&version) }))
}

/// Asks libdime.so, in a process with the variables of the command.
fn ask_nccl(dime: &Path, nccl: Option<&Path>, program: Option<&Program>) -> Fallible<Value> {
    let mut part = child::part("nccl")?;
    if let Some(program) = program {
        part.envs(program.variables.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))));
    }
    part.arg("--dime").arg(dime);
    if let Some(nccl) = nccl {
        part.arg("--nccl").arg(nccl);
    }
    child::told(&child::run(&mut part, LIMIT)?)
}

fn nccl_check(subject: &Subject, dime: &Path) -> Check {
    let program = subject.command();
    let ask_in = |python: &Python| python.ask_nccl(dime).and_then(|found| ask_nccl(dime, Some(&found), program));
    let asked = match (&subject.paths.nccl, subject.python_of_command()) {
        (None, Some(python)) => ask_in(python),
        (nccl, _) => ask_nccl(dime, nccl.as_deref(), program).or_else(|error| match &subject.python {
            // Without a command, a program in this environment is what is asked about.
            Some(Ok(python)) if subject.program.is_none() && nccl.is_none() => ask_in(python).map_err(|_| error),
            _ => Err(error),
        }),
    };
    let advice = "install NCCL where the program runs (for example nvidia-nccl-cu13 from PyPI), or set DIME_NCCL_LIB to a libnccl.so.2";
    match asked {
        Ok(found) => {
            let [path, version] = ["path", "version"].map(|field| found[field].as_str().unwrap_or_default());
            let text = format!("the real NCCL: {path}, version {version}");
            let old = match numbers(version) {
                Some(release) if release < OLDEST_NCCL => Some("is older than what Dime works with"),
                Some(release) if release < OLDEST_TESTED_NCCL => Some("is older than what Dime is tested with"),
                _ => None,
            };
            let check = match old {
                Some(old) => Check::warn("nccl", format!("{text} {old}"), "use NCCL 2.18 or newer"),
                None => Check::ok("nccl", text),
            };
            check.with("path", path).with("version", version)
        }
        Err(error) => {
            let mut lines = error.lines();
            let first = lines.next().unwrap_or_default().to_owned();
            Check::fail("nccl", format!("the real NCCL is not found: {first}"), advice).details(lines)
        }
    }
}

/// Major and minor of "2.28.9".
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// Which libraries are in play.
pub fn section(subject: &Subject) -> Section {
    let mut checks = Vec::new();
    match &subject.dime {
        Ok(path) => {
            let version = ask_child(|| Ok(Library::dime(path)?.dime_version().unwrap_or_default().into_bytes()));
            let version = version.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
            let text = format!("libdime.so: {}, version {version}", path.display());
            checks.push(Check::ok("libdime", text).with("path", path.display().to_string()).with("version", version));
        }
        Err(error) => {
            checks.push(Check::fail("libdime", error.clone(), "build it with `make`, or name one with --dime PATH"));
        }
    }
    let mut not_preloaded = Vec::new();
    match Program::this() {
        Ok(program) => {
            let (check, refused) = answer_check("environment", subject, &program, false);
            checks.push(check);
            not_preloaded = refused;
        }
        Err(error) => {
            checks.push(Check::warn("environment", error, "run the tool from a file system that it can read"))
        }
    }
    match &subject.program {
        None => {}
        Some(Ok(program)) => {
            let (check, refused) = answer_check("command", subject, program, true);
            checks.push(check);
            let known = not_preloaded.clone();
            not_preloaded.extend(refused.into_iter().filter(|line| !known.contains(line)));
        }
        Some(Err(error)) => {
            checks.push(Check::fail("command", error.clone(), "name the program as you would to start it"));
        }
    }
    let advice = "have LD_PRELOAD name a library that is there, by its whole path";
    checks.extend(not_preloaded.into_iter().map(|line| Check::fail("preload", format!("LD_PRELOAD: {line}"), advice)));
    if let Ok(dime) = &subject.dime {
        checks.push(nccl_check(subject, dime));
    }
    Section { name: "libraries", title: "Libraries", checks }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_as_numbers() {
        assert_eq!(numbers("2.28.9"), Some((2, 28)));
        assert!(numbers("2.9.8").unwrap() < OLDEST_NCCL && numbers("2.13.4").unwrap() >= OLDEST_NCCL);
        assert_eq!(numbers("unknown"), None);
    }

    #[test]
    fn a_file_without_dimes_symbols_is_nccl() {
        let exe = std::env::current_exe().unwrap();
        assert_eq!(Kind::of(None, None), Kind::None);
        assert_eq!(Kind::of(Some(&exe), None), Kind::Nccl);
        assert_eq!(Kind::of(Some(&exe), Some(&exe)), Kind::Dime);
    }
}
