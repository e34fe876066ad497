//! `dime completions SHELL` and `dime manual FOLDER`: what shells and `man` know about the tool, made from its command line.

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;
use dime_harness::Fallible;
use dime_harness::output::print;

/// Options of `dime completions`.
#[derive(clap::Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

/// Prints a script that completes the tool's command line.
pub fn completions<C: CommandFactory>(options: &Completions) -> Fallible<bool> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut C::command(), "dime", &mut script);
    print(String::from_utf8(script).map_err(|error| format!("the script is no text: {error}"))?)?;
    Ok(true)
}

/// Options of `dime manual`.
#[derive(clap::Args)]
pub struct Manual {
    /// The folder to write to
    folder: PathBuf,
}

/// Writes a page of the manual for the tool and for each of its subcommands.
pub fn manual<C: CommandFactory>(options: &Manual) -> Fallible<bool> {
    clap_mangen::generate_to(C::command(), &options.folder)
        .map_err(|error| format!("{}: {error}", options.folder.display()))?;
    Ok(true)
}
