//! Reads C headers as a compiler sees them: declarations, enumerators, fields and macros, after preprocessing.

use super::{Cc, Program, test_file, write};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A header to look into, and what must be on the include path for it.
pub struct Header {
    pub file: PathBuf,
    pub includes: Vec<PathBuf>,
    pub cxx: bool,
    /// Macros that are defined for it, as the compiler takes them.
    pub defines: Vec<String>,
    statements: OnceLock<Vec<String>>,
}

impl Header {
    /// Our own header, or NVIDIA's, in C. Both see the same stand-in for CUDA's headers.
    pub fn c(file: PathBuf) -> Header {
        let beside = file.parent().expect("a header has a directory").to_path_buf();
        let includes = vec![beside, test_file("c/cuda_stand_in")];
        Header { file, includes, cxx: false, defines: Vec::new(), statements: OnceLock::new() }
    }

    /// For NVIDIA's headers under nccl_device/, which host compilers read as C++ only.
    pub fn cxx(file: PathBuf, root: PathBuf) -> Header {
        let includes = vec![root, test_file("c/cuda_stand_in")];
        Header { file, includes, cxx: true, defines: Vec::new(), statements: OnceLock::new() }
    }

    pub fn defining(mut self, define: &str) -> Header {
        self.defines.push(define.to_owned());
        self
    }

    pub fn compiler(&self) -> Cc {
        let cc = if self.cxx { Cc::cxx() } else { Cc::c() };
        let cc = cc.args(self.defines.iter().map(|define| format!("-D{define}")));
        // NVIDIA's header asks for this to declare all that it exports on Linux.
        let cc = cc.arg("-DNCCL_OS_LINUX").args(["-Wno-deprecated-declarations", "-Wno-unused-function"]);
        self.includes.iter().fold(cc, |cc, directory| {
            // As a system directory: warnings inside NVIDIA's headers are not ours.
            cc.arg("-isystem").arg(directory)
        })
    }

    fn language(&self) -> [&'static str; 2] {
        ["-x", if self.cxx { "c++" } else { "c" }]
    }

    fn preprocess(&self, option: &str) -> String {
        let outcome = self.compiler().args(self.language()).arg("-E").arg(option).arg(&self.file).run();
        assert_eq!(outcome.code, 0, "{outcome}");
        outcome.stdout
    }

    /// The declarations at file scope, each on one line without its semicolon.
    fn statements(&self) -> &[String] {
        self.statements.get_or_init(|| self.read_statements())
    }

    fn read_statements(&self) -> Vec<String> {
        let text = self.preprocess("-P").replace("extern \"C\" {", " ");
        let mut statements = Vec::new();
        let mut current = String::new();
        let mut depth = 0;
        for c in text.chars() {
            match c {
                '{' => depth += 1,
                // The end of a linkage block opens nothing that was counted.
                '}' if depth == 0 => {
                    current.clear();
                    continue;
                }
                '}' => depth -= 1,
                _ => {}
            }
            if c == ';' && depth == 0 {
                statements.push(current.split_whitespace().collect::<Vec<_>>().join(" "));
                current.clear();
            } else {
                current.push(c);
            }
        }
        statements
    }

    /// The function declarations of NCCL's API by name, as C text without attributes.
    pub fn functions(&self) -> BTreeMap<String, String> {
        let mut functions = BTreeMap::new();
        for statement in self.statements() {
            if statement.starts_with("typedef") || statement.contains('{') {
                continue;
            }
            let statement = remove_attributes(statement);
            let Some(open) = statement.find('(') else { continue };
            let before = statement[..open].trim_end();
            let name_start = before.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
            let name = &before[name_start..];
            let api = name.strip_prefix('p').unwrap_or(name);
            if name_start > 0 && api.starts_with("nccl") && api[4..].starts_with(char::is_uppercase) {
                functions.insert(name.to_string(), statement.trim_start_matches("extern ").to_string());
            }
        }
        functions
    }

    /// All enumerators.
    pub fn enumerators(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for statement in self.statements() {
            let mut rest = statement.as_str();
            while let Some(at) = rest.find("enum") {
                rest = &rest[at + 4..];
                let (Some(open), semicolon) = (rest.find('{'), rest.find(';')) else { break };
                if semicolon.is_some_and(|semicolon| semicolon < open) {
                    continue;
                }
                let close = rest.find('}').expect("an enum ends");
                for enumerator in split_outside_parentheses(&rest[open + 1..close]) {
                    let name = enumerator.split('=').next().unwrap_or("").trim();
                    if name.to_lowercase().starts_with("nccl") {
                        names.insert(name.to_string());
                    }
                }
            }
        }
        names
    }

    /// Macros of NCCL's without parameters.
    pub fn macros(&self) -> BTreeMap<String, String> {
        self.preprocess("-dM")
            .lines()
            .filter_map(|line| line.strip_prefix("#define ")?.split_once(' '))
            .filter(|(name, _)| name.starts_with("NCCL_") && !name.contains('('))
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    /// The fields of the struct with this typedef name, first to last; None when the header has no such struct.
    pub fn fields(&self, typedef: &str) -> Option<Vec<String>> {
        // A struct under this name, or under a tag that a second typedef gives this name.
        let ends = |statement: &str, name: &str| statement.starts_with("typedef ") && statement.ends_with(name);
        let alias = self
            .statements()
            .iter()
            .filter(|statement| ends(statement, &format!(" {typedef}")) && !statement.contains('{'))
            .find_map(|statement| statement.split_whitespace().rev().nth(1));
        let statement = self.statements().iter().find(|statement| {
            [Some(typedef), alias].iter().flatten().any(|name| {
                ends(statement, &format!("}} {name}"))
                    || statement.starts_with(&format!("struct {name} {{"))
                    || statement.starts_with(&format!("typedef struct {name} {{"))
            })
        })?;
        let body = &statement[statement.find('{')? + 1..statement.rfind('}')?];
        let mut fields = Vec::new();
        let mut depth = 0;
        let mut current = String::new();
        for c in body.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ';' if depth == 0 => {
                    let last = current.rsplit('}').next().unwrap_or(&current);
                    for declarator in last.split(',') {
                        let name = declarator.split('[').next().unwrap_or("").trim();
                        let name = name.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
                        fields.push(name.to_string());
                    }
                    current.clear();
                    continue;
                }
                _ => {}
            }
            current.push(c);
        }
        Some(fields)
    }

    /// Compiles a program that includes the header and prints an expression for each key, and runs it.
    pub fn print(
        &self,
        directory: &Path,
        name: &str,
        format: &str,
        items: &[(String, String)],
    ) -> BTreeMap<String, String> {
        let mut c = format!("#include <stdio.h>\n#include <stddef.h>\n#include \"{}\"\n", self.file.display());
        c.push_str("int main(void) {\n");
        for (key, expression) in items {
            c.push_str(&format!("    printf(\"{key}={format}\\n\", {expression});\n"));
        }
        c.push_str("    return 0;\n}\n");
        let source = write(directory.join(format!("{name}.c")), c);
        let program = self.compiler().arg(source).build(directory.join(name));
        Program::new(program)
            .succeeds()
            .stdout
            .lines()
            .map(|line| {
                let (key, value) = line.split_once('=').expect("key=value");
                (key.to_string(), value.to_string())
            })
            .collect()
    }
}

/// Removes `__attribute__((...))`, linkage and default arguments from a declaration.
fn remove_attributes(statement: &str) -> String {
    let mut text = statement.replace("extern \"C\"", "");
    while let Some(start) = text.find("__attribute__") {
        let mut depth = 0;
        let end = text[start..]
            .char_indices()
            .find_map(|(at, c)| {
                match c {
                    '(' => depth += 1,
                    ')' => {
                        depth -= 1;
                        if depth == 0 {
                            return Some(start + at + 1);
                        }
                    }
                    _ => {}
                }
                None
            })
            .expect("an attribute ends");
        text.replace_range(start..end, " ");
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}
