//! `dime doctor`: looks at everything that decides whether all-reduces here would be fast, and says what to do where they would not.

mod child;
mod confinement;
mod elf;
mod frameworks;
mod gpus;
mod images;
mod libraries;
mod program;
mod python;
mod report;
mod routes;
mod sharing;
mod surroundings;
mod tuning;

use std::ffi::OsString;
use std::io::{self, IsTerminal};

use dime_harness::command::Failure;
use dime_harness::locate::Paths;
use dime_harness::output::{print, say};

use self::gpus::Machine;
use self::libraries::Subject;
use self::report::{Report, Section, Status};
use self::surroundings::Surroundings;

/// Options of `dime doctor`.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    paths: Paths,
    /// Print one JSON object (docs/doctor.md has its fields)
    #[arg(long)]
    json: bool,
    /// Do one part of the work in this process, and tell the doctor that started it
    #[arg(long, hide = true)]
    part: Option<Part>,
    /// Which of two processes that share this is
    #[arg(long, hide = true, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..2))]
    side: u8,
    /// A program and its arguments: look at what it would load, without starting it
    #[arg(trailing_var_arg = true)]
    command: Vec<OsString>,
}

/// Parts that are done in processes of their own, for they may hang, die, or leave something behind.
#[derive(clap::ValueEnum, Clone, Copy)]
enum Part {
    Nccl,
    Gpus,
    SharePage,
    ShareGpu,
}

/// Looks, and prints what it found. False: something does not work.
pub fn run(options: &Options) -> Result<bool, Failure> {
    if let Some(part) = options.part {
        child::tell(match part {
            Part::Nccl => libraries::part_nccl(&options.paths),
            Part::Gpus => gpus::part_gpus(),
            Part::SharePage => sharing::part(options.side.into(), false),
            Part::ShareGpu => sharing::part(options.side.into(), true),
        });
        return Ok(true);
    }
    let report = look(options);
    if options.json {
        say!("{}", report.json())?;
    } else {
        let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        print(report.text(colours))?;
    }
    Ok(report.status() != Status::Fail)
}

fn look(options: &Options) -> Report {
    let subject = Subject::find(&options.paths, &options.command);
    let machine = Machine::ask();
    let surroundings = Surroundings::read();
    let mut sections = vec![libraries::section(&subject)];
    match &machine {
        Ok(machine) => {
            sections.push(gpus::section(machine, subject.dime.as_deref().ok()));
            sections.push(gpus::links(machine, surroundings.allows_pcie));
        }
        Err(why) => {
            sections.push(Section { name: "gpus", title: "Driver and GPUs", checks: vec![gpus::absent(why)] });
        }
    }
    sections.push(sharing::section(machine.as_ref().ok()));
    sections.push(surroundings::section());
    sections.push(frameworks::section(subject.python.as_ref(), &options.command));
    let arch = machine
        .as_ref()
        .ok()
        .and_then(|machine| machine.largest_set(surroundings.allows_pcie).first().map(|gpu| gpu.arch));
    sections.push(tuning::section(surroundings.tuning.as_ref(), arch));
    if let Ok(machine) = &machine {
        sections.push(routes::section(machine, &surroundings));
    }
    Report(sections)
}
