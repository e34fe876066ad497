//! `dime run -- CMD`: starts a program with libdime.so in front of its NCCL.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::Fallible;
use crate::locate::Paths;

/// Options of `dime run`.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    paths: Paths,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required = true)]
    command: Vec<OsString>,
}

/// Variables by which frameworks are told which NCCL to open by path.
const FRAMEWORK_VARIABLES: [&str; 2] = ["VLLM_NCCL_SO_PATH", "SGLANG_NCCL_SO_PATH"];

/// Replaces this process by the program.
pub fn run(options: &Options) -> Fallible<bool> {
    let dime = options.paths.find_dime()?;
    let mut command = Command::new(&options.command[0]);
    command.args(&options.command[1..]);
    command.env("LD_PRELOAD", preload(dime.as_os_str(), std::env::var_os("LD_PRELOAD").as_deref()));
    for variable in FRAMEWORK_VARIABLES {
        command.env(variable, &dime);
    }
    // An explicit path wins, then the variable, then what can be found from here.
    if let Some(nccl) = &options.paths.nccl {
        let nccl = std::fs::canonicalize(nccl).map_err(|e| format!("{}: {e}", nccl.display()))?;
        command.env("DIME_NCCL_LIB", nccl);
    } else if std::env::var_os("DIME_NCCL_LIB").is_none()
        && let Ok(nccl) = options.paths.find_nccl()
    {
        command.env("DIME_NCCL_LIB", nccl);
    }
    let error = command.exec();
    Err(format!("cannot start {}: {error}", options.command[0].display()))
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
