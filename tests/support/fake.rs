//! Writes the recording fake NCCL and its driver as C, from tests/data/nccl_prototypes.tsv.
//!
//! The fake exports NCCL's functions the way NCCL does (a strong `pncclX`, a weak `ncclX` at the same address) and
//! records every argument byte (tests/fake/recorder.h). The driver calls each export of the library under test with
//! arguments that no other call uses, and compares.

use super::{Cc, Release, test_file, write};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A function as tests/data/nccl_prototypes.tsv describes it.
pub struct Prototype {
    pub name: String,
    pub returns: String,
    /// kind and name of each argument
    pub arguments: Vec<(String, String)>,
    pub since: Release,
}

pub fn prototypes() -> Vec<Prototype> {
    let exports = super::exports();
    super::rows("data/nccl_prototypes.tsv")
        .into_iter()
        .zip(exports)
        .map(|(row, export)| {
            assert_eq!(row[0], export.name, "the two tables name the same functions in the same order");
            let arguments = row[2]
                .split_whitespace()
                .map(|argument| {
                    let (kind, name) = argument.split_once(':').expect("kind:name");
                    (kind.to_string(), name.to_string())
                })
                .collect();
            Prototype { name: row[0].clone(), returns: row[1].clone(), arguments, since: export.since }
        })
        .collect()
}

impl Prototype {
    pub fn has_twin(&self) -> bool {
        self.name != "ncclResetDebugInitInternal"
    }

    /// The export names of this function.
    pub fn symbols(&self) -> Vec<String> {
        let twin = self.has_twin().then(|| format!("p{}", self.name));
        std::iter::once(self.name.clone()).chain(twin).collect()
    }

    fn c_return(&self) -> &'static str {
        match self.returns.as_str() {
            "result" | "int" => "int",
            "string" => "const char *",
            "none" => "void",
            "team" => "struct by_value_team",
            other => panic!("{other} is no kind of return"),
        }
    }

    fn c_parameters(&self) -> String {
        if self.arguments.is_empty() {
            return "void".to_string();
        }
        let list: Vec<String> =
            self.arguments.iter().map(|(kind, name)| format!("{} a_{name}", c_type(kind))).collect();
        list.join(", ")
    }
}

fn c_type(kind: &str) -> &'static str {
    match kind {
        "ptr" => "void *",
        "size" => "size_t",
        "int" => "int",
        "id" => "struct by_value_id",
        "team" => "struct by_value_team",
        "multimem" => "struct by_value_multimem",
        other => panic!("{other} is no kind of argument"),
    }
}

/// How a fake differs from the complete one.
pub struct Fake {
    /// What its ncclGetVersion says.
    pub release: Release,
    /// Leave out the functions that `release` did not have.
    pub as_old_as_it_says: bool,
    /// Call public functions of its own from inside its functions.
    pub own_calls: bool,
    /// Count nothing and return at once: for measuring what a forwarded call costs.
    pub quick: bool,
}

impl Fake {
    pub fn complete(release: Release) -> Fake {
        Fake { release, as_old_as_it_says: false, own_calls: false, quick: false }
    }

    pub fn old(release: Release) -> Fake {
        Fake { as_old_as_it_says: true, ..Fake::complete(release) }
    }

    /// Compiles the fake to `path`, under the SONAME of NCCL.
    pub fn build(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        let source = write(path.with_extension("c"), self.source());
        let mut cc =
            Cc::c().include(test_file("fake")).shared("libnccl.so.2").arg(&source).arg(test_file("fake/recorder.c"));
        if self.own_calls {
            cc = cc.arg("-DFAKE_OWN_CALLS").arg(test_file("fake/own_calls.c"));
        }
        cc.build(path)
    }

    fn source(&self) -> String {
        let mut c = String::from("#include \"recorder.h\"\n\n");
        for function in prototypes() {
            if self.as_old_as_it_says && function.since > self.release {
                continue;
            }
            self.write_function(&mut c, &function).expect("writing to a string");
        }
        c
    }

    fn write_function(&self, c: &mut String, function: &Prototype) -> std::fmt::Result {
        let name = &function.name;
        let returns = function.c_return();
        let parameters = function.c_parameters();
        // NCCL's shape: the strong symbol is the twin, the plain name is weak and at the same address.
        let strong = if function.has_twin() { format!("p{name}") } else { name.clone() };
        writeln!(c, "{returns} {strong}({parameters});")?;
        writeln!(c, "{returns} {strong}({parameters}) {{")?;
        if self.quick {
            for (_, argument) in &function.arguments {
                writeln!(c, "    (void)a_{argument};")?;
            }
        } else {
            writeln!(c, "    struct record *record = fake_begin(\"{name}\");")?;
            for (_, argument) in &function.arguments {
                writeln!(c, "    fake_put(record, &a_{argument}, sizeof a_{argument});")?;
            }
            writeln!(c, "    int number = fake_end(record);")?;
        }
        if name == "ncclGetVersion" {
            writeln!(c, "    if (a_version) *(int *)a_version = {};", self.release.code())?;
        }
        let number = if self.quick { "0" } else { "number" };
        match function.returns.as_str() {
            "result" | "int" => writeln!(c, "    return {number};")?,
            "string" => writeln!(c, "    (void){number};\n    return \"the fake's {name}\";")?,
            "none" => writeln!(c, "    (void){number};")?,
            "team" => writeln!(
                c,
                "    struct by_value_team team = {{{number}, (int)({number} + 1u), (int)({number} + 2u)}};\n    return team;"
            )?,
            other => panic!("{other} is no kind of return"),
        }
        writeln!(c, "}}")?;
        if function.has_twin() {
            writeln!(c, "{returns} {name}({parameters}) __attribute__((weak, alias(\"{strong}\")));\n")?;
        }
        Ok(())
    }
}

/// What a call of the driver must come to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// It arrives at the fake, and what the fake returns comes back.
    Forwarded,
    /// The loaded library lacks the function: this result, no team, -1 as a number.
    Failed(i32),
}

/// How many calls a driver makes: each export with each of the results that tests/fake/driver.c programs.
pub fn driver_expectations() -> String {
    const RESULTS_TRIED: usize = 11;
    (super::exported_names().len() * RESULTS_TRIED).to_string()
}

/// The driver, with what each function's calls must come to.
pub fn build_driver(directory: &Path, expect: &dyn Fn(&Prototype) -> Expect) -> PathBuf {
    let cases = write(directory.join("cases.c"), driver_source(expect));
    Cc::c()
        .include(test_file("fake"))
        .arg(cases)
        .arg(test_file("fake/driver.c"))
        .arg("-ldl")
        .build(directory.join("driver"))
}

/// The driver's source: tests/fake/driver.c with a case for each function.
fn driver_source(expect: &dyn Fn(&Prototype) -> Expect) -> String {
    let mut c = String::from("#include \"driver.h\"\n\n");
    let mut calls = String::from("const struct driver_case driver_cases[] = {\n");
    let mut functions: Vec<(usize, Prototype)> = prototypes().into_iter().enumerate().collect();
    // Once a call has failed for want of a function, ncclGetLastError tells about that. So it is called before.
    functions.sort_by_key(|(_, function)| function.name != "ncclGetLastError");
    for (index, function) in &functions {
        let name = &function.name;
        let expected = expect(function);
        write_case(&mut c, *index, function, expected).expect("writing to a string");
        for symbol in function.symbols() {
            let arrives = (expected == Expect::Forwarded) as u8;
            writeln!(calls, "    {{\"{symbol}\", \"{name}\", case_{name}, {arrives}}},").expect("writing to a string");
        }
    }
    format!("{c}{calls}}};\nconst int driver_case_count = sizeof driver_cases / sizeof driver_cases[0];\n")
}

fn write_case(c: &mut String, index: usize, function: &Prototype, expect: Expect) -> std::fmt::Result {
    let name = &function.name;
    let returns = function.c_return();
    let types: Vec<&str> = function.arguments.iter().map(|(kind, _)| c_type(kind)).collect();
    let types = if types.is_empty() { "void".to_string() } else { types.join(", ") };
    writeln!(c, "static int case_{name}(void *symbol, int programmed, struct record *expected) {{")?;
    writeln!(c, "    {returns} (*call)({types}) = ({returns} (*)({types}))symbol;")?;
    writeln!(c, "    (void)programmed;\n    (void)expected;")?;
    let mut names = Vec::new();
    for (position, (kind, argument)) in function.arguments.iter().enumerate() {
        let ty = c_type(kind);
        let tag = index * 16 + position;
        let value = match kind.as_str() {
            // Into a buffer of the driver's, so that whoever looks behind a pointer finds memory.
            "ptr" => format!("driver_memory + 64 * {tag}"),
            "size" => format!("0x8a1b2c3d4e5f0000u + {tag}"),
            // Every second one negative, and none a value that NCCL defines.
            "int" if position % 2 == 0 => format!("0x5a000000 + {tag}"),
            "int" => format!("-0x25000000 - {tag}"),
            "id" => format!("driver_id({tag})"),
            "team" => format!("driver_team({tag})"),
            "multimem" => format!("{{driver_memory + 64 * {tag} + 8}}"),
            other => panic!("{other} is no kind of argument"),
        };
        writeln!(c, "    {ty} a_{argument} = {value};")?;
        writeln!(c, "    driver_put(expected, &a_{argument}, sizeof a_{argument});")?;
        names.push(format!("a_{argument}"));
    }
    let call = format!("call({})", names.join(", "));
    match (function.returns.as_str(), expect) {
        ("result", Expect::Failed(code)) => writeln!(c, "    return {call} == {code};")?,
        ("int", Expect::Failed(_)) => writeln!(c, "    return {call} == -1;")?,
        ("string", Expect::Failed(_)) => writeln!(c, "    return driver_is_text({call});")?,
        ("team", Expect::Failed(_)) => writeln!(
            c,
            "    struct by_value_team got = {call};\n    return got.rank_count == 0 && got.rank == 0 && got.stride == 0;"
        )?,
        ("result" | "int", Expect::Forwarded) => writeln!(c, "    return {call} == programmed;")?,
        ("string", Expect::Forwarded) => writeln!(c, "    return driver_same_text({call}, \"the fake's {name}\");")?,
        ("team", Expect::Forwarded) => writeln!(
            c,
            "    struct by_value_team got = {call};\n    return got.rank_count == programmed && \
             got.rank == (int)(programmed + 1u) && got.stride == (int)(programmed + 2u);"
        )?,
        ("none", _) => writeln!(c, "    {call};\n    return 1;")?,
        (other, _) => panic!("{other} is no kind of return"),
    }
    writeln!(c, "}}\n")
}
