//! Which framework a command starts, as far as its words tell.
//!
//! The words are read as a launcher reads them: `env A=1 torchrun --nproc-per-node 2 -m sglang.launch_server` has two launchers, then a
//! module. What a script or a shell does is not looked at.

use std::ffi::OsString;
use std::path::Path;

use crate::run::framework::{FRAMEWORKS, Framework};

/// Programs that start the program which is named behind their own options.
const LAUNCHERS: [&str; 20] = [
    "accelerate",
    "chrt",
    "deepspeed",
    "env",
    "ionice",
    "mpiexec",
    "mpirun",
    "nice",
    "nohup",
    "nsys",
    "numactl",
    "setsid",
    "srun",
    "stdbuf",
    "taskset",
    "time",
    "timeout",
    "torchrun",
    "uv",
    "uvx",
];
/// Python modules that start another program, as `python -m` of them.
const LAUNCHER_MODULES: [&str; 4] =
    ["accelerate.commands.launch", "torch.distributed.launch", "torch.distributed.run", "torch.distributed.launcher"];

/// The framework, and the word that shows it.
pub fn framework_of(command: &[OsString]) -> Option<(Framework, String)> {
    let mut words = command.iter().map(|word| word.to_string_lossy().into_owned());
    let program = words.next()?;
    match kind_of(&program) {
        Kind::Of(framework) => Some((framework, program)),
        Kind::Python => of_python(&mut words),
        Kind::Launcher => of_launcher(&mut words),
        Kind::Other => None,
    }
}

/// What a program is, by the name of its file.
enum Kind {
    Of(Framework),
    Python,
    Launcher,
    Other,
}

fn kind_of(program: &str) -> Kind {
    let name = Path::new(program).file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    if let Some(framework) = FRAMEWORKS.into_iter().find(|framework| framework.has_program(&name)) {
        return Kind::Of(framework);
    }
    let version = name.strip_prefix("python").or_else(|| name.strip_prefix("pypy"));
    match version {
        Some(version) if version.chars().all(|letter| letter.is_ascii_digit() || letter == '.') => Kind::Python,
        _ if LAUNCHERS.contains(&&*name) => Kind::Launcher,
        _ => Kind::Other,
    }
}

/// Behind `python`: its options, then a module, a script or code.
fn of_python(words: &mut dyn Iterator<Item = String>) -> Option<(Framework, String)> {
    while let Some(word) = words.next() {
        match word.as_str() {
            "-m" => {
                let module = words.next()?;
                if LAUNCHER_MODULES.contains(&module.as_str()) {
                    return of_launcher(words);
                }
                return of_module(module);
            }
            "-c" => return None,
            // Options with a value.
            "-W" | "-X" | "--check-hash-based-pycs" => drop(words.next()),
            option if option.starts_with("-m") && option.len() > 2 => return of_module(option[2..].to_owned()),
            option if option.starts_with('-') => {}
            _ => return of_script(word),
        }
    }
    None
}

/// Behind a launcher: its options, whose values nobody here knows, then what it starts. The first word that can be that is taken.
fn of_launcher(words: &mut dyn Iterator<Item = String>) -> Option<(Framework, String)> {
    while let Some(word) = words.next() {
        if word.starts_with('-') {
            continue;
        }
        match kind_of(&word) {
            Kind::Of(framework) => return Some((framework, word)),
            Kind::Python => return of_python(words),
            Kind::Launcher => {}
            Kind::Other if word.ends_with(".py") => return of_script(word),
            Kind::Other => {
                if word.contains('.')
                    && let Some(found) = of_module(word)
                {
                    return Some(found);
                }
            }
        }
    }
    None
}

fn of_module(module: String) -> Option<(Framework, String)> {
    let framework = FRAMEWORKS.into_iter().find(|framework| framework.has_module(&module))?;
    Some((framework, module))
}

/// A program of the framework's, or a file in a folder of its package.
fn of_script(script: String) -> Option<(Framework, String)> {
    if let Kind::Of(framework) = kind_of(&script) {
        return Some((framework, script));
    }
    let folders: Vec<String> = Path::new(&script)
        .parent()?
        .components()
        .map(|folder| folder.as_os_str().to_string_lossy().into_owned())
        .collect();
    let framework =
        FRAMEWORKS.into_iter().find(|framework| folders.iter().any(|folder| framework.has_module(folder)))?;
    Some((framework, script))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(command: &str) -> Option<Framework> {
        let words: Vec<OsString> = command.split_whitespace().map(OsString::from).collect();
        framework_of(&words).map(|(framework, _)| framework)
    }

    #[test]
    fn a_framework_is_found_however_it_is_started() {
        use Framework::{Sglang, Trtllm, Vllm};
        for (command, framework) in [
            ("vllm serve model", Vllm),
            ("/venv/bin/vllm bench latency", Vllm),
            ("python -m vllm.entrypoints.openai.api_server --model m", Vllm),
            ("python3.12 -u -X dev -W ignore -m vllm.entrypoints.cli.main serve m", Vllm),
            ("/venv/bin/python /venv/bin/vllm serve m", Vllm),
            ("python /opt/vllm/benchmarks/benchmark_latency.py", Vllm),
            ("python -mvllm.entrypoints.openai.api_server", Vllm),
            ("numactl -N 0 -m 0 vllm serve m", Vllm),
            ("env A=1 nice -n 5 python -m sglang.launch_server --tp 2", Sglang),
            ("sglang serve --model-path m", Sglang),
            ("torchrun --nproc-per-node 2 -m sglang.launch_server", Sglang),
            ("torchrun -m --nproc-per-node=2 sglang.bench_one_batch", Sglang),
            ("python -m torch.distributed.run --nproc-per-node 2 -m vllm.x", Vllm),
            ("mpirun -n 4 --allow-run-as-root trtllm-llmapi-launch trtllm-serve m", Trtllm),
            ("trtllm-serve model --tp_size 4", Trtllm),
            ("python -m tensorrt_llm.commands.serve m", Trtllm),
        ] {
            assert_eq!(found(command), Some(framework), "{command}");
        }
    }

    #[test]
    fn other_commands_are_no_framework() {
        for command in [
            "python train.py --backend vllm",
            "python -c import_vllm",
            "python -m train vllm",
            "python -m vllmish.main",
            "torchrun --nproc-per-node 2 train.py vllm",
            "python -m torch.distributed.run train.py --with vllm",
            "bash -c vllm",
            "pythonic vllm",
            "python",
            "./vllm.sh",
            "echo vllm",
        ] {
            assert_eq!(found(command), None, "{command}");
        }
        assert_eq!(framework_of(&[]), None);
    }
}
