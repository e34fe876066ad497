//! Writes the generated files of the repository: the headers in include/, from the exported functions, and
//! docs/configuration.md, from the table of variables.
//!
//! Usage, in the root of the repository:
//!   dime-headers write             writes them
//!   dime-headers check             fails when one of them is not what would be written

use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::{env, fs};

#[path = "../../../src/kernel/catalogue.rs"]
#[allow(dead_code)]
mod catalogue;
#[path = "../../../src/host/config.rs"]
#[allow(dead_code)]
mod config;

/// The module that config.rs imports in the library.
mod kernel {
    pub(crate) use crate::catalogue;
}

const LICENSE: &str = "/* SPDX-License-Identifier: MIT OR Apache-2.0\n * Written by tools/headers: do not edit. */";

/// A header: its path, and the sources that declare its types and functions.
struct Header {
    path: &'static str,
    guard: &'static str,
    about: &'static str,
    types: Option<&'static str>,
    functions: &'static [&'static str],
    /// Text before and after what cbindgen writes: what only the preprocessor can express.
    begin: &'static str,
    end: &'static str,
}

/// The types of nccl.h, which declares NCCL 2.27 or, with a macro, 2.32.
const NCCL_TYPES: &str = "src/nccl/header.rs";
/// The condition in nccl.h for what is newer than 2.27.
const SINCE_2_28: &str = "NCCL_VERSION_CODE >= 22800";

const HEADERS: &[Header] = &[
    Header {
        path: "include/nccl.h",
        // NCCL's own guard: if a program includes both headers, the first one counts.
        guard: "NCCL_H_",
        about: "NCCL's interface as libdime.so exports it: that of NCCL 2.27, with DIME_NCCL_API=23203 that of 2.32. A function that\n * \
                the loaded NCCL lacks returns ncclInvalidUsage, and ncclGetLastError names the release that has it.",
        types: Some(NCCL_TYPES),
        functions: &[
            "src/api/library.rs",
            "src/api/communicators.rs",
            "src/api/communicator_queries.rs",
            "src/api/memory.rs",
            "src/api/windows.rs",
            "src/api/reduction_ops.rs",
            "src/api/collectives.rs",
            "src/api/configured_collectives.rs",
            "src/api/point_to_point.rs",
            "src/api/one_sided.rs",
            "src/api/groups.rs",
            "src/api/params.rs",
        ],
        begin: include_str!("../text/nccl_begin.h"),
        end: include_str!("../text/nccl_end.h"),
    },
    Header {
        path: "include/nccl_device_host.h",
        guard: "DIME_NCCL_DEVICE_HOST_H",
        about: "The host functions of NCCL's device API as libdime.so exports them. Programs with device code include NCCL's own\n * \
                nccl_device.h, never both.",
        types: Some("src/nccl/device_header.rs"),
        functions: &["src/api/device_communicators.rs", "src/api/device_pointers.rs", "src/api/teams.rs"],
        begin: "#include \"nccl.h\"\n",
        end: "",
    },
    Header {
        path: "include/dime.h",
        guard: "DIME_H",
        about: "What libdime.so says about itself. A program that also runs with the plain NCCL looks these up with dlsym.",
        types: None,
        functions: &["src/api/dime.rs"],
        begin: "#include \"nccl.h\"\n",
        end: "",
    },
];

/// Second names of enumerators. In C two enumerators may have one value, in Rust they may not, so these are added to
/// what cbindgen writes.
const ALIASES: &[(&str, &str)] = &[
    ("ncclInt8", "ncclChar"),
    ("ncclInt32", "ncclInt"),
    ("ncclFloat16", "ncclHalf"),
    ("ncclFloat32", "ncclFloat"),
    ("ncclFloat64", "ncclDouble"),
];

fn main() -> ExitCode {
    let result = match env::args().nth(1).as_deref() {
        Some("write") => write(),
        Some("check") => check(),
        _ => Err("usage: dime-headers write | check".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dime-headers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write() -> Result<(), Box<dyn Error>> {
    for (path, text) in generated()? {
        fs::write(path, text).map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(())
}

fn check() -> Result<(), Box<dyn Error>> {
    let mut stale = Vec::new();
    for (path, text) in generated()? {
        let committed = fs::read_to_string(path).unwrap_or_default();
        if committed == text {
            continue;
        }
        let line = committed.lines().zip(text.lines()).take_while(|(old, new)| old == new).count();
        stale.push(format!(
            "{path} is not what its sources say, from line {} on:\n  is:     {}\n  should: {}",
            line + 1,
            committed.lines().nth(line).unwrap_or("(end)"),
            text.lines().nth(line).unwrap_or("(end)"),
        ));
    }
    if stale.is_empty() { Ok(()) } else { Err(format!("{}\n`make headers` writes them", stale.join("\n")).into()) }
}

/// Path and text of each generated file.
fn generated() -> Result<Vec<(&'static str, String)>, Box<dyn Error>> {
    let mut files = Vec::new();
    for header in HEADERS {
        files.push((header.path, header_text(header)?));
    }
    files.push(("include/nccl_device.h", format!("{LICENSE}\n{}", include_str!("../text/nccl_device.h"))));
    files.push(("docs/configuration.md", configuration_text()?));
    Ok(files)
}

fn header_text(header: &Header) -> Result<String, Box<dyn Error>> {
    let types = header.types.map_or(Ok(String::new()), types_text)?;
    let mut config = cbindgen::Config::from_file("cbindgen.toml")?;
    config.header = Some(format!("{LICENSE}\n/* {} */", header.about));
    config.include_guard = Some(header.guard.to_owned());
    config.after_includes = Some(format!("{}\n{types}", header.begin));
    config.trailer = Some(header.end.to_owned());
    let text = bindings(config, header.functions)?;
    if header.types != Some(NCCL_TYPES) {
        return Ok(text);
    }
    let text = text
        // For a marked field cbindgen writes the semicolon outside the condition, where C allows none on its own.
        .replace("\n#endif\n    ;\n", ";\n#endif\n")
        .replace("!defined(DIME_SINCE_2_28)", "NCCL_VERSION_CODE < 22800")
        .replace("defined(DIME_SINCE_2_28)", SINCE_2_28)
        // The struct's tag differs between the two interfaces too.
        .replace("ncclConfig_v23100 ", "DIME_NCCL_CONFIG ")
        .replace("ncclConfig_v23100;", "DIME_NCCL_CONFIG;");
    with_conditions(&text)
}

/// Puts functions that are newer than 2.27 under a condition, as cbindgen does with marked types.
fn with_conditions(text: &str) -> Result<String, Box<dyn Error>> {
    let newer = newer_functions()?;
    let mut out: Vec<String> = Vec::new();
    let mut is_open = false;
    for paragraph in text.split("\n\n") {
        let is_newer = declared_function(paragraph).is_some_and(|name| newer.iter().any(|newer| newer == name));
        if is_newer != is_open {
            out.push(if is_newer { format!("#if {SINCE_2_28}") } else { "#endif".to_owned() });
            is_open = is_newer;
        }
        out.push(paragraph.to_owned());
    }
    if is_open { Err("the header ends with a function".into()) } else { Ok(out.join("\n\n")) }
}

/// The function that a paragraph of a header declares; for a `pnccl` twin, the name without the `p`.
fn declared_function(paragraph: &str) -> Option<&str> {
    let declaration = paragraph.rsplit("*/\n").next().filter(|_| paragraph.starts_with("/**"))?;
    let before = declaration.split_once('(')?.0;
    let name = before.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    let name = name.strip_prefix('p').unwrap_or(name);
    name.strip_prefix("nccl").is_some_and(|rest| rest.starts_with(char::is_uppercase)).then_some(name)
}

/// The functions that NCCL has since 2.28 or later, by the table in src/real/functions.rs.
fn newer_functions() -> Result<Vec<String>, Box<dyn Error>> {
    let mut newer = Vec::new();
    let mut count = 0;
    for line in fs::read_to_string("src/real/functions.rs")?.lines() {
        let Some((release, rest)) = line.trim().strip_prefix('"').and_then(|line| line.split_once("\" fn ")) else {
            continue;
        };
        let name = rest.split('(').next().unwrap_or_default();
        let minor: u32 = release.split('.').nth(1).ok_or("a release has a minor number")?.parse()?;
        count += 1;
        if minor >= 28 {
            newer.push(name.to_owned());
        }
    }
    if newer.is_empty() || newer.len() == count { Err("src/real/functions.rs has no table".into()) } else { Ok(newer) }
}

/// The types go through cbindgen separately. When cbindgen sees an enum together with a function that takes it, it
/// writes `enum T` in the prototype, which is another type than NCCL's unnamed enum.
fn types_text(source: &str) -> Result<String, Box<dyn Error>> {
    let mut config = cbindgen::Config::from_file("cbindgen.toml")?;
    config.cpp_compat = false;
    // Without functions cbindgen drops all types as unreachable, so each is named.
    for line in fs::read_to_string(source)?.lines() {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        if words.next() == Some("pub") && matches!(words.next(), Some("struct" | "enum" | "union" | "type")) {
            config.export.include.extend(words.next().map(str::to_owned));
        }
    }
    Ok(with_aliases(&bindings(config, &[source])?))
}

fn bindings(config: cbindgen::Config, sources: &[&str]) -> Result<String, Box<dyn Error>> {
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in sources {
        builder = builder.with_src(source);
    }
    let mut text = Vec::new();
    builder.generate()?.write(&mut text);
    Ok(String::from_utf8(text)?)
}

fn with_aliases(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        out.push_str(line);
        out.push('\n');
        let Some((name, value)) = line.split_once(" = ") else { continue };
        if let Some((_, alias)) = ALIASES.iter().find(|(of, _)| *of == name.trim_start()) {
            let indent = &name[..name.len() - name.trim_start().len()];
            out.push_str(&format!("{indent}{alias} = {value}\n"));
        }
    }
    out
}

fn configuration_text() -> Result<String, Box<dyn Error>> {
    let mut text = String::from(
        "# Configuration\n\n\
         Dime needs none. These environment variables change what it does; they are read at the first call and when a\n\
         communicator is set up, never in the path of a call. A value that cannot be used is a warning in the log\n\
         (`DIME_DEBUG=warn` shows it) and the\n\
         default stays; so is a variable that begins with `DIME_` and is not in this table. An unusable `DIME_DEBUG` is an error, which\n\
         the log always shows. An empty value counts as not set.\n\n\
         All ranks of a communicator must have the same values of `DIME_KERNEL`, `DIME_THRESHOLD_BYTES`, `DIME_ALLOW_PCIE`,\n\
         `DIME_ALLOW_SHARED_GPU`, `DIME_FIRST_EPOCH`, `DIME_BLOCKS` and `DIME_THREADS`; ranks that differ forward every call.\n\n\
         | Variable | Values | Default | Meaning |\n| --- | --- | --- | --- |\n",
    );
    for variable in config::VARIABLES {
        writeln!(text, "| `{}` | {} | {} | {} |", variable.name, variable.values, variable.default, variable.doc)?;
    }
    text.push_str(
        "\n[nccl-variables.md](nccl-variables.md) says which of NCCL's own variables Dime follows.\n\
         The search for the real NCCL also looks at `LD_LIBRARY_PATH`, `VIRTUAL_ENV`, `CONDA_PREFIX` and `PATH`.\n\
         This page is written by `make headers` from the table in src/host/config.rs.\n",
    );
    Ok(text)
}
