//! The exports exist in libdime.so alone. A program that links the rlib (a command-line tool, a test) must not carry
//! them: it would stand in front of NCCL in its own process.

mod support;

// Links the library as those programs do.
extern crate dime as _;

use std::path::Path;
use support::{exported_names, tool, tool_path};

fn assert_exports_nothing(program: &Path) {
    let names = exported_names();
    for option in ["-D", "-a"] {
        let symbols = tool("nm", ["--defined-only".as_ref(), option.as_ref(), program.as_os_str()]);
        for line in symbols.lines() {
            let name = line.split_whitespace().last().unwrap_or("");
            assert!(
                !names.iter().any(|export| export == name),
                "{} carries {name}: build it with --no-default-features",
                program.display()
            );
        }
    }
}

#[test]
fn the_tests_are_built_without_the_exports() {
    // A linker drops exports that nobody refers to, so the symbols alone would not always show it.
    let exports = if cfg!(feature = "exports") { "with" } else { "without" };
    assert_eq!(exports, "without", "the tests are run with --no-default-features, as `make test` does");
}

#[test]
fn a_test_binary_carries_no_nccl_symbol() {
    assert_exports_nothing(&std::env::current_exe().expect("the path of this test"));
}

#[test]
fn the_command_line_tools_carry_no_nccl_symbol() {
    for name in ["dime", "dime-qa"] {
        assert_exports_nothing(&tool_path(name));
    }
}
