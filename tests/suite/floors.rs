//! The house has floors: a module uses modules of its own floor and of those below, and never in a circle. In Rust the `use` lines and
//! the paths that begin with `crate::` say so, in kernels/ the `#include` lines.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::support::manifest_dir;

/// Of src/, top floor first.
const FLOORS: &[&str] = &["api", "comm", "launch", "real", "gpu", "observe", "route", "host", "kernel", "nccl"];
/// Of kernels/, top floor first: folders, and files that lie in none.
const KERNEL_FLOORS: &[&str] =
    &["instances.cu", "catalogue.h", "allreduce", "await.h", "setup.h", "device", "backend", "layout.h"];

/// What uses what, by name.
type Uses = BTreeMap<String, BTreeSet<String>>;

/// Everything that is used from below by something above it, and every circle.
fn faults(uses: &Uses, floors: &[&str], floor_of: impl Fn(&str) -> String) -> Vec<String> {
    let height = |name: &str| {
        let floor = floor_of(name);
        floors.iter().position(|known| *known == floor).unwrap_or_else(|| panic!("{name} is on no floor: add {floor}"))
    };
    let mut faults = Vec::new();
    for (user, used) in uses {
        for name in used.iter().filter(|name| height(name) < height(user)) {
            faults.push(format!("{user} uses {name}, which is on a higher floor"));
        }
    }
    for start in uses.keys() {
        if let Some(circle) = circle_from(uses, start) {
            faults.push(format!("a circle: {}", circle.join(" -> ")));
        }
    }
    faults
}

/// A way from `start` back to it, if `start` is the first name on it.
fn circle_from(uses: &Uses, start: &str) -> Option<Vec<String>> {
    let mut ways = vec![vec![start.to_owned()]];
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop() {
        for next in uses.get(&way[way.len() - 1]).into_iter().flatten() {
            let longer = [way.as_slice(), std::slice::from_ref(next)].concat();
            if next == start {
                return (longer.iter().min() == longer.first()).then_some(longer);
            }
            if seen.insert(next.clone()) {
                ways.push(longer);
            }
        }
    }
    None
}

fn files_below(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("a source").path();
        if path.is_dir() { files_below(&path, files) } else { files.push(path) }
    }
}

/// Names of files below a folder, relative to it, with their texts.
fn texts(folder: &str) -> BTreeMap<String, String> {
    let root = manifest_dir().join(folder);
    let mut files = Vec::new();
    files_below(&root, &mut files);
    let text = |path: &Path| fs::read_to_string(path).expect("a source is text");
    let name = |path: &Path| path.strip_prefix(&root).expect("below the folder").to_string_lossy().into_owned();
    files.iter().map(|path| (name(path), text(path))).collect()
}

/// The path of a module from the name of its file: `comm/table/mod.rs` is `comm::table`.
fn module_of(file: &str) -> String {
    file.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::")
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`.
fn leaves(prefix: &str, tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else { return vec![format!("{prefix}{tree}")] };
    let prefix = format!("{prefix}{}", &tree[..open]);
    let inner = &tree[open + 1..tree.rfind('}').expect("braces come in pairs")];
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for letter in inner.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("at least one").push(letter);
    }
    parts.iter().filter(|part| !part.trim().is_empty()).flat_map(|part| leaves(&prefix, part)).collect()
}

/// The paths that a source names: those of its `use` lines, and those in its code that begin with `crate::`.
fn paths(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]\nmod tests").next().expect("a first part");
    let code: String =
        source.lines().map(|line| line.split("//").next().expect("a first part")).collect::<Vec<_>>().join("\n");
    let mut paths = Vec::new();
    for statement in code.split(';') {
        let statement = statement.trim_start();
        let starts = |line: &&str| line.trim_start().starts_with("use ") || line.contains(" use ");
        if let Some(line) = statement.lines().find(starts).map(|line| line.trim_start().to_owned())
            && let Some(at) = statement.find(&line)
            && let Some((_, tree)) = statement[at..].split_once("use ")
            && ["crate::", "self::", "super::"].iter().any(|root| tree.trim_start().starts_with(root))
        {
            paths.extend(leaves("", tree));
            continue;
        }
        for (at, _) in statement.match_indices("crate::") {
            let is_path = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
            let rest = &statement[at..];
            paths.push(rest[..rest.find(|letter| !is_path(letter)).unwrap_or(rest.len())].to_owned());
        }
    }
    paths
}

fn uses_in_rust() -> Uses {
    let sources = texts("src");
    let modules: BTreeSet<String> = sources.keys().map(|file| module_of(file)).collect();
    let mut uses = Uses::new();
    for (file, source) in sources.iter().filter(|(file, _)| *file != "lib.rs") {
        let module = module_of(file);
        let used = uses.entry(module.clone()).or_default();
        for path in paths(source) {
            let path = path.split(" as ").next().expect("a first part").trim().to_owned();
            let mut parts: Vec<&str> = path.split("::").collect();
            let mut from: Vec<&str> = module.split("::").collect();
            match parts[0] {
                "crate" => from.clear(),
                "super" => {
                    from.pop();
                }
                _ => {}
            }
            parts.remove(0);
            from.extend(parts);
            // The longest part of the path that is a module.
            let found = (1..=from.len()).rev().map(|length| from[..length].join("::")).find(|it| modules.contains(it));
            // A module names its own parts to make them known.
            used.extend(found.filter(|it| *it != module && !it.starts_with(&format!("{module}::"))));
        }
    }
    uses
}

#[test]
fn no_module_uses_a_higher_floor_or_itself_in_a_circle() {
    let uses = uses_in_rust();
    assert!(uses.len() > 60, "only {} modules were found", uses.len());
    let edges: usize = uses.values().map(BTreeSet::len).sum();
    assert!(edges > 200, "only {edges} uses were found");
    let floor = |module: &str| module.split("::").next().expect("a first part").to_owned();
    let faults = faults(&uses, FLOORS, floor);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn no_kernel_source_includes_a_higher_floor_or_the_simulator() {
    let sources = texts("kernels");
    let mut uses = Uses::new();
    for (file, source) in &sources {
        let folder = Path::new(file).parent().expect("a folder");
        let used = uses.entry(file.clone()).or_default();
        for line in source.lines().filter_map(|line| line.strip_prefix("#include ")) {
            let name = line.trim_matches(|letter| "\"<>".contains(letter));
            assert!(!name.starts_with("sim/"), "{file} includes {name}");
            let place = if line.starts_with('"') { folder.join(name) } else { Path::new(name).to_path_buf() };
            let place = place.to_string_lossy().into_owned();
            let place = match place.split_once("/../") {
                Some((_, below)) => below.to_owned(),
                None => place,
            };
            used.extend(sources.contains_key(&place).then_some(place));
        }
    }
    let edges: usize = uses.values().map(BTreeSet::len).sum();
    assert!(edges > 30, "only {edges} includes were found");
    let floor = |file: &str| file.split('/').next().expect("a first part").to_owned();
    let faults = faults(&uses, KERNEL_FLOORS, floor);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Where `unsafe` may stand: at the C edge, in what calls NCCL, CUDA and the C library, and where a communicator's memory is handled.
const UNSAFE: &[&str] = &[
    "api/",
    "comm/",
    "gpu/",
    "host/background.rs",
    "host/exit.rs",
    "host/fork.rs",
    "host/loader.rs",
    "host/thread.rs",
    "launch.rs",
    "observe/log/nccl_log.rs",
    "observe/nvtx.rs",
    "real/",
];

#[test]
fn unsafe_stands_only_where_it_is_listed() {
    let is_listed = |file: &str| UNSAFE.iter().any(|place| file.starts_with(place));
    let has_unsafe = |text: &str| {
        text.lines()
            .any(|line| line.split("//").next().is_some_and(|code| code.split_whitespace().any(|it| it == "unsafe")))
    };
    let sources = texts("src");
    let (listed, others): (Vec<_>, Vec<_>) = sources
        .iter()
        .filter(|(_, text)| has_unsafe(text))
        .map(|(file, _)| file.as_str())
        .partition(|file| is_listed(file));
    assert!(listed.len() > 20, "only {listed:?} have unsafe blocks");
    assert!(others.is_empty(), "unsafe in {others:?}: add the file to the list if it must be there");
}

#[test]
fn upward_uses_and_circles_are_found() {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let uses: Uses = [("a::x", set(&["b"])), ("b", set(&["a::x", "c"])), ("c", set(&[]))]
        .map(|(user, used)| (user.to_owned(), used))
        .into();
    let floor = |name: &str| name.split("::").next().expect("a first part").to_owned();
    let faults = faults(&uses, &["a", "b", "c"], floor);
    assert_eq!(faults, ["b uses a::x, which is on a higher floor", "a circle: a::x -> b -> a::x"]);
    assert_eq!(leaves("", "crate::{a, b::{self, C}, d}"), ["crate::a", "crate::b::self", "crate::b::C", "crate::d"]);
    assert_eq!(paths("use crate::a::{B};\nfn f() { crate::c::d(); } // crate::e"), ["crate::a::B", "crate::c::d"]);
}
