//! `dime doctor` as a shell and a script see it: every section where all is right and where it is not, with and without GPUs, and
//! programs that load libdime.so, another build of it, NCCL alone, or nothing.

use crate::support::places::{build_linked_report, build_report, fake_nccl};
use crate::support::sim::{sim_dir, simulated};
use crate::support::{Cc, Outcome, Program, dime_lib, test_file, tool, tool_path, work_dir, write};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A check of the report.
#[derive(Debug)]
struct Check {
    section: String,
    name: String,
    status: String,
    text: String,
    /// The advice, the details and the data, as JSON writes them.
    rest: String,
}

/// Reads the JSON with another program's parser, and fails the test unless it has the documented fields.
const READER: &str = r#"
import json, sys
report = json.load(sys.stdin)
assert list(report) == ["format", "version", "status", "ok", "warn", "fail", "sections"], list(report)
assert report["format"] == 1
checks = [check for section in report["sections"] for check in section["checks"]]
for status in "ok", "warn", "fail":
    assert report[status] == sum(check["status"] == status for check in checks)
worst = max((check["status"] for check in checks), key=["ok", "warn", "fail"].index)
assert report["status"] == worst
for section in report["sections"]:
    assert list(section) == ["name", "title", "checks"], list(section)
    for check in section["checks"]:
        assert list(check) == ["name", "status", "text", "advice", "details", "data"], list(check)
        assert (check["advice"] is None) == (check["status"] == "ok"), check
        rest = json.dumps([check["advice"], check["details"], check["data"]])
        print(section["name"], check["name"], check["status"], check["text"], rest, sep="\t")
"#;

struct Report {
    checks: Vec<Check>,
    outcome: Outcome,
}

impl Report {
    fn of(program: Program) -> Report {
        let outcome = program.run();
        assert!(outcome.code == 0 || outcome.code == 1, "{outcome}");
        let mut python = Command::new("python3")
            .args(["-c", READER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        python.stdin.take().expect("a pipe").write_all(outcome.stdout.as_bytes()).expect("writing to python3");
        let read = python.wait_with_output().expect("python3");
        assert!(read.status.success(), "not the documented JSON: {outcome}");
        let text = String::from_utf8(read.stdout).expect("text");
        let checks = text.lines().map(|line| {
            let mut fields = line.split('\t').map(str::to_owned);
            let mut next = || fields.next().expect("a field");
            Check { section: next(), name: next(), status: next(), text: next(), rest: next() }
        });
        let report = Report { checks: checks.collect(), outcome };
        let failed = report.checks.iter().any(|check| check.status == "fail");
        assert_eq!(report.outcome.code, i32::from(failed), "{}", report.outcome);
        report
    }

    fn all(&self, name: &str) -> Vec<&Check> {
        self.checks.iter().filter(|check| check.name == name).collect()
    }

    /// The one check of this name; fails the test unless it has this status and all the words.
    fn check(&self, name: &str, status: &str, words: &[&str]) -> &Check {
        let found = self.all(name);
        assert_eq!(found.len(), 1, "{name}: {found:?} in {}", self.outcome);
        self.assert(found[0], status, words);
        found[0]
    }

    fn assert(&self, check: &Check, status: &str, words: &[&str]) {
        assert_eq!(check.status, status, "{check:?} in {}", self.outcome);
        for word in words {
            assert!(check.text.contains(word) || check.rest.contains(word), "no {word:?} in {check:?}");
        }
    }

    /// Some check of this name has this status and all the words.
    fn has(&self, name: &str, status: &str, words: &[&str]) {
        let fits = |check: &&Check| {
            check.status == status && words.iter().all(|word| check.text.contains(word) || check.rest.contains(word))
        };
        assert!(self.all(name).into_iter().any(|check| fits(&check)), "{name} {words:?} in {}", self.outcome);
    }

    fn lacks(&self, name: &str) {
        assert!(self.all(name).is_empty(), "{name} in {}", self.outcome);
    }
}

/// The doctor on a machine without GPUs, in the text form.
fn doctor() -> Program {
    Program::new(tool_path("dime")).arg("doctor").arg("--dime").arg(dime_lib())
}

/// The doctor on the simulated node.
fn on_node() -> Program {
    simulated(tool_path("dime")).arg("doctor").arg("--json").arg("--dime").arg(dime_lib())
}

fn json(program: Program) -> Report {
    Report::of(program.arg("--json"))
}

/// The doctor on a node that is as this text says.
fn on_topology(name: &str, devices: &str, topology: &str) -> Report {
    let file = write(work_dir(&format!("doctor/{name}")).join("topology"), topology);
    Report::of(on_node().env("DIME_SIM_DEVICES", devices).env("DIME_SIM_TOPOLOGY", file))
}

#[test]
fn without_gpus_one_warning_says_what_was_not_looked_at_and_the_rest_is_checked() {
    let dir = work_dir("doctor/no-gpus");
    let fake = fake_nccl(&dir, "2.27.7");
    let report = json(doctor().env("DIME_NCCL_LIB", &fake));
    report.check("gpus", "warn", &["libcuda.so.1", "driver, GPUs, their links"]);
    for name in ["driver", "gpu", "links", "gpu_memory", "routes"] {
        report.lacks(name);
    }
    report.check("libdime", "ok", &[&dime_lib().display().to_string()]);
    report.check("nccl", "ok", &[&fake.display().to_string(), "2.27.7"]);
    report.check("memory", "ok", &[]);
    let sections: Vec<&str> = report.checks.iter().map(|check| &*check.section).collect();
    for name in ["libraries", "gpus", "sharing", "environment", "frameworks"] {
        assert!(sections.contains(&name), "{}", report.outcome);
    }
}

#[test]
fn a_node_where_all_is_right_has_no_warning_in_its_sections() {
    let dir = work_dir("doctor/right");
    let program = build_report(&dir);
    let report =
        Report::of(on_node().env("DIME_SIM_DEVICES", "4").env("LD_PRELOAD", dime_lib()).arg("--").arg(&program));
    let ours = dime_lib().display().to_string();
    report.check("environment", "ok", &["this libdime.so", &ours, "\"answered_by\": \"dime\""]);
    report.check("command", "ok", &["this libdime.so", &ours]);
    report.check("nccl", "ok", &[&sim_dir().join("libnccl.so.2").display().to_string()]);
    report.check("driver", "ok", &["CUDA"]);
    assert_eq!(report.all("gpu").len(), 4);
    report.has("gpu", "ok", &["GPU 3: NVIDIA H200", "compute capability 9.0", "4 GiB", "not MIG"]);
    report.check("links", "ok", &["NVLink joins all", "[\"self\", \"nvlink\", \"nvlink\", \"nvlink\"]"]);
    report.check("nvswitch", "ok", &["does not say", "\"switch_links\": null"]);
    report.check("nvls", "ok", &["Dime uses none"]);
    report.check("memory", "ok", &[]);
    report.check("gpu_memory", "ok", &[]);
    // The numbers that docs/performance.md and README.md promise.
    let routes = report.all("routes");
    assert_eq!(routes.len(), 3, "{}", report.outcome);
    report.has("routes", "ok", &["2 ranks", "bf16 2 B to 16 MiB", "f32 4 B to 16 MiB", "int32 4 B to 8 MiB"]);
    report.has("routes", "ok", &["4 ranks", "int32 4 B to 4 MiB", "\"to_bytes\": 4194304", "\"measured\": true"]);
    assert!(
        report.checks.iter().all(|check| check.section == "frameworks" || check.status == "ok"),
        "{}",
        report.outcome
    );
    assert_eq!(report.outcome.code, 0);
}

#[test]
fn thresholds_that_nobody_measured_are_marked() {
    let newer = on_topology("blackwell", "2", "device 0 arch 100\ndevice 1 arch 100\n");
    newer.has("routes", "ok", &["bf16 2 B to 2 MiB", "int32 4 B to 2 MiB (the ends are not measured"]);
    let many = on_topology("eight", "8", "");
    many.has("routes", "ok", &["8 ranks", "bf16 2 B to 8 MiB", "int32 4 B to 4 MiB (the ends", "\"measured\": false"]);
}

#[test]
fn gpus_that_dime_does_not_serve_are_named() {
    let report = on_topology("old", "3", "device 0 arch 75\ndevice 1 mig\n");
    report.has("gpu", "warn", &["GPU 0", "7.5", "8.0 or newer"]);
    report.has("gpu", "warn", &["GPU 1", "MIG instance"]);
    report.has("gpu", "ok", &["GPU 2"]);
    report.check("routes", "warn", &["no two GPUs"]);
}

#[test]
fn the_kernels_in_libdime_so_are_compared_with_the_gpus() {
    let file = write(work_dir("doctor/no-kernels").join("libdime.so"), "no library\n");
    let report = Report::of(simulated(tool_path("dime")).args(["doctor", "--json", "--dime"]).arg(file));
    report.check("libdime", "fail", &["is not a shared library", "--dime PATH"]);
    report.check("driver", "warn", &["no libdime.so"]);
    let newer = on_topology("newer", "2", "device 0 arch 81\ndevice 1 arch 81\n");
    // Machine code for 8.0 serves it, in builds that have that.
    let driver = newer.all("driver");
    assert_eq!(driver.len(), 1, "{}", newer.outcome);
    match driver[0].status.as_str() {
        "fail" => newer.assert(driver[0], "fail", &["no kernels for compute capability 8.1", "DIME_CUDA_ARCHS"]),
        _ => newer.assert(driver[0], "ok", &["the kernels in this libdime.so need CUDA"]),
    }
}

#[test]
fn links_that_are_not_nvlink_are_named_pair_by_pair() {
    let report = on_topology("pcie", "4", "pair 0 1 pcie\npair 0 2 pcie\npair 0 3 pcie\n");
    report.check("links", "warn", &["over PCIe only: 0-1, 0-2, 0-3", "DIME_ALLOW_PCIE=1", "GPU0", "PCIe"]);
    // The other three are joined.
    assert_eq!(report.all("routes").len(), 2, "{}", report.outcome);
    let report = on_topology("none", "2", "pair 0 1 none\n");
    report.check("links", "warn", &["without access", "0-1", "\"none\""]);
    report.check("routes", "warn", &["no two GPUs"]);
    let report = on_topology("one", "1", "");
    report.check("links", "warn", &["one GPU"]);
    report.check("gpu_memory", "ok", &[]);
    let file = write(work_dir("doctor/allowed-pcie").join("topology"), "pair 0 1 pcie\n");
    let node = on_node().env("DIME_SIM_DEVICES", "2").env("DIME_SIM_TOPOLOGY", file);
    let report = Report::of(node.env("DIME_ALLOW_PCIE", "1"));
    report.check("links", "ok", &["DIME_ALLOW_PCIE allows"]);
    report.check("routes", "ok", &["2 ranks"]);
}

#[test]
fn links_that_end_at_a_switch_are_counted_by_the_management_library() {
    let dir = work_dir("doctor/nvml");
    // A GPU has four links; link 2 is down, and link 3 ends at a GPU.
    let source = write(
        dir.join("nvml.c"),
        "static int gpu;\n\
         int nvmlInit_v2(void);\nint nvmlInit_v2(void) { return 0; }\n\
         int nvmlShutdown(void);\nint nvmlShutdown(void) { return 0; }\n\
         int nvmlDeviceGetHandleByUUID(const char *uuid, void **device);\n\
         int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {\n\
             if (uuid[0] != 'G' || uuid[40] != 0) return 2;\n\
             *device = &gpu;\n    return 0;\n}\n\
         int nvmlDeviceGetNvLinkState(void *device, unsigned link, unsigned *up);\n\
         int nvmlDeviceGetNvLinkState(void *device, unsigned link, unsigned *up) {\n\
             if (device != &gpu || link > 3) return 2;\n    *up = link != 2;\n    return 0;\n}\n\
         int nvmlDeviceGetNvLinkRemoteDeviceType(void *device, unsigned link, int *type);\n\
         int nvmlDeviceGetNvLinkRemoteDeviceType(void *device, unsigned link, int *type) {\n\
             *type = link == 3 ? 0 : TYPE;\n    return device == &gpu ? 0 : 2;\n}\n",
    );
    for (kind, words) in [("2", "\"switch_links\": [2, 2]"), ("0", "no NVLink ends at an NVSwitch")] {
        let folder = dir.join(kind);
        let library = folder.join("libnvidia-ml.so.1");
        Cc::c().shared("libnvidia-ml.so.1").arg(format!("-DTYPE={kind}")).arg(&source).build(library);
        let path = format!("{}:{}", folder.display(), sim_dir().display());
        let report = Report::of(on_node().env("DIME_SIM_DEVICES", "2").env("LD_LIBRARY_PATH", path));
        report.check("nvswitch", "ok", &[words]);
    }
}

#[test]
fn gpu_memory_that_cannot_be_shared_is_a_failure_and_one_that_travels_otherwise_a_warning() {
    for (fault, words) in [
        ("fail@cuMemCreate:1", "cuMemCreate failed"),
        ("fail@cuMemExportToShareableHandle:1", "cuMemExportToShareableHandle failed"),
        ("fail@cuMemImportFromShareableHandle:1", "cuMemImportFromShareableHandle failed"),
        ("kill@cuMemMap:1", "dies of signal 9"),
    ] {
        let report = Report::of(on_node().env("DIME_SIM_DEVICES", "2").env("DIME_SIM_FAULT", fault));
        report.check("gpu_memory", "fail", &["cannot share GPU memory", words]);
        report.check("memory", "ok", &[]);
    }
    let report = on_topology("no-vmm", "2", "device 0 no_vmm\ndevice 1 no_vmm\n");
    report.check("gpu_memory", "warn", &["legacy IPC"]);
}

#[test]
fn a_driver_that_fails_is_no_reason_to_stop() {
    let report = Report::of(on_node().env("DIME_SIM_FAULT", "fail@cuInit:*"));
    report.check("gpus", "warn", &["cuInit"]);
    let report = Report::of(on_node().env("DIME_SIM_FAULT", "kill@cuInit:1"));
    report.check("gpus", "warn", &["dies of signal 9"]);
    let report = Report::of(on_node().env("CUDA_VISIBLE_DEVICES", ""));
    report.check("cuda_visible_devices", "warn", &["hides all GPUs"]);
    report.check("gpus", "warn", &[]);
    report.check("memory", "ok", &[]);
}

#[test]
fn a_filter_that_forbids_sockets_is_found_and_named() {
    let dir = work_dir("doctor/confined");
    let confined = Cc::c().arg(test_file("c/confined.c")).build(dir.join("confined"));
    for (call, words) in [
        ("bind", "listening at an abstract unix socket: Operation not permitted"),
        ("socket", "Operation not permitted"),
        ("connect", "passing a descriptor over an abstract unix socket: cannot send to rank"),
        ("sendmsg", "passing a descriptor over an abstract unix socket: cannot send to rank"),
    ] {
        let program = Program::new(&confined)
            .arg(call)
            .arg(tool_path("dime"))
            .args(["doctor", "--json", "--dime"])
            .arg(dime_lib());
        let report = Report::of(program);
        report.check("memory", "fail", &[words, "Seccomp: 2", "seccomp profile"]);
        assert_eq!(report.outcome.code, 1);
    }
    // What is denied nothing has the same report as without the filter.
    let program = Program::new(&confined).arg("nothing").arg(tool_path("dime")).args(["doctor", "--json"]);
    Report::of(program).check("memory", "ok", &[]);
}

#[test]
fn namespaces_of_its_own_are_named() {
    let can = Command::new("unshare").args(["-rn", "true"]).status().is_ok_and(|status| status.success());
    if !can {
        eprintln!("NOT CHECKED: this user may not make namespaces");
        return;
    }
    let unshared = |option: &str| {
        Program::new("unshare").arg(option).arg(tool_path("dime")).args(["doctor", "--json", "--dime"]).arg(dime_lib())
    };
    let report = Report::of(unshared("-rn"));
    // All ranks in it find each other; others do not find them.
    report.check("memory", "ok", &["network namespace", "user namespace"]);
    report.check("network_namespace", "warn", &["one network namespace"]);
    Report::of(unshared("-m")).lacks("network_namespace");
}

/// A library that answers as Dime does, and is not this build.
fn other_dime(dir: &Path) -> PathBuf {
    let source = write(
        dir.join("other.c"),
        "const char *dimeVersion(void); int ncclAllReduce(void);\n\
         const char *dimeVersion(void) { return \"0\"; }\nint ncclAllReduce(void) { return 0; }\n",
    );
    Cc::c().shared("libnccl.so.2").arg(source).build(dir.join("libdime.so"))
}

fn with_command(command: impl AsRef<std::ffi::OsStr>) -> Program {
    doctor().arg("--json").arg("--").arg(command)
}

#[test]
fn a_command_is_answered_by_what_the_loader_gives_it() {
    let dir = work_dir("doctor/command");
    let nccl = fake_nccl(dir.join("nccl"), "2.27.7");
    let plain = build_report(&dir);
    let with_nccl = |program: Program| program.env("DIME_NCCL_LIB", &nccl);
    // Nothing, then NCCL in three ways.
    let report = Report::of(with_nccl(with_command(&plain)));
    report.check("command", "fail", &["nothing is preloaded", "dime run --", "\"answered_by\": \"none\""]);
    report.check("environment", "warn", &[]);
    let folder = nccl.parent().expect("a folder");
    let report = Report::of(with_nccl(with_command(&plain)).env("LD_LIBRARY_PATH", folder));
    report.check("command", "fail", &["NCCL alone", &nccl.display().to_string(), "opened by the name"]);
    let linked = build_linked_report(&dir, &nccl);
    let report = Report::of(with_nccl(with_command(&linked)));
    report.check("command", "fail", &["NCCL alone", &nccl.display().to_string(), "preloaded or linked"]);
    let report = Report::of(with_nccl(with_command(&plain)).env("LD_PRELOAD", &nccl));
    report.check("command", "fail", &["NCCL alone", "\"answered_by\": \"nccl\""]);
    // Dime in front of what is linked, in four ways.
    let report = Report::of(with_nccl(with_command(&linked)).env("LD_PRELOAD", dime_lib()));
    report.check("command", "ok", &["this libdime.so"]);
    let in_place = crate::support::install_as_libnccl(&dir.join("place"));
    let report = Report::of(with_nccl(with_command(&plain)).env("LD_LIBRARY_PATH", &in_place));
    report.check("command", "ok", &["this libdime.so", "opened by the name"]);
    let through_env = with_command("env").arg(format!("LD_PRELOAD={}", dime_lib().display())).arg(&linked);
    let report = Report::of(with_nccl(through_env));
    report.check("command", "ok", &["this libdime.so"]);
    report.check("environment", "warn", &[]);
    let through_run = with_command(tool_path("dime")).arg("run").arg("--dime").arg(dime_lib()).arg("--").arg(&linked);
    Report::of(with_nccl(through_run)).check("command", "ok", &["this libdime.so"]);
    // What the program itself exports comes before what is preloaded.
    let source = write(
        dir.join("own.c"),
        "int ncclAllReduce(void);\nint ncclAllReduce(void) { return 0; }\nint main(void) { return ncclAllReduce(); }\n",
    );
    let own = Cc::c().arg("-rdynamic").arg(source).build(dir.join("own"));
    let report = Report::of(with_nccl(with_command(&own)).env("LD_PRELOAD", dime_lib()));
    report.check("command", "fail", &["NCCL alone", "the program's own"]);
    // A copy is the same, another build is not.
    let copy = dir.join("copy.so");
    std::fs::copy(dime_lib(), &copy).expect("a copy");
    let report = Report::of(with_nccl(with_command(&plain)).env("LD_PRELOAD", &copy));
    report.check("command", "ok", &["this libdime.so", &copy.display().to_string()]);
    let report = Report::of(with_nccl(with_command(&plain)).env("LD_PRELOAD", other_dime(&dir)));
    report.check("command", "warn", &["another build of Dime", "\"answered_by\": \"other-dime\""]);
}

#[test]
fn a_preload_that_the_loader_leaves_out_is_a_failure() {
    let dir = work_dir("doctor/wrong-preload");
    let program = build_report(&dir);
    let report = Report::of(with_command(&program).env("LD_PRELOAD", "/nonexistent/libdime.so"));
    report.check("preload", "fail", &["/nonexistent/libdime.so", "cannot be preloaded", "whole path"]);
    report.check("command", "fail", &[]);
    let text = write(dir.join("text.so"), "no library");
    let report = Report::of(with_command("env").arg(format!("LD_PRELOAD={}", text.display())).arg(&program));
    report.check("preload", "fail", &["text.so"]);
    Report::of(with_command(&program)).lacks("preload");
}

#[test]
fn a_command_that_is_no_program_is_a_failure() {
    let dir = work_dir("doctor/no-program");
    let text = write(dir.join("text"), "no program\n");
    std::os::unix::fs::symlink("/bin/sh", dir.join("shell")).expect("a link");
    let script = write(dir.join("script"), "#!/bin/sh\nexit 7\n");
    let executable = |path: &Path| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    };
    let report = Report::of(with_command("no-such-program-anywhere"));
    report.check("command", "fail", &["no-such-program-anywhere: no such program"]);
    Report::of(with_command(&text)).check("command", "fail", &["no such program"]);
    executable(&text);
    Report::of(with_command(&text)).check("command", "fail", &["neither a program"]);
    let source = write(dir.join("static.c"), "int main(void) { return 0; }\n");
    let fixed = Cc::c().arg("-static").arg(source).build(dir.join("static"));
    Report::of(with_command(&fixed)).check("command", "fail", &["statically linked"]);
    // A script is its interpreter, and is not started.
    executable(&script);
    let report = Report::of(with_command(&script).env("LD_PRELOAD", dime_lib()));
    report.check("command", "ok", &["this libdime.so"]);
}

#[test]
fn an_nccl_that_is_missing_or_old_is_named_with_what_to_do() {
    let dir = work_dir("doctor/nccl");
    let report = json(doctor().env("LD_LIBRARY_PATH", &dir).env("PATH", "/nonexistent"));
    report.check("nccl", "fail", &["not found", "LD_LIBRARY_PATH", "nothing there", "DIME_NCCL_LIB"]);
    report.check("python", "warn", &["there is no Python"]);
    let report = json(doctor().env("DIME_NCCL_LIB", "/nonexistent/libnccl.so.2"));
    report.check("nccl", "fail", &["/nonexistent/libnccl.so.2"]);
    let old = fake_nccl(dir.join("old"), "2.13.4");
    json(doctor().arg("--nccl").arg(&old)).check("nccl", "warn", &["2.13.4", "older", "2.18 or newer"]);
    json(doctor().arg("--nccl").arg(dime_lib())).check("nccl", "fail", &["is Dime itself"]);
}

/// An environment of Python with these metadata folders; its interpreter.
fn environment(prefix: &Path, packages: &[&str]) -> PathBuf {
    tool("python3", ["-m".as_ref(), "venv".as_ref(), "--without-pip".as_ref(), prefix.as_os_str()]);
    for package in packages {
        write(packages_of(prefix).join(format!("{package}.dist-info/METADATA")), "Metadata-Version: 2.1\n");
    }
    prefix.join("bin/python3")
}

fn packages_of(prefix: &Path) -> PathBuf {
    let folders = std::fs::read_dir(prefix.join("lib")).expect("an environment").flatten();
    let python = folders.map(|entry| entry.path()).find(|path| path.join("site-packages").is_dir());
    python.expect("a folder of packages").join("site-packages")
}

#[test]
fn frameworks_are_found_without_importing_them_and_told_their_switches() {
    let dir = work_dir("doctor/frameworks");
    let python = environment(
        &dir.join("venv"),
        &["torch-2.9.0+cu128", "vllm-0.33.0", "sglang-0.5.1", "tensorrt_llm-1.2.0", "jax-0.11.2", "torchvision-0.24.0"],
    );
    let packages = packages_of(&dir.join("venv"));
    let imported = dir.join("imported");
    for name in ["torch", "vllm", "ctypes", "os", "json"] {
        write(
            packages.join(format!("{name}/__init__.py")),
            format!("open({:?}, 'w')\n", imported.display().to_string()),
        );
    }
    let report = Report::of(with_command(&python).arg("train.py").current_dir(&packages));
    assert!(!imported.exists(), "a package was imported");
    assert_eq!(report.all("framework").len(), 5, "{}", report.outcome);
    report.has("framework", "ok", &["PyTorch 2.9.0+cu128"]);
    let switches = ["--disable-custom-all-reduce", "VLLM_ALLREDUCE_USE_SYMM_MEM=0", "VLLM_ALLREDUCE_USE_FLASHINFER=0"];
    report.has("framework", "warn", &[&["vLLM 0.33.0", "fuse_allreduce_rms"], &switches[..]].concat());
    report.has("framework", "warn", &["SGLang 0.5.1", "--disable-custom-all-reduce"]);
    report.has("framework", "warn", &["TensorRT-LLM 1.2.0", "strategy to NCCL"]);
    report.has("framework", "warn", &["JAX 0.11.2", "one process for each GPU"]);
    // With the switches of the command and of its environment.
    let command = with_command("env").args(&switches[1..]).arg(&python).args(["serve", switches[0]]);
    let report = Report::of(command);
    report.has("framework", "ok", &["vLLM 0.33.0", "fuse_allreduce_rms"]);
    report.has("framework", "ok", &["SGLang 0.5.1"]);
    // Without a command it is the active environment.
    let report = json(doctor().env("VIRTUAL_ENV", dir.join("venv")));
    report.has("framework", "ok", &["PyTorch"]);
    report.check("python", "ok", &[&dir.join("venv").display().to_string()]);
    let empty = environment(&dir.join("empty"), &[]);
    let report = Report::of(with_command(&empty));
    report.lacks("framework");
    report.check("python", "ok", &["has none of torch"]);
}

#[test]
fn a_python_command_has_the_nccl_and_the_pytorch_of_its_environment() {
    let dir = work_dir("doctor/python");
    let python = environment(&dir.join("venv"), &["torch-2.9.0"]);
    let nccl = fake_nccl(packages_of(&dir.join("venv")).join("nvidia/nccl/lib"), "2.27.7");
    let report = Report::of(with_command(&python));
    report.check("nccl", "ok", &[&nccl.display().to_string(), "2.27.7"]);
    report.check("command", "fail", &["nothing is preloaded"]);
    // PyTorch's library is linked with it, and finds it by its run path.
    let torch = packages_of(&dir.join("venv")).join("torch/lib/libtorch_cuda.so");
    let source = write(dir.join("torch.c"), "int torch(void);\nint torch(void) { return 1; }\n");
    Cc::c()
        .args([
            "-shared",
            "-fPIC",
            "-Wl,--no-as-needed",
            "-Wl,--disable-new-dtags,-rpath,$ORIGIN/../../nvidia/nccl/lib",
        ])
        .arg(source)
        .arg(&nccl)
        .build(&torch);
    let report = Report::of(with_command(&python));
    report.check("command", "fail", &["NCCL alone", "linked with PyTorch", "nvidia/nccl/lib"]);
    let report = Report::of(with_command(&python).env("LD_PRELOAD", dime_lib()));
    report.check("command", "ok", &["this libdime.so", "preloaded or linked"]);
    // A script of the environment, and a shim that starts its interpreter.
    use std::os::unix::fs::PermissionsExt;
    let script = write(dir.join("serve"), format!("#!{}\nraise SystemExit(7)\n", python.display()));
    let shim = write(dir.join("shims/python3"), format!("#!/bin/sh\nexec {} \"$@\"\n", python.display()));
    for file in [&script, &shim] {
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).expect("permissions");
        let report = Report::of(with_command(file));
        report.check("command", "fail", &["linked with PyTorch"]);
        report.has("framework", "ok", &["PyTorch 2.9.0"]);
    }
}

#[test]
fn variables_that_change_what_dime_does_are_named() {
    let dir = work_dir("doctor/variables");
    let nccl_conf = write(dir.join("nccl.conf"), "NCCL_ALGO=Ring\nNCCL_P2P_LEVEL=LOC\n");
    let report = json(doctor());
    for name in ["cuda_visible_devices", "cuda_launch_blocking", "dime_variable", "nccl_variable"] {
        report.check(name, "ok", &["not"].into_iter().filter(|_| name.starts_with("cuda")).collect::<Vec<_>>());
    }
    for (variable, value, name, status, words) in [
        ("CUDA_VISIBLE_DEVICES", "1,2", "cuda_visible_devices", "ok", "1,2"),
        ("CUDA_LAUNCH_BLOCKING", "1", "cuda_launch_blocking", "warn", "every call is forwarded"),
        ("CUDA_LAUNCH_BLOCKING", "0", "cuda_launch_blocking", "ok", ""),
        ("DIME_BLOCKS", "24", "dime_variable", "ok", "DIME_BLOCKS=24"),
        ("DIME_BLOCKS", "many", "dime_variable", "warn", "it takes a number from 0 to 4294967295"),
        ("DIME_KERNAL", "auto", "dime_variable", "warn", "did you mean DIME_KERNEL?"),
        ("DIME_DISABLE", "1", "dime_variable", "warn", "every call is forwarded"),
        ("DIME_DISABLE", "0", "dime_variable", "ok", "DIME_DISABLE=0"),
        ("DIME_THRESHOLD_BYTES", "0", "dime_variable", "warn", "every call is forwarded"),
        ("NCCL_P2P_DISABLE", "1", "nccl_variable", "warn", "forwards"),
        ("NCCL_P2P_DISABLE", "0", "nccl_variable", "ok", ""),
        ("NCCL_CUMEM_ENABLE", "0", "nccl_variable", "ok", "legacy IPC"),
        ("NCCL_CONF_FILE", nccl_conf.to_str().expect("a path"), "nccl_conf", "warn", "NCCL_P2P_LEVEL"),
    ] {
        json(doctor().env(variable, value)).check(name, status, &[words]);
    }
    let both = on_node().env("DIME_SIM_DEVICES", "2").env("DIME_BATCH_INVARIANT", "1").env("DIME_THRESHOLD_BYTES", "0");
    let report = Report::of(both);
    report.has("dime_variable", "ok", &["DIME_BATCH_INVARIANT=1: 1: all-reduces of floats of every size"]);
    report.has(
        "dime_variable",
        "warn",
        &["DIME_THRESHOLD_BYTES=0: it holds for integers only", "unset one of the two"],
    );
    report.has("routes", "warn", &["bf16 2 B to 1 TiB", "int32 none"]);
    for (variable, value) in [("DIME_DISABLE", "1"), ("NCCL_P2P_LEVEL", "LOC"), ("CUDA_LAUNCH_BLOCKING", "1")] {
        let report = Report::of(on_node().env(variable, value));
        report.check("routes", "warn", &["no all-reduce would be fast", variable]);
    }
    let report = Report::of(on_node().env("DIME_SIM_DEVICES", "2").env("DIME_THRESHOLD_BYTES", "64K"));
    report.check("routes", "ok", &["bf16 2 B to 64 KiB"]);
    let report = Report::of(on_node().env("DIME_SIM_DEVICES", "2").env("DIME_KERNEL", "one_shot_sentinel"));
    report.check("routes", "warn", &["int32 none"]);
}

#[test]
fn limits_are_those_that_a_program_started_here_has() {
    let limited = |limit: &str| {
        Program::new("prlimit").arg(limit).arg(tool_path("dime")).args(["doctor", "--json", "--dime"]).arg(dime_lib())
    };
    Report::of(limited("--nofile=200:200")).check("open_files", "warn", &["open files: 200", "ulimit -n"]);
    Report::of(limited("--nofile=4096:4096")).check("open_files", "ok", &["4096", "\"limit\": 4096"]);
    Report::of(limited("--memlock=4096:4096")).check("locked_memory", "warn", &["4096", "ulimit -l"]);
    let report = Report::of(limited("--memlock=1048576:1048576"));
    report.check("locked_memory", "ok", &["1048576"]);
    assert_eq!(report.all("shared_memory").len(), 1);
}

#[test]
fn the_text_has_a_line_of_advice_after_each_that_is_not_ok_and_no_colours_in_a_pipe() {
    let outcome = doctor().env("DIME_KERNAL", "1").env("LD_LIBRARY_PATH", "/nonexistent").run();
    assert_eq!(outcome.code, 1, "{outcome}");
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let marked = |line: &&str| ["[OK] ", "[WARN] ", "[FAIL] "].iter().any(|mark| line.starts_with(mark));
    assert!(lines.iter().filter(|line| marked(line)).count() > 8, "{outcome}");
    for pair in lines.windows(2).filter(|pair| pair[0].starts_with("[WARN]") || pair[0].starts_with("[FAIL]")) {
        assert!(pair[1].starts_with("       ") && pair[1].trim() == &pair[1][7..], "{pair:?} in {outcome}");
    }
    let count = |mark: &str| lines.iter().filter(|line| line.starts_with(mark)).count();
    let last = format!("{} OK, {} WARN, {} FAIL", count("[OK] "), count("[WARN] "), count("[FAIL] "));
    assert_eq!(lines.last(), Some(&&*last), "{outcome}");
    assert!(!outcome.stdout.contains('\x1b'), "{outcome}");
    assert_eq!(outcome.stderr, "", "{outcome}");
    // On a terminal there are colours, unless NO_COLOR is set.
    let line = format!("{} doctor", tool_path("dime").display());
    let terminal = || Program::new("script").args(["-q", "-c", &line, "/dev/null"]);
    assert!(terminal().run().stdout.contains("\x1b[32m[OK]\x1b[0m"));
    assert!(!terminal().env("NO_COLOR", "1").run().stdout.contains('\x1b'));
}

#[test]
fn a_command_line_that_is_no_good_ends_with_2() {
    for arguments in [&["--jsn"][..], &["--part", "everything"], &["--side", "2"], &["--nccl"]] {
        let outcome = Program::new(tool_path("dime")).arg("doctor").args(arguments).run();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{outcome}");
    }
    let outcome = Program::new("sh").args(["-c", "\"$0\" doctor > /dev/full"]).arg(tool_path("dime")).run();
    assert_eq!(outcome.code, 2, "{outcome}");
    assert!(outcome.stderr.contains("cannot write the output"), "{outcome}");
}
