//! `dime run -- CMD`: starts a program with libdime.so in front of its NCCL.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use dime_harness::Fallible;
use dime_harness::command::Failure;
use dime_harness::locate::Paths;

/// Options of `dime run`.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub paths: Paths,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required = true)]
    pub command: Vec<OsString>,
}

/// Variables by which frameworks are told which NCCL to open by path.
const FRAMEWORK_VARIABLES: [&str; 2] = ["VLLM_NCCL_SO_PATH", "SGLANG_NCCL_SO_PATH"];

/// The exit codes of a shell, and of `env`, for a program that is not there and for one that cannot be started.
const NOT_FOUND: i32 = 127;
const NOT_STARTED: i32 = 126;

/// Replaces this process by the program.
pub fn run(options: &Options) -> Result<bool, Failure> {
    let mut command = Command::new(&options.command[0]);
    command.args(&options.command[1..]);
    command.envs(variables(options, std::env::var_os("LD_PRELOAD").as_deref())?);
    let error = command.exec();
    let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_STARTED };
    Err(Failure { code, text: format!("cannot start {}: {error}", options.command[0].display()) })
}

/// What the program gets in its environment beyond ours, where `preloaded` is the list of what was preloaded before.
pub fn variables(options: &Options, preloaded: Option<&OsStr>) -> Fallible<Vec<(&'static str, OsString)>> {
    // First: dlopen replaces some of what begins with a dollar sign, too.
    check_preloadable(&options.paths.dime_file()?)?;
    let dime = options.paths.find_dime()?.into_os_string();
    let mut variables = vec![("LD_PRELOAD", preload(&dime, preloaded))];
    variables.extend(FRAMEWORK_VARIABLES.map(|name| (name, dime.clone())));
    // Nothing else is decided here: libdime.so searches in the program, whose surroundings are not ours.
    if options.paths.nccl.is_some() {
        variables.push(("DIME_NCCL_LIB", options.paths.find_nccl()?.into_os_string()));
    }
    Ok(variables)
}

/// Refuses a path that the loader does not take for one: what it cannot preload it leaves out, and the program runs on.
fn check_preloadable(dime: &Path) -> Fallible<()> {
    let bytes = dime.as_os_str().as_bytes();
    let Some((_, name)) =
        [(b' ', "a space"), (b':', "a colon"), (b'$', "a dollar sign")].iter().find(|(byte, _)| bytes.contains(byte))
    else {
        return Ok(());
    };
    Err(format!(
        "{}: cannot be preloaded, for there is {name} in the path: the loader splits LD_PRELOAD at spaces and colons and \
         replaces words that begin with a dollar sign; make a link to it elsewhere (ln -s) and name that with --dime PATH",
        dime.display()
    ))
}

/// Our library first, then what was preloaded already.
fn preload(dime: &OsStr, before: Option<&OsStr>) -> OsString {
    let mut list = dime.to_owned();
    if let Some(before) = before.filter(|before| !before.is_empty()) {
        list.push(":");
        list.push(before);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_library_comes_before_others_preloaded() {
        let dime = OsStr::new("/a/libdime.so");
        assert_eq!(preload(dime, None), "/a/libdime.so");
        assert_eq!(preload(dime, Some(OsStr::new(""))), "/a/libdime.so");
        assert_eq!(preload(dime, Some(OsStr::new("/b.so"))), "/a/libdime.so:/b.so");
    }
}
