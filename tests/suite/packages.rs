//! The packages of `make dist`: each is installed into a clean root and used there. Programs run on the simulated node.

use crate::support::packages::{Environment, Tree, VERSION, dist_dir, dist_file, dpkg};
use crate::support::places::fake_nccl;
use crate::support::sim::sim_dir;
use crate::support::{Cc, Outcome, Program, defined_symbols, dime_lib, manifest_dir, test_file, tool, work_dir, write};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Has a program run on the simulated node. Its driver alone is where the loader looks: which libnccl.so.2 a program takes is up to
/// what the packages make of it.
fn on_the_node(program: Program, dir: &Path) -> Program {
    let driver = dir.join("driver");
    if !driver.exists() {
        fs::create_dir_all(&driver).expect("a folder");
        symlink(sim_dir().join("libcuda.so.1"), driver.join("libcuda.so.1")).expect("a symlink");
    }
    program
        .env("LD_LIBRARY_PATH", driver)
        .env("DIME_NCCL_LIB", sim_dir().join("libnccl.so.2"))
        .env("DIME_SIM_DEVICES", "2")
        .env("DIME_DEBUG", "info")
}

/// The arguments of tests/c/rank.c.
const RANKS: [&str; 6] = ["--ranks", "2", "--rounds", "1", "--counts", "1,1000"];

/// Fails unless all ranks were right, and their all-reduces fast with libdime.so of this release.
fn assert_fast(outcome: &Outcome) {
    for rank in 0..2 {
        assert_eq!(outcome.value(&format!("rank-{rank}")), "right", "{outcome}");
    }
    let log = outcome.all();
    assert!(log.contains(&format!("DIME INFO Dime {VERSION} in front of NCCL")), "{outcome}");
    assert!(log.contains("all-reduces are fast"), "no kernel did an all-reduce: {outcome}");
}

fn text(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn names_in(folder: impl AsRef<Path>) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn the_release_has_its_packages_and_checksums_that_hold() {
    let listed: BTreeSet<String> = text(dist_file("SHA256SUMS"))
        .lines()
        .map(|line| line.split_whitespace().nth(1).expect("a name").to_owned())
        .collect();
    let expected = [
        format!("dime-{VERSION}-linux-x86_64.tar.gz"),
        format!("dime-{VERSION}.cdx.json"),
        format!("dime_{VERSION}_amd64.deb"),
        format!("dime_nccl-{VERSION}-py3-none-manylinux_2_28_x86_64.whl"),
    ];
    assert_eq!(listed, BTreeSet::from(expected), "`make dist` builds them again");
    let there: BTreeSet<String> = listed.into_iter().chain(["SHA256SUMS".to_owned()]).collect();
    assert_eq!(names_in(dist_dir()), there);
    Program::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(dist_dir()).succeeds();
}

#[test]
fn all_packages_have_the_same_binaries_and_they_run_on_glibc_2_28() {
    let [archive, debian] = Tree::both("binaries");
    let package = Environment::new("binaries").package();
    let pairs = [
        (archive.library(), debian.library(), package.join("lib/libdime.so")),
        (archive.prefix.join("bin/dime"), debian.prefix.join("bin/dime"), package.join("bin/dime")),
    ];
    let check = manifest_dir().join("tools/check_glibc.sh");
    for (one, other, third) in pairs {
        let bytes = fs::read(&one).expect("a binary");
        assert!(bytes == fs::read(&other).expect("a binary"), "{} and {} differ", one.display(), other.display());
        assert!(bytes == fs::read(&third).expect("a binary"), "{} and {} differ", one.display(), third.display());
        Program::new(&check).arg("2.28").arg(&one).succeeds();
        // A check that cannot fail proves nothing.
        let outcome = Program::new(&check).arg("2.2").arg(&one).run();
        assert!(outcome.code == 1 && outcome.stderr.contains("needs glibc 2."), "{outcome}");
        let needed = tool("readelf", ["-dW".as_ref(), one.as_os_str()]);
        for line in needed.lines().filter(|line| line.contains("(NEEDED)")) {
            let allowed = ["[libc.so.", "[libm.so.", "[libdl.so.", "[libpthread.so.", "[ld-linux"];
            assert!(allowed.iter().any(|name| line.contains(name)), "{}: {line}", one.display());
        }
        assert!(!needed.contains("RUNPATH") && !needed.contains("RPATH"), "{needed}");
        let home = manifest_dir().display().to_string();
        assert!(!bytes.windows(home.len()).any(|part| part == home.as_bytes()), "{} names {home}", one.display());
    }
    assert_eq!(
        defined_symbols(&archive.library()),
        defined_symbols(&dime_lib()),
        "exported by the package and by the build"
    );
}

#[test]
fn the_tool_finds_the_library_of_its_package() {
    let dir = work_dir("dist/tool");
    for tree in Tree::both("tool") {
        let library = tree.library();
        assert_eq!(tree.tool().arg("path").succeeds().stdout.trim_end(), library.display().to_string());
        let started = tree.tool().args(["run", "--", "sh", "-c", "echo preload=$LD_PRELOAD"]).succeeds();
        assert_eq!(Path::new(started.value("preload")), library);
        // Through a link to the tool from a folder of the PATH.
        let link = dir.join("dime");
        symlink(tree.prefix.join("bin/dime"), &link).expect("a symlink");
        assert_eq!(Program::new(&link).arg("path").succeeds().stdout.trim_end(), library.display().to_string());
        fs::remove_file(link).expect("the link goes");
        // And where it is missing, its message says how to name it.
        fs::remove_file(library).expect("the library goes");
        let outcome = tree.tool().arg("path").run();
        assert!(outcome.code == 2 && outcome.stderr.contains("bin/libdime.so: no such file"), "{outcome}");
        assert_eq!(outcome.stdout, "", "{outcome}");
    }
}

#[test]
fn a_c_program_is_built_through_pkg_config_and_runs() {
    for tree in Tree::both("pkg-config") {
        let dir = tree.prefix.join("program");
        let ask = |words: &[&str]| {
            let asked = Program::new("pkg-config").env("PKG_CONFIG_PATH", tree.lib.join("pkgconfig")).args(words);
            asked.arg("dime").succeeds().stdout.trim_end().to_owned()
        };
        assert_eq!(ask(&["--modversion"]), VERSION);
        let flags = ask(&["--cflags", "--libs"]);
        let program = Cc::c()
            .arg(test_file("c/rank.c"))
            .args(flags.split_whitespace())
            .args(["-pthread", "-ldl"])
            .build(dir.join("rank"));
        let needed = tool("readelf", ["-dW".as_ref(), program.as_os_str()]);
        assert!(needed.contains("[libnccl.so.2]"), "a program of NCCL runs with any other, too: {needed}");
        assert_fast(&on_the_node(Program::new(&program), &dir).args(RANKS).succeeds());
    }
}

/// Configures a project of CMake, with Dime where CMake is told to look.
fn cmake(tree: &Tree, project: &Path, extra: &str) -> (PathBuf, Outcome) {
    let lists = format!(
        "cmake_minimum_required(VERSION 3.16)\nproject(consumer CXX)\n{extra}\nadd_executable(consumer consumer.cc)\n\
         target_include_directories(consumer SYSTEM PRIVATE {})\ntarget_link_libraries(consumer NCCL::nccl)\n",
        test_file("c/cuda_stand_in").display()
    );
    write(project.join("CMakeLists.txt"), lists);
    let text = format!("#include <nccl.h>\n#include <dime.h>\n#include \"{}\"\n", test_file("c/consumer.h").display());
    write(project.join("consumer.cc"), text);
    let build = project.join("build");
    let prefix = format!("-DCMAKE_PREFIX_PATH={}", tree.prefix.display());
    // Debian's own folder of libraries is asked for by that name.
    let arguments = ["-DCMAKE_LIBRARY_ARCHITECTURE=x86_64-linux-gnu", "-G", "Unix Makefiles"];
    let outcome = Program::new("cmake").arg("-S").arg(project).arg("-B").arg(&build).arg(prefix).args(arguments).run();
    (build, outcome)
}

#[test]
fn a_cxx_program_is_built_through_cmake_and_runs() {
    for tree in Tree::both("cmake") {
        let dir = tree.prefix.join("project");
        let find = format!("find_package(dime {VERSION} REQUIRED)\nfind_package(dime REQUIRED)");
        let (build, outcome) = cmake(&tree, &dir, &find);
        assert!(outcome.code == 0 && outcome.stderr.is_empty(), "{outcome}");
        Program::new("cmake").arg("--build").arg(&build).limit_s(120).succeeds();
        let fake = fake_nccl(dir.join("real"), "2.27.7");
        let ran = Program::new(build.join("consumer")).env("DIME_NCCL_LIB", &fake).env("DIME_DEBUG", "info").succeeds();
        assert_eq!(ran.value("version"), "22707", "{ran}");
        assert!(ran.all().contains(&format!("Dime {VERSION} in front of NCCL 2.27.7")), "{ran}");
    }
}

#[test]
fn cmake_refuses_what_would_not_be_dime() {
    let tree = Tree::archive("cmake-refusals");
    let other = "add_library(NCCL::nccl SHARED IMPORTED)\n\
                 set_target_properties(NCCL::nccl PROPERTIES IMPORTED_LOCATION /opt/other/libnccl.so.2)\n";
    for (name, find, words) in [
        ("other", format!("{other}find_package(dime REQUIRED)"), "NCCL::nccl is another library already (/opt/other"),
        ("newer", "find_package(dime 999 REQUIRED)".to_owned(), "999"),
    ] {
        let (_, outcome) = cmake(&tree, &tree.prefix.join(name), &find);
        // CMake breaks lines.
        let said = outcome.all().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(outcome.code == 1 && said.contains(words), "{outcome}");
    }
}

#[test]
fn importing_the_python_package_loads_and_sets_nothing() {
    let environment = Environment::new("import");
    let script = "import os
before = dict(os.environ)
import dime
assert dict(os.environ) == before, 'the environment changed'
maps = open('/proc/self/maps').read()
assert 'libdime' not in maps and 'libnccl' not in maps, maps
print('version=' + dime.__version__, 'library=' + dime.library(), 'include=' + dime.include(), sep='\\n')";
    let outcome = environment.python().arg("-c").arg(script).succeeds();
    assert_eq!(outcome.value("version"), VERSION);
    let package = environment.package();
    assert_eq!(Path::new(outcome.value("library")), package.join("lib/libdime.so"));
    for header in ["nccl.h", "dime.h", "nccl_device.h", "nccl_device_host.h"] {
        assert!(Path::new(outcome.value("include")).join(header).is_file(), "{header}");
    }
}

#[test]
fn the_python_package_runs_doctors_and_goes() {
    let environment = Environment::new("python");
    let library = environment.package().join("lib/libdime.so").display().to_string();
    let script = || Program::new(environment.0.join("bin/dime"));
    for tool in [environment.tool(), script()] {
        assert_eq!(tool.arg("path").succeeds().stdout.trim_end(), library);
    }
    assert_eq!(script().arg("--version").succeeds().stdout.trim_end(), format!("dime {VERSION}"));
    let usage = environment.tool().arg("no-such-subcommand").run();
    assert!(usage.code == 2 && usage.stderr.contains("Usage: dime"), "{usage}");

    // A program that is linked with another NCCL.
    let dir = environment.0.join("program");
    let program = Cc::c()
        .include(manifest_dir().join("include"))
        .arg(test_file("c/rank.c"))
        .arg(sim_dir().join("libnccl.so.2"))
        .args(["-pthread", "-ldl"])
        .arg(format!("-Wl,-rpath,{}", sim_dir().display()))
        .build(dir.join("rank"));
    let alone = on_the_node(Program::new(&program), &dir).args(RANKS).succeeds();
    assert!(!alone.all().contains("DIME INFO"), "Dime without being asked: {alone}");
    let run = on_the_node(environment.tool(), &dir).args(["run", "--"]).arg(&program).args(RANKS);
    assert_fast(&run.succeeds());

    // The doctor sees through the script that starts the tool.
    let doctor = on_the_node(script(), &dir).args(["doctor", "--"]).arg(environment.0.join("bin/dime"));
    let outcome = doctor.args(["run", "--"]).arg(&program).run();
    for words in [format!("libdime.so: {library}, version {VERSION}"), format!("this libdime.so, {library} (preload")] {
        assert!(outcome.stdout.contains(&words), "no {words:?} in {outcome}");
    }

    environment.pip(["uninstall", "--yes", "dime-nccl"]).succeeds();
    assert!(!environment.package().exists() && !environment.0.join("bin/dime").exists(), "something is left");
}

#[test]
fn debian_s_package_replaces_nothing_and_leaves_nothing() {
    let tree = Tree::debian("debian");
    let root = tree.prefix.parent().expect("the root").to_path_buf();
    let package = dist_file(&format!("dime_{VERSION}_amd64.deb"));
    let field = |name: &str| {
        let asked = tool("dpkg-deb", ["--field".as_ref(), package.as_os_str(), name.as_ref()]);
        asked.trim_end().to_owned()
    };
    assert_eq!(field("Version"), VERSION);
    assert_eq!(field("Depends"), "libc6 (>= 2.28)");
    let listed = tool("dpkg-deb", ["--contents".as_ref(), package.as_os_str()]);
    for line in listed.lines() {
        assert!(line.contains(" root/root "), "{line}");
    }
    // The loader's folder itself gets no library.
    assert_eq!(names_in(&tree.lib), ["cmake", "dime", "pkgconfig"].map(str::to_owned).into());
    assert_eq!(fs::read_link(tree.lib.join("dime/libnccl.so.2")).expect("a link"), Path::new("libdime.so"));
    assert_eq!(names_in(tree.prefix.join("bin")), ["dime".to_owned()].into());
    let doc = tree.prefix.join("share/doc/dime");
    for name in ["copyright", "changelog.gz", "LICENSE-MIT", "LICENSE-APACHE", "THIRD-PARTY-LICENSES"] {
        assert!(doc.join(name).is_file(), "{name}");
    }
    Program::new("md5sum")
        .args(["--check", "--quiet", "--strict"])
        .arg(root.join("var/lib/dpkg/info/dime.md5sums"))
        .current_dir(&root)
        .succeeds();
    dpkg(&root, "--purge", "dime");
    assert!(!tree.prefix.exists(), "{:?} is left", names_in(&tree.prefix));
}

#[test]
fn pages_of_the_manual_render_without_a_warning() {
    let [archive, debian] = Tree::both("manual");
    for folder in [archive.prefix.join("share/man/man1"), debian.prefix.join("share/man/man1")] {
        let pages = names_in(&folder);
        for name in ["dime", "dime-run", "dime-doctor", "dime-bench", "dime-devices", "dime-path", "dime-completions"] {
            assert!(pages.iter().any(|page| page.starts_with(&format!("{name}.1"))), "no {name} in {pages:?}");
        }
        assert!(!pages.iter().any(|page| page.contains("dime-manual")), "that subcommand is hidden: {pages:?}");
        for page in pages {
            let outcome = Program::new("man")
                .env("MANWIDTH", "100")
                .args(["--warnings=w", "--local-file"])
                .arg(folder.join(&page))
                .succeeds();
            assert_eq!(outcome.stderr, "", "{outcome}");
            assert!(outcome.stdout.contains("SYNOPSIS"), "{outcome}");
        }
    }
}

#[test]
fn completions_complete() {
    let [archive, debian] = Tree::both("completions");
    let share = archive.prefix.join("share");
    let bash = share.join("bash-completion/completions/dime");
    let script =
        "source \"$1\"; complete -p dime >/dev/null || exit 1; COMP_WORDS=(dime do); COMP_CWORD=1; _dime dime do dime
echo completed=${COMPREPLY[*]}";
    let outcome = Program::new("bash").args(["-c", script, "bash"]).arg(&bash).succeeds();
    assert_eq!(outcome.value("completed"), "doctor", "{outcome}");
    let fish = share.join("fish/vendor_completions.d/dime.fish");
    let script = format!("source '{}'; complete --do-complete 'dime do'", fish.display());
    let home = work_dir("dist/completions/home");
    let outcome = Program::new("fish").env("HOME", &home).args(["--no-config", "-c", &script]).succeeds();
    assert!(outcome.stdout.starts_with("doctor\t"), "{outcome}");
    let zsh = share.join("zsh/site-functions");
    let script = format!(
        "fpath=('{}' $fpath); autoload -Uz compinit; compinit -D -u; print completes=$_comps[dime]",
        zsh.display()
    );
    let outcome = Program::new("zsh").env("HOME", &home).args(["-f", "-c", &script]).succeeds();
    assert_eq!(outcome.value("completes"), "_dime", "{outcome}");
    Program::new("zsh").args(["-f", "-n"]).arg(zsh.join("_dime")).succeeds();
    let of_debian = debian.prefix.join("share");
    for (one, other) in [
        (bash, of_debian.join("bash-completion/completions/dime")),
        (fish, of_debian.join("fish/vendor_completions.d/dime.fish")),
        (zsh.join("_dime"), of_debian.join("zsh/vendor-completions/_dime")),
    ] {
        assert_eq!(text(one), text(other));
    }
}

#[test]
fn every_crate_that_is_linked_in_is_listed_with_its_license() {
    let archive = Tree::archive("licenses");
    let doc = archive.prefix.join("share/doc/dime");
    let licenses = text(doc.join("THIRD-PARTY-LICENSES"));
    let components = text(dist_file(&format!("dime-{VERSION}.cdx.json")));
    for (name, expression) in
        [("libloading", "ISC"), ("cudarc", "MIT OR Apache-2.0"), ("foldhash", "Zlib"), ("rust-std", "MIT")]
    {
        let line = licenses.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        assert!(line.contains(expression), "{name}: {line:?}");
        assert!(components.contains(&format!("\"name\": \"{name}\"")), "{name}");
    }
    // Of the fonts in the plots, and of what only makes programs.
    assert!(licenses.contains("Bitstream Vera"));
    for name in ["cbindgen", "clap_derive", "loom"] {
        assert!(!components.contains(&format!("\"{name}\"")), "{name} is in no binary");
    }
    let read = "import json, sys; file = json.load(open(sys.argv[1]))
refs = {part['bom-ref'] for part in file['components']} | {'dime'}
assert len(refs) == len(file['components']) + 1, 'a reference twice'
assert all({edge['ref'], *edge['dependsOn']} <= refs for edge in file['dependencies']), 'an edge to nowhere'
print('version=' + file['metadata']['component']['version'])";
    let outcome =
        Program::new("python3").args(["-c", read]).arg(dist_file(&format!("dime-{VERSION}.cdx.json"))).succeeds();
    assert_eq!(outcome.value("version"), VERSION);
    let package = Environment::new("licenses").package();
    let info = package.with_file_name(format!("dime_nccl-{VERSION}.dist-info"));
    assert_eq!(text(info.join("licenses/THIRD-PARTY-LICENSES")), licenses);
    assert_eq!(text(info.join("sboms/dime.cdx.json")), components);
    for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
        assert_eq!(text(info.join("licenses").join(name)), text(manifest_dir().join(name)));
        assert_eq!(text(doc.join(name)), text(manifest_dir().join(name)));
    }
}
