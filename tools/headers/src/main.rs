//! Writes the generated files of the repository: the headers in include/, from the table of NCCL's functions and the sources of
//! types, and docs/configuration.md, from the table of variables.
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

#[path = "../../../src/nccl/functions.rs"]
mod table;

const LICENSE: &str = "/* SPDX-License-Identifier: MIT OR Apache-2.0\n * Written by tools/headers: do not edit. */";

/// A header: its path, and where its types and functions come from.
struct Header {
    path: &'static str,
    guard: &'static str,
    about: &'static str,
    types: Option<&'static str>,
    functions: Functions,
    /// Text before and after what cbindgen writes: what only the preprocessor can express.
    begin: &'static str,
    end: &'static str,
}

/// Where the functions of a header come from.
enum Functions {
    /// The part of the table of NCCL's functions with this name.
    OfTable(&'static str),
    /// A source that has them written out.
    Source(&'static str),
}

/// A line of the table of NCCL's functions, each part as Rust text.
struct Function {
    header: &'static str,
    docs: &'static [&'static str],
    since: &'static str,
    name: &'static str,
    /// None or one.
    twin: &'static [&'static str],
    arguments: &'static str,
    returns: &'static str,
}

macro_rules! functions {
    ($(in $header:literal { $(
        $(#[doc = $doc:literal])*
        $since:literal fn $name:ident $(/ $twin:ident)? ($($argument:ident: $type:ty),* $(,)?) -> $returns:ident $(=> $hook:path)?;
    )* })*) => {
        const FUNCTIONS: &[Function] = &[$($(Function {
            header: $header,
            docs: &[$($doc),*],
            since: $since,
            name: stringify!($name),
            twin: &[$(stringify!($twin))?],
            arguments: concat!($(stringify!($argument), ": ", stringify!($type), ", "),*),
            returns: stringify!($returns),
        },)*)*];
    };
}

table::nccl_functions!(functions);

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
        functions: Functions::OfTable("nccl.h"),
        begin: include_str!("../text/nccl_begin.h"),
        end: include_str!("../text/nccl_end.h"),
    },
    Header {
        path: "include/nccl_device_host.h",
        guard: "DIME_NCCL_DEVICE_HOST_H",
        about: "The host functions of NCCL's device API as libdime.so exports them. Programs with device code include NCCL's own\n * \
                nccl_device.h, never both.",
        types: Some("src/nccl/device_header.rs"),
        functions: Functions::OfTable("nccl_device_host.h"),
        begin: "#include \"nccl.h\"\n",
        end: "",
    },
    Header {
        path: "include/dime.h",
        guard: "DIME_H",
        about: "What libdime.so says about itself, and what it has beside NCCL's functions. A program that also runs with the plain NCCL looks these up with dlsym.",
        types: None,
        functions: Functions::Source("src/api/dime.rs"),
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
    let text = match header.functions {
        Functions::OfTable(name) => bindings(config, &written_out(name)?)?,
        Functions::Source(source) => bindings(config, source)?,
    };
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

/// The functions of a header as a Rust source, for cbindgen, which expands no macros. Returns where it lies.
fn written_out(header: &str) -> Result<String, Box<dyn Error>> {
    const FOLDER: &str = "target/headers";
    let mut source = String::new();
    for function in FUNCTIONS.iter().filter(|function| function.header == header) {
        let Function { docs, name, arguments, .. } = function;
        let docs: String = docs.iter().map(|line| format!("///{line}\n")).collect();
        let returns = match function.returns {
            "Text" => "*const c_char",
            "Nothing" => "()",
            named => named,
        };
        let mut write = |docs: &str, symbol: &str| {
            writeln!(
                source,
                "{docs}#[unsafe(no_mangle)]\npub unsafe extern \"C\" fn {symbol}({arguments}) -> {returns} {{}}\n"
            )
        };
        write(&docs, name)?;
        for twin in function.twin {
            write(&format!("/// Same as {name}, for profilers that put their own {name} before this one.\n"), twin)?;
        }
    }
    if source.is_empty() {
        return Err(format!("src/nccl/functions.rs has no functions of {header}").into());
    }
    fs::create_dir_all(FOLDER)?;
    let path = format!("{FOLDER}/{header}.rs");
    fs::write(&path, source)?;
    Ok(path)
}

/// Puts the functions that are newer than 2.27 under a condition, as cbindgen does with the types that are marked.
fn with_conditions(text: &str) -> Result<String, Box<dyn Error>> {
    let mut out: Vec<String> = Vec::new();
    let mut is_open = false;
    for paragraph in text.split("\n\n") {
        let is_newer = match declared_function(paragraph) {
            Some(function) => is_newer_than_2_27(function)?,
            None => false,
        };
        if is_newer != is_open {
            out.push(if is_newer { format!("#if {SINCE_2_28}") } else { "#endif".to_owned() });
            is_open = is_newer;
        }
        out.push(paragraph.to_owned());
    }
    if is_open { Err("the header ends with a function".into()) } else { Ok(out.join("\n\n")) }
}

/// The function that a paragraph of a header declares, under its own name or that of its twin.
fn declared_function(paragraph: &str) -> Option<&'static Function> {
    let declaration = paragraph.rsplit("*/\n").next().filter(|_| paragraph.starts_with("/**"))?;
    let before = declaration.split_once('(')?.0;
    let symbol = before.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    FUNCTIONS.iter().find(|function| function.name == symbol || function.twin.contains(&symbol))
}

fn is_newer_than_2_27(function: &Function) -> Result<bool, Box<dyn Error>> {
    let minor: u32 = function.since.split('.').nth(1).ok_or("a release has a minor number")?.parse()?;
    Ok(minor >= 28)
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
    Ok(with_aliases(&bindings(config, source)?))
}

fn bindings(config: cbindgen::Config, source: &str) -> Result<String, Box<dyn Error>> {
    let mut text = Vec::new();
    cbindgen::Builder::new().with_config(config).with_src(source).generate()?.write(&mut text);
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
         (`DIME_DEBUG=warn` shows it), and the default stays. A variable that begins with `DIME_` and is not in this table is a\n\
         warning too. An unusable `DIME_DEBUG` is an error, which the log always shows. An empty value counts as not set, except\n\
         that of `DIME_TUNING_FILE`.\n\n\
         Variables that are marked with * must be the same on all ranks of a communicator; ranks that differ forward every call.\n\n\
         | Variable | Values | Default | Meaning |\n| --- | --- | --- | --- |\n",
    );
    for variable in config::VARIABLES {
        let mark = if variable.ranks == config::Ranks::Agree { " *" } else { "" };
        writeln!(
            text,
            "| `{}`{mark} | {} | {} | {} |",
            variable.name, variable.values, variable.default, variable.doc
        )?;
    }
    text.push_str(
        "\n[nccl-variables.md](nccl-variables.md) says which of NCCL's own variables Dime follows.\n\
         The search for the real NCCL also looks at `LD_LIBRARY_PATH`, `VIRTUAL_ENV`, `CONDA_PREFIX` and `PATH`.\n\
         This page is written by `make headers` from the table in src/host/config.rs.\n",
    );
    Ok(text)
}
