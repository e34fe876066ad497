//! The GPUs of this machine or, where there are none, the simulated node.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use dime_harness::output::note;
use dime_harness::team::ask_child;
use dime_harness::{Fallible, cuda};

/// What this process sees.
pub struct Node {
    pub gpus: usize,
    /// Name of the first GPU.
    pub gpu: String,
    pub is_simulated: bool,
}

/// Names the folder with the simulated node.
const FOLDER_VARIABLE: &str = "DIME_SIM_DIR";
/// Tells the program that starts again why it does.
const REASON_VARIABLE: &str = "DIME_BENCH_SIMULATED_BECAUSE";

impl Node {
    /// The GPUs here. Without any, this program starts again on the simulated node, if that is there.
    pub fn find_or_simulate() -> Fallible<Node> {
        let reason = match Node::find() {
            Ok(node) if node.gpus > 0 => return Ok(node),
            Ok(_) => "no GPU here".to_owned(),
            Err(error) => error,
        };
        let way_out = format!("`make sim` builds a simulated node, and {FOLDER_VARIABLE} names its folder");
        let folder = folder().ok_or_else(|| format!("{reason}; {way_out}"))?;
        if is_in_use(&folder) {
            return Err(format!("{reason}, though the simulated node of {} is in use", folder.display()));
        }
        Err(start_again(&folder, &reason))
    }

    /// Says in a line that times mean nothing, where that is so.
    pub fn warn(&self) {
        if self.is_simulated {
            let reason = std::env::var(REASON_VARIABLE).map_or_else(|_| String::new(), |reason| format!("{reason}: "));
            note!(
                "dime: {reason}this is the simulated node: times mean nothing, and each is taken from few operations on \
                 small messages"
            );
        }
    }

    /// Asks the driver in a child: this process is going to fork.
    fn find() -> Fallible<Node> {
        let answer = ask_child(|| {
            cuda::init()?;
            let gpus = cuda::device_count()?;
            let gpu = if gpus == 0 { String::new() } else { cuda::device_name(0)? };
            Ok(format!("{gpus}\n{}\n{gpu}", cuda::is_simulated()).into_bytes())
        })?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let mut lines = text.lines();
        let gpus = lines.next().and_then(|count| count.parse().ok()).ok_or("no answer about the GPUs")?;
        let is_simulated = lines.next() == Some("true");
        Ok(Node { gpus, is_simulated, gpu: lines.next().unwrap_or_default().to_owned() })
    }
}

/// The folder that DIME_SIM_DIR names, else the folder sim beside this program or beside its folder.
fn folder() -> Option<PathBuf> {
    let is_node = |folder: &PathBuf| ["libcuda.so.1", "libnccl.so.2"].iter().all(|name| folder.join(name).is_file());
    if let Some(folder) = std::env::var_os(FOLDER_VARIABLE) {
        return std::fs::canonicalize(folder).ok().filter(is_node);
    }
    let program = std::env::current_exe().ok()?;
    let places = program.ancestors().skip(1).take(2).map(|place| place.join("sim"));
    places.filter_map(|place| std::fs::canonicalize(place).ok()).find(is_node)
}

fn is_in_use(folder: &Path) -> bool {
    let searched = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    std::env::split_paths(&searched).next().is_some_and(|first| first == folder)
}

/// Replaces this process by one that the loader gives the simulated driver. Returns why that failed.
fn start_again(folder: &Path, reason: &str) -> String {
    let searched = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let searched = std::env::join_paths([folder.to_path_buf()].into_iter().chain(std::env::split_paths(&searched)));
    let (program, searched) = match (std::env::current_exe(), searched) {
        (Ok(program), Ok(searched)) => (program, searched),
        (Err(error), _) => return format!("this program: {error}"),
        (_, Err(error)) => return format!("{}: {error}", folder.display()),
    };
    let mut command = Command::new(&program);
    command.args(std::env::args_os().skip(1)).env("LD_LIBRARY_PATH", searched);
    command.env("DIME_NCCL_LIB", folder.join("libnccl.so.2")).env(REASON_VARIABLE, reason);
    format!("cannot start {} again: {}", program.display(), command.exec())
}
