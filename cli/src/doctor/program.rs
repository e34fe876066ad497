//! The program that a command line starts, seen through scripts, `env` and `dime run`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, FromArgMatches};
use dime_harness::Fallible;
use dime_harness::locate::library_of;

use crate::doctor::child::{self, LIMIT};
use crate::doctor::elf::Elf;
use crate::run;

/// Scripts whose interpreters are scripts; the kernel follows four.
const MOST_STEPS: usize = 16;
/// Of a script, all that can name its interpreter.
const FIRST_LINES_BYTES: usize = 4096;

/// Variables that a command gets otherwise than this process has them; None removes one.
pub type Variables = Vec<(OsString, Option<OsString>)>;

/// Prints the file that an interpreter of Python is; `os` is loaded by then, so nothing of the current folder is.
const ASK_FILE: &str = "import os
print(os.readlink('/proc/self/exe'))";

/// What the loader starts.
#[derive(Clone, Debug)]
pub struct Program {
    /// The file, without links.
    pub file: PathBuf,
    /// As it was named, with the links that an interpreter looks at.
    pub path: PathBuf,
    /// The loader that it names. None: it is statically linked.
    pub loader: Option<PathBuf>,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// What its environment has otherwise than ours.
    pub variables: Variables,
}

impl Program {
    /// This program: what it finds is what any other without run paths finds.
    pub fn this() -> Fallible<Self> {
        let path = std::env::current_exe().map_err(|error| format!("the path of this program: {error}"))?;
        Self::of_file(&path, Vec::new(), Variables::new())
    }

    /// The program behind a command line.
    pub fn of_command(command: &[OsString]) -> Fallible<Self> {
        let mut command = command.to_vec();
        let mut variables = Variables::new();
        for _ in 0..MOST_STEPS {
            let Some(name) = command.first() else { return Err("no program is named".to_owned()) };
            let path = find_in_path(name, variable(&variables, "PATH").as_deref())?;
            let next = if is_named(&path, "env") {
                through_env(&command[1..], &mut variables)?
            } else if is_named(&path, "dime") && command.get(1).is_some_and(|word| word == "run") {
                through_run(&path, &command[1..], &mut variables)?
            } else if let Some(interpreter) = interpreter_of(&path)? {
                if is_python(&path) {
                    return Self::of_python_shim(path, command.split_off(1), variables);
                }
                let script = std::iter::once(path.into_os_string());
                interpreter.into_iter().chain(script).chain(command.drain(1..)).collect()
            } else {
                return Self::of_file(&path, command.split_off(1), variables);
            };
            command = next;
        }
        Err(format!("{}: its interpreters are scripts without end", command[0].display()))
    }

    fn of_file(path: &Path, arguments: Vec<OsString>, variables: Variables) -> Fallible<Self> {
        let failed = |what: String| format!("{}: {what}", path.display());
        let file = path.canonicalize().map_err(|error| failed(error.to_string()))?;
        let elf = Elf::open(&file).map_err(|error| failed(error.to_string()))?;
        let elf = elf.ok_or_else(|| {
            failed("is neither a program of this machine nor a script that names its interpreter".to_owned())
        })?;
        Ok(Self { file, path: path.to_path_buf(), loader: elf.interpreter(), arguments, variables })
    }

    /// A script that has the name of an interpreter starts one, as those of pyenv do; which one it alone knows.
    fn of_python_shim(path: PathBuf, arguments: Vec<OsString>, variables: Variables) -> Fallible<Self> {
        let shim = Self { file: path.clone(), path, loader: None, arguments, variables };
        let output = child::run(shim.command(&shim.path).args(["-c", ASK_FILE]), LIMIT)?;
        let Some(file) = output.stdout.lines().next().filter(|_| output.status.success()) else {
            let last = output.stderr.lines().last().unwrap_or_default();
            return Err(format!("{} {}: {last}", shim.path.display(), child::ending(output.status)));
        };
        Ok(Self { path: shim.path, ..Self::of_file(Path::new(file), shim.arguments, shim.variables)? })
    }

    /// Whether it is an interpreter of Python.
    pub fn is_python(&self) -> bool {
        is_python(&self.path)
    }

    /// A command in its environment.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, value) in &self.variables {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// A variable of its environment.
    pub fn variable(&self, name: &str) -> Option<OsString> {
        variable(&self.variables, name)
    }

    /// What the loader loads with `object`, in its environment: with names that are preloaded beyond those of the environment.
    pub fn list(&self, object: &Path, preload: Option<&str>) -> Fallible<Listing> {
        let loader = self.loader.as_deref().ok_or("it is statically linked")?;
        let mut command = self.command(loader);
        command.arg("--list").arg(object);
        if let Some(name) = preload {
            let before = self.variable("LD_PRELOAD").unwrap_or_default();
            command.env(
                "LD_PRELOAD",
                [before.as_os_str(), OsStr::new(" "), OsStr::new(name)].into_iter().collect::<OsString>(),
            );
        }
        let output = child::run(&mut command, LIMIT)?;
        Ok(Listing::parse(&output.stdout, &output.stderr))
    }
}

fn variable(variables: &Variables, name: &str) -> Option<OsString> {
    let set = variables.iter().rev().find(|(known, _)| known == name);
    set.map_or_else(|| std::env::var_os(name), |(_, value)| value.clone())
}

fn is_python(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    name.starts_with(b"python") || name.starts_with(b"pypy")
}

fn is_named(path: &Path, name: &str) -> bool {
    path.file_name() == Some(OsStr::new(name))
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// The file that a shell would start under this name.
pub fn find_in_path(name: &OsStr, path: Option<&OsStr>) -> Fallible<PathBuf> {
    let whole = Path::new(name);
    let found = if name.as_bytes().contains(&b'/') {
        is_executable(whole).then(|| std::path::absolute(whole).unwrap_or_else(|_| whole.to_path_buf()))
    } else {
        let path = path.unwrap_or(OsStr::new("/usr/bin:/bin"));
        std::env::split_paths(path).map(|folder| folder.join(name)).find(|file| is_executable(file))
    };
    found.ok_or_else(|| format!("{}: no such program", name.display()))
}

/// What `env` starts, and the variables that it sets.
fn through_env(words: &[OsString], variables: &mut Variables) -> Fallible<Vec<OsString>> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        if word == "-u" {
            variables.extend(words.next().map(|name| (name.clone(), None)));
        } else if word == "-S" || word == "--" {
            // The words of -S stand alone where a script's first line is taken apart.
        } else if bytes.starts_with(b"-") {
            return Err(format!("env {}: the doctor does not follow this option", word.display()));
        } else if let Some(at) = bytes.iter().position(|byte| *byte == b'=') {
            let part = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
            variables.push((part(&bytes[..at]), Some(part(&bytes[at + 1..]))));
        } else {
            return Ok(std::iter::once(word).chain(words).cloned().collect());
        }
    }
    Err("env starts no program".to_owned())
}

/// What `dime run` starts, and the variables that it sets.
fn through_run(tool: &Path, words: &[OsString], variables: &mut Variables) -> Fallible<Vec<OsString>> {
    let matches = run::Options::augment_args(clap::Command::new("run")).try_get_matches_from(words);
    let options = matches.and_then(|matches| run::Options::from_arg_matches(&matches));
    let first_line = |error: clap::Error| error.to_string().lines().next().unwrap_or_default().to_owned();
    let mut options = options.map_err(|error| format!("dime run: {}", first_line(error)))?;
    if options.paths.dime.is_none() {
        options.paths.dime = Some(library_of_tool(tool)?);
    }
    let before = variable(variables, "LD_PRELOAD");
    let set = run::variables(&options, before.as_deref())?;
    variables.extend(set.into_iter().map(|(name, value)| (name.into(), Some(value))));
    Ok(options.command)
}

/// The libdime.so of a tool, which need not be this one. The `dime` of the Python package is a script, which is asked.
fn library_of_tool(tool: &Path) -> Fallible<PathBuf> {
    let failed = |what: String| format!("{}: {what}", tool.display());
    if interpreter_of(tool)?.is_none() {
        return Ok(library_of(&tool.canonicalize().map_err(|error| failed(error.to_string()))?));
    }
    let output = child::run(Command::new(tool).arg("path"), LIMIT)?;
    match output.stdout.strip_suffix('\n') {
        Some(path) if output.status.success() => Ok(path.into()),
        _ => Err(failed(format!("dime path {}: {}", child::ending(output.status), output.stderr.trim_end()))),
    }
}

/// The interpreter that a script names in its first line, with its argument. None: it is no script.
fn interpreter_of(script: &Path) -> Fallible<Option<Vec<OsString>>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(script).map_err(|error| format!("{}: {error}", script.display()))?;
    let read = file.take(FIRST_LINES_BYTES as u64).read_to_end(&mut bytes);
    read.map_err(|error| format!("{}: {error}", script.display()))?;
    Ok(first_line(&bytes))
}

fn first_line(script: &[u8]) -> Option<Vec<OsString>> {
    let mut lines = script.strip_prefix(b"#!")?.split(|byte| *byte == b'\n');
    let words = |line: &[u8]| -> Vec<OsString> {
        let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.map(|word| OsString::from_vec(word.to_vec())).collect()
    };
    let first = words(lines.next()?);
    // pip writes this where the path of the interpreter is too long for a first line.
    if let Some(rest) = lines.next().and_then(|line| line.strip_prefix(b"'''exec' ")) {
        return words(rest).into_iter().next().map(|interpreter| vec![interpreter]);
    }
    (!first.is_empty()).then_some(first)
}

/// What the loader says that it would load.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// In the order in which symbols are looked up.
    pub libraries: Vec<PathBuf>,
    /// Libraries that it did not find.
    pub missing: Vec<String>,
    /// What it says of each library that it could not preload.
    pub not_preloaded: Vec<String>,
}

impl Listing {
    fn parse(output: &str, errors: &str) -> Self {
        let mut listing = Self::default();
        for line in output.lines() {
            let line = line.trim();
            if let Some(name) = line.strip_suffix(" => not found") {
                listing.missing.push(name.to_owned());
            } else if let Some((library, _)) = line.rsplit_once(" (0x") {
                let path = library.split_once(" => ").map_or(library, |(_, path)| path);
                listing.libraries.extend(path.starts_with('/').then(|| PathBuf::from(path)));
            }
        }
        let refused = errors.lines().filter(|line| line.contains(" from LD_PRELOAD cannot be preloaded"));
        listing.not_preloaded = refused
            .map(|line| line.rsplit_once("ld.so: ").map_or(line, |(_, rest)| rest).replacen(" from LD_PRELOAD", "", 1))
            .collect();
        listing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_variables_of_env_count() {
        let mut variables = Variables::new();
        let rest = through_env(&words("A=1 -u B C=x=y python3 -c pass"), &mut variables);
        assert_eq!(rest, Ok(words("python3 -c pass")));
        assert_eq!(variable(&variables, "A"), Some("1".into()));
        assert_eq!(variable(&variables, "B"), None);
        assert_eq!(variable(&variables, "C"), Some("x=y".into()));
        assert!(through_env(&words("-i python3"), &mut variables).is_err());
        assert!(through_env(&words("A=1"), &mut variables).is_err());
    }

    #[test]
    fn a_script_names_its_interpreter() {
        assert_eq!(first_line(b"#!/usr/bin/env python3\nimport x\n"), Some(words("/usr/bin/env python3")));
        assert_eq!(first_line(b"#! /opt/venv/bin/python -E"), Some(words("/opt/venv/bin/python -E")));
        assert_eq!(first_line(b"#!/bin/sh\n'''exec' /long/python \"$0\" \"$@\"\n"), Some(words("/long/python")));
        assert_eq!(first_line(b"\x7fELF"), None);
        assert_eq!(first_line(b"#!\n"), None);
    }

    #[test]
    fn the_loaders_list_is_read() {
        let listing = Listing::parse(
            "\tlinux-vdso.so.1 (0x00007ffd)\n\t/a b/libdime.so (0x00007f01)\n\tlibc.so.6 => /lib/libc.so.6 (0x00007f02)\n\
             \tlibnone.so => not found\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f03)\n",
            "ERROR: ld.so: object '/x.so' from LD_PRELOAD cannot be preloaded (cannot open shared object file): ignored.\n",
        );
        let libraries = ["/a b/libdime.so", "/lib/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(listing.libraries, libraries);
        assert_eq!(listing.missing, ["libnone.so"]);
        assert_eq!(
            listing.not_preloaded,
            ["object '/x.so' cannot be preloaded (cannot open shared object file): ignored."]
        );
    }
}
