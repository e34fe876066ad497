//! Frameworks in the Python environment, and the switches that let their all-reduces reach NCCL, and so Dime.

use std::ffi::OsString;
use std::path::Path;

use dime_harness::Fallible;

use crate::doctor::elf;
use crate::doctor::python::Python;
use crate::doctor::report::{Check, Section};

/// A framework and what it needs.
struct Framework {
    /// The name of its metadata folder.
    package: &'static str,
    shown: &'static str,
    /// What its small all-reduces use by default; None: NCCL.
    default: Option<&'static str>,
    /// Words of a command line that let them reach NCCL.
    arguments: &'static [&'static str],
    /// Words of a command line that keep them from it.
    contrary: &'static [&'static str],
    /// Variables and their values that let them reach NCCL.
    variables: &'static [(&'static str, &'static str)],
    /// A variable that names the NCCL to open, before what is preloaded.
    library: Option<&'static str>,
    /// What else there is to do, where nothing of the above can be seen.
    other: Option<&'static str>,
}

const FRAMEWORKS: [Framework; 5] = [
    Framework {
        package: "torch",
        shown: "PyTorch",
        default: None,
        arguments: &[],
        contrary: &[],
        variables: &[],
        library: None,
        other: None,
    },
    Framework {
        package: "vllm",
        shown: "vLLM",
        default: Some("kernels of its own"),
        arguments: &["--disable-custom-all-reduce"],
        contrary: &[],
        variables: &[("VLLM_ALLREDUCE_USE_SYMM_MEM", "0"), ("VLLM_ALLREDUCE_USE_FLASHINFER", "0")],
        library: Some("VLLM_NCCL_SO_PATH"),
        other: Some("leave the compilation pass fuse_allreduce_rms off"),
    },
    Framework {
        package: "sglang",
        shown: "SGLang",
        default: Some("kernels of its own"),
        arguments: &["--disable-custom-all-reduce"],
        contrary: &["--enable-symm-mem", "--enable-flashinfer-allreduce-fusion"],
        variables: &[],
        library: Some("SGLANG_NCCL_SO_PATH"),
        other: None,
    },
    Framework {
        package: "tensorrt_llm",
        shown: "TensorRT-LLM",
        default: Some("kernels of its own"),
        arguments: &[],
        contrary: &[],
        variables: &[],
        library: None,
        other: Some("set its all-reduce strategy to NCCL"),
    },
    Framework {
        package: "jax",
        shown: "JAX",
        default: Some("kernels of XLA where one process has all GPUs"),
        arguments: &[],
        contrary: &[],
        variables: &[],
        library: None,
        other: Some("start one process for each GPU"),
    },
];

impl Framework {
    fn check(
        &self,
        version: &str,
        folder: &str,
        command: &[OsString],
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Check {
        let text = format!("{} {version}", self.shown);
        let check = match self.default {
            None => Check::ok("framework", format!("{text}: its all-reduces go to NCCL, no switch is needed")),
            Some(default) => {
                let has = |word: &&&str| command.iter().any(|argument| argument == **word);
                let missing = self.arguments.iter().filter(|word| !has(word)).map(|word| (*word).to_owned());
                let unset =
                    self.variables.iter().filter(|(name, value)| variable(name).is_none_or(|set| set != *value));
                let unset = unset.map(|(name, value)| format!("{name}={value}"));
                let contrary = self.contrary.iter().filter(has).map(|word| format!("no {word}"));
                let library =
                    self.library.and_then(|name| Some((name, variable(name).filter(|path| !path.is_empty())?)));
                let passed_by = library.filter(|(_, path)| !elf::defines(Path::new(path), "dimeVersion"));
                let passed_by =
                    passed_by.map(|(name, path)| format!("{name}=/path/to/libdime.so instead of {}", path.display()));
                let mut lacking: Vec<String> = missing.chain(unset).chain(contrary).chain(passed_by).collect();
                // What only the program itself shows cannot be found right here; where other switches are right, it is a detail.
                let has_switches = !self.arguments.is_empty() || !self.variables.is_empty();
                if has_switches && lacking.is_empty() {
                    Check::ok("framework", format!("{text}: the switches are set that let its all-reduces reach NCCL"))
                        .details(self.other)
                } else {
                    lacking.extend(self.other.map(str::to_owned));
                    Check::warn(
                        "framework",
                        format!("{text}: by default its small all-reduces use {default}, and Dime does not see them"),
                        format!("to let them reach NCCL: {}", lacking.join(", ")),
                    )
                }
            }
        };
        check.with("package", self.package).with("version", version).with("folder", folder)
    }
}

/// The frameworks of an environment. None: there is no Python.
pub fn section(python: Option<&Fallible<Python>>, command: &[OsString]) -> Section {
    let checks = match python {
        None => vec![Check::warn(
            "python",
            "there is no Python: frameworks were not looked for",
            "activate the environment, or name the program: dime doctor -- COMMAND",
        )],
        Some(Err(error)) => vec![Check::warn(
            "python",
            format!("frameworks were not looked for: {error}"),
            "see whether this interpreter starts",
        )],
        Some(Ok(python)) => {
            let prefix = python.prefix.display().to_string();
            let found: Vec<Check> = FRAMEWORKS
                .iter()
                .filter_map(|framework| {
                    let package = python.package(framework.package)?;
                    let folder = package.folder.display().to_string();
                    Some(framework.check(&package.version, &folder, command, |name| python.program.variable(name)))
                })
                .collect();
            let names: Vec<&str> = FRAMEWORKS.iter().map(|framework| framework.package).collect();
            let text = match found.len() {
                0 => format!("{prefix} has none of {}", names.join(", ")),
                count => format!("{prefix} has {count} of {}", names.join(", ")),
            };
            let path = python.program.path.display().to_string();
            std::iter::once(Check::ok("python", text).with("prefix", prefix).with("interpreter", path))
                .chain(found)
                .collect()
        }
    };
    Section { name: "frameworks", title: "Frameworks", checks }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Status;

    fn status(package: &str, command: &str, variables: &[(&str, &str)]) -> Status {
        let framework = FRAMEWORKS.iter().find(|framework| framework.package == package).expect("a framework");
        let command: Vec<OsString> = command.split(' ').map(OsString::from).collect();
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
        framework.check("1.0", "/x", &command, variable).status()
    }

    #[test]
    fn a_framework_is_right_with_all_of_its_switches_only() {
        let both = [("VLLM_ALLREDUCE_USE_SYMM_MEM", "0"), ("VLLM_ALLREDUCE_USE_FLASHINFER", "0")];
        assert_eq!(status("vllm", "serve --disable-custom-all-reduce", &both), Status::Ok);
        assert_eq!(status("vllm", "serve --disable-custom-all-reduce", &both[..1]), Status::Warn);
        assert_eq!(status("vllm", "serve", &both), Status::Warn);
        assert_eq!(status("sglang", "--disable-custom-all-reduce", &[]), Status::Ok);
        assert_eq!(status("sglang", "--disable-custom-all-reduce --enable-symm-mem", &[]), Status::Warn);
        let nccl = [("SGLANG_NCCL_SO_PATH", "/proc/self/exe")];
        assert_eq!(status("sglang", "--disable-custom-all-reduce", &nccl), Status::Warn);
        assert_eq!(status("torch", "", &[]), Status::Ok);
        assert_eq!(status("jax", "", &[]), Status::Warn);
    }
}
