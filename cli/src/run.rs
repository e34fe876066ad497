//! `dime run -- CMD`: starts a program with libdime.so in front of its NCCL.
//!
//! Without `--stats` this process becomes the program. With it, this process stays as the program's parent until that ends.

mod child;
mod counts;
mod detection;
mod files;
mod framework;
mod preload;
mod reasons;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use dime_harness::Fallible;
use dime_harness::command::Failure;
use dime_harness::locate::Paths;
use dime_harness::output::note;

use counts::Counts;
use files::{Files, VARIABLE as STATS_FILE};
use framework::{Framework, Step};

/// Options of `dime run`.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub paths: Paths,
    /// Have the small all-reduces of this framework reach NCCL: set its variables, and name the arguments to add; auto finds out
    /// from the command which framework it is
    #[arg(long = "for", value_name = "FRAMEWORK")]
    target: Option<Target>,
    /// Print at the end, over all processes, which kernels did all-reduces and why others were forwarded
    #[arg(long)]
    stats: bool,
    /// Print warnings only, not what is set
    #[arg(long, short)]
    quiet: bool,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required = true)]
    pub command: Vec<OsString>,
}

/// What `--for` takes.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Target {
    Vllm,
    Sglang,
    Trtllm,
    Auto,
}

/// Variables by which frameworks are told which NCCL to open by path.
const PATH_VARIABLES: [(&str, &str); 2] = [("VLLM_NCCL_SO_PATH", "vLLM"), ("SGLANG_NCCL_SO_PATH", "SGLang")];

/// The exit codes of a shell, and of `env`, for a program that is not there and for one that cannot be started.
const NOT_FOUND: i32 = 127;
const NOT_STARTED: i32 = 126;

/// Becomes the program, or runs it and ends as it did.
pub fn run(options: &Options) -> Result<bool, Failure> {
    let mut command = prepare(options)?;
    if !options.stats {
        return Err(not_started(options, &command.exec()));
    }
    let files = Files::of_environment()?;
    command.env(STATS_FILE, files.pattern());
    let end = child::run(&command)?.map_err(|error| not_started(options, &error))?;
    report(files);
    child::end_as(end)
}

/// The command with its environment. Prints what is set.
fn prepare(options: &Options) -> Result<Command, Failure> {
    let set = variables(options, std::env::var_os("LD_PRELOAD").as_deref())?;
    let mut command = Command::new(&options.command[0]);
    command.args(&options.command[1..]);
    if options.target.is_some() && !options.quiet {
        for (variable, value) in &set {
            let value = value.display();
            match PATH_VARIABLES.iter().find(|(name, _)| name == variable) {
                Some((_, name)) => note!("dime: {variable}={value}: {name} opens the NCCL of this path"),
                None if *variable == "LD_PRELOAD" => {
                    note!("dime: LD_PRELOAD={value}: libdime.so comes before every NCCL that is linked or opened");
                }
                None => {}
            }
        }
    }
    command.envs(set);
    if let Some(framework) = options.target.and_then(|target| target.framework(options)) {
        prepare_framework(&mut command, framework, options);
    }
    Ok(command)
}

/// What the program gets in its environment whatever it is, where `preloaded` is the list of what was preloaded before.
pub fn variables(options: &Options, preloaded: Option<&OsStr>) -> Fallible<Vec<(&'static str, OsString)>> {
    // First: dlopen replaces some of what begins with a dollar sign, too.
    preload::check(&options.paths.dime_file()?)?;
    let dime = options.paths.find_dime()?.into_os_string();
    let mut variables = vec![("LD_PRELOAD", preload::list(&dime, preloaded))];
    variables.extend(PATH_VARIABLES.map(|(name, _)| (name, dime.clone())));
    // Nothing else is decided here: libdime.so searches in the program, whose surroundings are not ours.
    if options.paths.nccl.is_some() {
        variables.push(("DIME_NCCL_LIB", options.paths.find_nccl()?.into_os_string()));
    }
    Ok(variables)
}

impl Target {
    /// The framework that is named, or the one that the command shows. Prints what was concluded from the command.
    fn framework(self, options: &Options) -> Option<Framework> {
        match self {
            Self::Vllm => Some(Framework::Vllm),
            Self::Sglang => Some(Framework::Sglang),
            Self::Trtllm => Some(Framework::Trtllm),
            Self::Auto => {
                let found = detection::framework_of(&options.command);
                if !options.quiet {
                    match &found {
                        Some((framework, word)) => note!("dime: --for auto: {} by {word:?}", framework.name()),
                        None => note!(
                            "dime: --for auto: the command shows none of vllm, sglang and trtllm, so no switch is set; PyTorch needs \
                             none, and --for NAME names a framework"
                        ),
                    }
                }
                found.map(|(framework, _)| framework)
            }
        }
    }
}

/// Sets the framework's switches, and prints what it does and what is left to the user.
fn prepare_framework(command: &mut Command, framework: Framework, options: &Options) {
    for step in framework.steps(&options.command[1..], |variable| std::env::var_os(variable)) {
        if let Step::Set { variable, value, .. } = step {
            command.env(variable, value);
        }
        if step.is_warning() {
            note!("dime: warning: {step}");
        } else if !options.quiet {
            note!("dime: {step}");
        }
    }
}

fn not_started(options: &Options, error: &io::Error) -> Failure {
    let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_STARTED };
    Failure { code, text: format!("cannot start {}: {error}", options.command[0].display()) }
}

/// Prints the counters of all processes that wrote some.
fn report(files: Files) {
    let counts = Counts::of(&files.read());
    drop(files);
    for line in counts.report().lines() {
        note!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_framework_has_a_name_that_for_takes() {
        use clap::ValueEnum;
        let names: Vec<_> = Target::value_variants().iter().filter_map(Target::to_possible_value).collect();
        let names: Vec<&str> = names.iter().map(clap::builder::PossibleValue::get_name).collect();
        assert_eq!(names, ["vllm", "sglang", "trtllm", "auto"]);
    }
}
