//! The frameworks that have an all-reduce of their own, and what has their small all-reduces reach NCCL.
//!
//! A variable is set. A command-line argument is never added to somebody's command: it is named, for the user to add.

use std::ffi::{OsStr, OsString};
use std::fmt;

/// A framework with an all-reduce of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framework {
    Vllm,
    Sglang,
    Trtllm,
}

/// All of them.
pub const FRAMEWORKS: [Framework; 3] = [Framework::Vllm, Framework::Sglang, Framework::Trtllm];

/// An environment variable, and what it does with this value.
struct Switch {
    variable: &'static str,
    value: &'static str,
    effect: &'static str,
}

/// A command-line argument, and what it does.
struct Argument {
    text: &'static str,
    effect: &'static str,
}

/// What one framework needs.
struct Needs {
    name: &'static str,
    /// Programs by which it is started.
    programs: &'static [&'static str],
    /// Its Python package.
    package: &'static str,
    switches: &'static [Switch],
    /// Left as they are, since their default is this value.
    defaults: &'static [Switch],
    /// To be added to the command.
    arguments: &'static [Argument],
    /// Not to be in the command.
    harmful: &'static [Argument],
    /// What is left to do that no variable and no argument does.
    by_hand: Option<Argument>,
}

const VLLM: Needs = Needs {
    name: "vLLM",
    programs: &["vllm"],
    package: "vllm",
    switches: &[
        Switch {
            variable: "VLLM_ALLREDUCE_USE_SYMM_MEM",
            value: "0",
            effect: "vLLM does not use its all-reduce in symmetric memory",
        },
        Switch {
            variable: "VLLM_ALLREDUCE_USE_FLASHINFER",
            value: "0",
            effect: "vLLM does not use FlashInfer's all-reduce",
        },
    ],
    defaults: &[
        Switch { variable: "VLLM_USE_NCCL_SYMM_MEM", value: "0", effect: "vLLM does not use NCCL's symmetric memory" },
        Switch {
            variable: "VLLM_ALLREDUCE_USE_FLASHINFER_PCIE_IPC",
            value: "0",
            effect: "vLLM does not use FlashInfer's all-reduce over PCIe",
        },
    ],
    arguments: &[
        Argument { text: "--disable-custom-all-reduce", effect: "vLLM does not use its custom all-reduce" },
        Argument {
            text: "--compilation-config.pass_config.fuse_allreduce_rms=false",
            effect: "vLLM does not fuse all-reduces with RMSNorm",
        },
    ],
    harmful: &[],
    by_hand: None,
};

const SGLANG: Needs = Needs {
    name: "SGLang",
    programs: &["sglang"],
    package: "sglang",
    switches: &[],
    defaults: &[],
    arguments: &[
        Argument { text: "--disable-custom-all-reduce", effect: "SGLang does not use its custom all-reduce" },
        Argument {
            text: "--enforce-disable-flashinfer-allreduce-fusion",
            effect: "SGLang does not fuse all-reduces by FlashInfer, as it does by itself for some models",
        },
    ],
    harmful: &[
        Argument { text: "--enable-symm-mem", effect: "all-reduces use NCCL's symmetric memory" },
        Argument { text: "--enable-torch-symm-mem", effect: "all-reduces use PyTorch's symmetric memory" },
        Argument { text: "--enable-mscclpp", effect: "all-reduces use MSCCL++" },
        Argument { text: "--enable-flashinfer-allreduce-fusion", effect: "all-reduces are fused by FlashInfer" },
        Argument { text: "--flashinfer-allreduce-fusion-backend", effect: "all-reduces are fused by FlashInfer" },
    ],
    by_hand: None,
};

const TRTLLM: Needs = Needs {
    name: "TensorRT-LLM",
    programs: &["trtllm-serve", "trtllm-bench", "trtllm-eval", "trtllm-llmapi-launch"],
    package: "tensorrt_llm",
    switches: &[],
    defaults: &[],
    arguments: &[],
    harmful: &[],
    by_hand: Some(Argument {
        text: "add the line allreduce_strategy: NCCL to the YAML file of --extra_llm_api_options, or allreduce_strategy=\"NCCL\" to \
               the arguments of LLM() in Python",
        effect: "TensorRT-LLM does not use its own all-reduce",
    }),
};

/// One thing that is done, is to be done, or is in the way.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The variable is set for the command.
    Set { variable: &'static str, value: &'static str, effect: &'static str },
    /// The user has set it like that already.
    IsSet { variable: &'static str, value: &'static str, effect: &'static str },
    /// The user has set it to something else.
    Kept { variable: &'static str, value: OsString, wanted: &'static str, effect: &'static str },
    /// The user is to add an argument to the command.
    Add { argument: &'static str, effect: &'static str },
    /// It is there already.
    IsThere { argument: &'static str, effect: &'static str },
    /// An argument of the command is in the way.
    Harmful { argument: String, effect: &'static str },
    /// The user is to do this.
    ByHand { text: &'static str, effect: &'static str },
}

impl Step {
    /// Whether all-reduces may not reach NCCL because of what the user asked for.
    pub fn is_warning(&self) -> bool {
        matches!(self, Self::Kept { .. } | Self::Harmful { .. })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set { variable, value, effect } => write!(f, "{variable}={value}: {effect}"),
            Self::IsSet { variable, value, effect } => write!(f, "{variable}={value} (set already): {effect}"),
            Self::Kept { variable, value, wanted, effect } => write!(
                f,
                "{variable} stays {value:?}, as it is set; all-reduces may not reach NCCL (with {wanted}, {effect})"
            ),
            Self::Add { argument, effect } => write!(f, "add {argument} to the command: {effect}"),
            Self::IsThere { argument, effect } => write!(f, "{argument} (in the command already): {effect}"),
            Self::Harmful { argument, effect } => {
                write!(f, "{argument} in the command keeps all-reduces from NCCL: {effect}")
            }
            Self::ByHand { text, effect } => write!(f, "{text}: {effect}"),
        }
    }
}

impl Framework {
    const fn needs(self) -> &'static Needs {
        match self {
            Self::Vllm => &VLLM,
            Self::Sglang => &SGLANG,
            Self::Trtllm => &TRTLLM,
        }
    }

    /// As its makers write it.
    pub fn name(self) -> &'static str {
        self.needs().name
    }

    /// Whether a program of this name starts it.
    pub fn has_program(self, name: &str) -> bool {
        self.needs().programs.contains(&name)
    }

    /// Whether this is its package or a module of that: `vllm.entrypoints.openai.api_server`.
    pub fn has_module(self, module: &str) -> bool {
        module.split('.').next() == Some(self.needs().package)
    }

    /// What to do for a command with these arguments in an environment.
    pub fn steps(self, words: &[OsString], environment: impl Fn(&str) -> Option<OsString>) -> Vec<Step> {
        let needs = self.needs();
        let switches = needs.switches.iter().map(|&Switch { variable, value, effect }| {
            match environment(variable).filter(|text| !text.is_empty()) {
                None => Step::Set { variable, value, effect },
                Some(text) if text == value => Step::IsSet { variable, value, effect },
                Some(text) => Step::Kept { variable, value: text, wanted: value, effect },
            }
        });
        let defaults = needs.defaults.iter().filter_map(|&Switch { variable, value, effect }| {
            let text = environment(variable).filter(|text| !text.is_empty() && text != value)?;
            Some(Step::Kept { variable, value: text, wanted: value, effect })
        });
        let arguments = needs.arguments.iter().map(|&Argument { text, effect }| match Given::find(text, words) {
            Given::No => Step::Add { argument: text, effect },
            Given::Yes => Step::IsThere { argument: text, effect },
            Given::Otherwise(argument) => Step::Harmful { argument, effect: "with false, all-reduces are not fused" },
        });
        let harmful = needs.harmful.iter().filter_map(|&Argument { text, effect }| {
            let is_given = words.iter().any(|word| same_name(word, text));
            is_given.then(|| Step::Harmful { argument: text.to_owned(), effect })
        });
        let by_hand = needs.by_hand.iter().map(|&Argument { text, effect }| Step::ByHand { text, effect });
        switches.chain(defaults).chain(arguments).chain(harmful).chain(by_hand).collect()
    }
}

/// Whether a command has an argument.
enum Given {
    No,
    Yes,
    /// With another value, which is here with the argument.
    Otherwise(String),
}

impl Given {
    fn find(argument: &str, words: &[OsString]) -> Self {
        let Some((option, _)) = argument.split_once('=') else {
            return if words.iter().any(|word| same_name(word, argument)) { Self::Yes } else { Self::No };
        };
        // An option with a path in it has other spellings, -cc.pass_config.x and JSON, so its last name is looked for. The value is
        // behind it or the next word.
        let last = option.rsplit('.').next().unwrap_or(option);
        for (at, word) in words.iter().enumerate() {
            let word = word.to_string_lossy();
            let Some(found) = word.find(last) else { continue };
            let behind = word[found + last.len()..].trim_start_matches(['"', '\'', ':', '=', ' ']);
            let next = words.get(at + 1).map(|next| next.to_string_lossy().into_owned()).unwrap_or_default();
            let value = if behind.is_empty() { next.as_str() } else { behind };
            let is_off = ["false", "0"].iter().any(|off| value.to_ascii_lowercase().starts_with(off));
            return if is_off { Self::Yes } else { Self::Otherwise(word.into_owned()) };
        }
        Self::No
    }
}

/// Whether a word of a command is an option of this name, with a value behind `=` or without. The frameworks take an underscore for a
/// hyphen.
fn same_name(word: &OsStr, option: &str) -> bool {
    let word = word.to_string_lossy();
    word.split('=').next().is_some_and(|name| name.replace('_', "-") == option)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    fn lines(framework: Framework, command: &str, variables: &[(&str, &str)]) -> Vec<String> {
        let lookup = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        framework.steps(&words(command), lookup).iter().map(Step::to_string).collect()
    }

    #[test]
    fn a_variable_that_the_user_has_set_is_kept_and_warned_about_if_it_differs() {
        let switch = &VLLM.switches[0];
        for (value, is_set, is_warning) in [(None, true, false), (Some("0"), false, false), (Some("1"), false, true)] {
            let steps = Framework::Vllm.steps(&[], |name| value.filter(|_| name == switch.variable).map(Into::into));
            assert_eq!(matches!(steps[0], Step::Set { .. }), is_set, "{value:?}");
            assert_eq!(steps[0].is_warning(), is_warning, "{value:?}");
        }
        // An empty one counts as not set.
        assert!(matches!(Framework::Vllm.steps(&[], |_| Some("".into()))[0], Step::Set { .. }));
    }

    #[test]
    fn a_variable_whose_default_is_right_is_a_warning_if_it_is_set_otherwise_and_else_not_named() {
        let names = |text: &str| text.contains("VLLM_USE_NCCL_SYMM_MEM");
        for (value, words) in [("1", 1), ("0", 0), ("", 0)] {
            let all = lines(Framework::Vllm, "serve model", &[("VLLM_USE_NCCL_SYMM_MEM", value)]);
            assert_eq!(all.iter().filter(|line| names(line) && line.contains("stays")).count(), words, "{all:?}");
        }
        assert!(!lines(Framework::Vllm, "serve model", &[]).iter().any(|line| names(line)));
    }

    #[test]
    fn an_argument_is_named_unless_the_command_has_it() {
        let all = lines(Framework::Vllm, "serve model", &[]);
        assert!(all[2].starts_with("add --disable-custom-all-reduce to the command: "), "{all:?}");
        assert!(all[3].starts_with("add --compilation-config.pass_config.fuse_allreduce_rms=false "), "{all:?}");
        for spelled in ["--disable-custom-all-reduce", "--disable_custom_all_reduce"] {
            let all = lines(Framework::Vllm, spelled, &[]);
            assert!(all[2].starts_with("--disable-custom-all-reduce (in the command already)"), "{all:?}");
        }
    }

    #[test]
    fn the_fusion_of_vllm_is_found_in_each_spelling() {
        for (command, is_off) in [
            ("-cc.pass_config.fuse_allreduce_rms=False", true),
            ("--compilation-config.pass_config.fuse_allreduce_rms false", true),
            ("--compilation-config {\"pass_config\":{\"fuse_allreduce_rms\":false}}", true),
            ("--compilation-config {\"pass_config\":{\"fuse_allreduce_rms\":true}}", false),
            ("-cc.pass_config.fuse_allreduce_rms=True", false),
            ("--compilation-config.pass_config.fuse_allreduce_rms", false),
        ] {
            let step = &Framework::Vllm.steps(&words(command), |_| None)[3];
            assert_eq!(matches!(step, Step::IsThere { .. }), is_off, "{command}: {step}");
            assert_eq!(step.is_warning(), !is_off, "{command}: {step}");
        }
    }

    #[test]
    fn an_argument_that_keeps_all_reduces_from_nccl_is_a_warning() {
        for argument in ["--enable-symm-mem", "--enable_symm_mem", "--flashinfer-allreduce-fusion-backend=auto"] {
            let steps = Framework::Sglang.steps(&words(argument), |_| None);
            assert_eq!(steps.iter().filter(|step| step.is_warning()).count(), 1, "{steps:?}");
        }
        assert!(!Framework::Sglang.steps(&words("--tp 4"), |_| None).iter().any(Step::is_warning));
    }

    #[test]
    fn tensorrt_llm_takes_its_strategy_from_a_file() {
        let all = lines(Framework::Trtllm, "model", &[]);
        assert!(all.len() == 1 && all[0].contains("allreduce_strategy: NCCL"), "{all:?}");
    }
}
