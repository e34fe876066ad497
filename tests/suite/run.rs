//! `dime run`: what it sets for a framework and says of it, the table of --stats, and that a program under --stats ends, gets signals
//! and has its streams as without. And the warning of libdime.so about a process without an all-reduce.

use crate::support::log_line::LogLine;
use crate::support::sim::{build_with_dime, sim_dir, simulated};
use crate::support::{Outcome, Program, dime_lib, tool_path, work_dir, write};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

fn run() -> Program {
    Program::new(tool_path("dime")).arg("run").arg("--dime").arg(dime_lib())
}

/// A program of tests/c.
fn program(name: &str) -> PathBuf {
    build_with_dime(&work_dir(&format!("run/program-{name}")), &format!("c/{name}.c"))
}

fn unused_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| program("unused"))
}

fn rank_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| program("rank"))
}

fn unused(actions: &[&str]) -> Program {
    simulated(unused_program()).args(actions).env("DIME_SIM_DEVICES", "10").env("DIME_SIM_SMS", "16")
}

/// The warnings of processes that did no all-reduce.
fn warnings(outcome: &Outcome) -> Vec<String> {
    let lines = LogLine::all(&outcome.stdout).into_iter();
    lines
        .filter(|line| line.text.contains("did no all-reduce"))
        .map(|line| format!("{} {}", line.level, line.text))
        .collect()
}

// ---- The warning ----

#[test]
fn a_process_that_makes_a_communicator_and_no_all_reduce_says_so_once() {
    let outcome = unused(&["make", "2", "all-gather", "make", "3"]).succeeds();
    let said = warnings(&outcome);
    assert_eq!(said.len(), 1, "{outcome}");
    let expected = "WARN this process made a communicator of 2 ranks and did no all-reduce through libdime.so: ";
    assert!(said[0].starts_with(expected) && said[0].contains("dime run --for vllm|sglang|trtllm"), "{outcome}");
    // Only where warnings are asked for.
    let outcome = unused(&["make", "2"]).env("DIME_DEBUG", "error").succeeds();
    assert_eq!(outcome.all(), "");
}

#[test]
fn an_all_reduce_of_any_kind_is_no_reason_to_warn() {
    for action in ["all-reduce", "all-reduce-config"] {
        let outcome = unused(&["make", "2", action]).succeeds();
        assert_eq!(warnings(&outcome), Vec::<String>::new(), "{action}: {outcome}");
    }
    let outcome = unused(&["make", "2", "all-reduce"]).env("DIME_THRESHOLD_BYTES", "0").succeeds();
    assert_eq!(warnings(&outcome), Vec::<String>::new(), "a forwarded one: {outcome}");
}

#[test]
fn communicators_that_dime_does_not_serve_are_no_reason_to_warn() {
    for actions in [&["make", "1"][..], &["make", "9"], &[]] {
        assert_eq!(unused(actions).succeeds().all(), "", "{actions:?}");
    }
    assert_eq!(unused(&["make", "2"]).env("DIME_DISABLE", "1").succeeds().all(), "");
    // A part of one that is too large.
    let outcome = unused(&["make", "9", "split", "3"]).succeeds();
    assert!(warnings(&outcome).len() == 1 && warnings(&outcome)[0].contains("of 3 ranks"), "{outcome}");
}

#[test]
fn a_process_that_does_not_end_by_exit_does_not_warn() {
    assert_eq!(unused(&["make", "2", "_exit"]).succeeds().all(), "");
    let outcome = unused(&["make", "2", "kill"]).run();
    assert_eq!((outcome.code, outcome.all()), (-libc::SIGTERM, String::new()));
}

#[test]
fn a_child_of_fork_says_nothing_of_its_parent_s_communicators_and_warns_of_its_own() {
    let outcome = unused(&["make", "2", "fork", "join"]).succeeds();
    assert_eq!(warnings(&outcome).len(), 1, "{outcome}");
    // The parent has no communicator and no CUDA.
    let outcome = unused(&["fork", "make", "2", "join"]).succeeds();
    assert_eq!(warnings(&outcome).len(), 1, "{outcome}");
    let outcome = unused(&["fork", "make", "2", "all-reduce", "join"]).succeeds();
    assert_eq!(outcome.all(), "");
}

#[test]
fn ranks_that_do_all_reduces_and_their_parent_do_not_warn() {
    let outcome = ranks(simulated(rank_program())).succeeds();
    assert!(!outcome.all().contains("DIME "), "{outcome}");
}

#[test]
fn a_process_without_a_communicator_of_two_ranks_registers_nothing() {
    // What runs at the end looks up the name of the host for its line.
    let trace = |ranks: &str| {
        let trace = work_dir(&format!("run/trace-{ranks}")).join("trace");
        let program = simulated("strace").args(["-f", "-qq", "-o"]).arg(&trace).arg(unused_program());
        program.args(["make", ranks]).succeeds();
        std::fs::read_to_string(trace).expect("the trace").contains("/proc/sys/kernel/hostname")
    };
    assert!(trace("2"), "the check notices what it is for");
    assert!(!trace("1"));
}

// ---- The table ----

/// Gives a program its arguments as ranks: each does two all-reduces of 64 bytes, which one_shot_ll does, and two of 4096, which are
/// forwarded.
fn ranks(program: Program) -> Program {
    program
        .args(["--ranks", "3", "--rounds", "2", "--counts", "16,1024"])
        .env("DIME_SIM_DEVICES", "3")
        .env("DIME_SIM_SMS", "16")
        .env("DIME_KERNEL", "one_shot_ll")
        .env("DIME_THRESHOLD_BYTES", "4095")
}

/// `dime run --stats` on the simulated node, in a folder for temporary files that must be empty afterwards.
struct Stats {
    temporary: PathBuf,
}

impl Stats {
    fn new(name: &str) -> Stats {
        Stats { temporary: work_dir(&format!("run/{name}")) }
    }

    fn program(&self, program: impl AsRef<Path>) -> Program {
        simulated(tool_path("dime"))
            .args(["run", "--stats", "--dime"])
            .arg(dime_lib())
            .arg("--")
            .arg(program.as_ref())
            .env("TMPDIR", &self.temporary)
            .limit_s(120)
    }

    fn assert_left_nothing(&self) {
        let left: Vec<_> = std::fs::read_dir(&self.temporary).expect("the folder").flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// The rows of the table in an output, each with single spaces.
fn rows(outcome: &Outcome) -> Vec<String> {
    let lines = outcome.stderr.lines().skip_while(|line| !line.starts_with("answered by")).skip(1);
    let rows = lines.filter(|line| line.starts_with("Dime: ") || line.starts_with("NCCL: "));
    rows.map(|row| row.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn the_table_adds_the_counters_of_all_processes() {
    let stats = Stats::new("stats-processes");
    let outcome = ranks(stats.program(rank_program())).succeeds();
    let expected = ["Dime: one_shot_ll 6 50.0 % 3", "NCCL: the message is larger than the threshold 6 50.0 % 3"]
        .map(str::to_owned);
    assert_eq!(rows(&outcome), expected, "{outcome}");
    let head = "dime: 12 all-reduces; 3 processes wrote counters (one that was killed or left by _exit wrote none)\n";
    assert!(outcome.stderr.starts_with(head), "{outcome}");
    assert_eq!(outcome.value("rank-2"), "right");
    stats.assert_left_nothing();
}

#[test]
fn the_table_counts_ranks_that_are_threads_as_one_process() {
    let stats = Stats::new("stats-threads");
    let outcome =
        stats.program(unused_program()).args(["make", "3", "all-reduce", "all-reduce"]).env("DIME_SIM_SMS", "16");
    let outcome = outcome.succeeds();
    assert!(outcome.stderr.starts_with("dime: 6 all-reduces; 1 process wrote counters"), "{outcome}");
    let rows = rows(&outcome);
    assert!(rows.len() == 1 && rows[0].starts_with("Dime: ") && rows[0].ends_with(" 6 100.0 % 1"), "{outcome}");
}

#[test]
fn processes_without_an_all_reduce_are_told_from_those_without_a_communicator() {
    let stats = Stats::new("stats-none");
    let outcome = stats.program(unused_program()).args(["make", "2"]).succeeds();
    let head = "dime: no all-reduce through libdime.so; 1 process wrote counters";
    assert!(outcome.stderr.starts_with(head) && outcome.stderr.contains("--for vllm|sglang|trtllm"), "{outcome}");
    // A folder that is named from where the tool is, for processes that are elsewhere.
    let script = format!("cd / && exec {} make 2 all-reduce", unused_program().display());
    let program = stats.program("sh").args(["-c", &script]).env("TMPDIR", ".").current_dir(&stats.temporary);
    let outcome = program.succeeds();
    assert!(outcome.stderr.starts_with("dime: 2 all-reduces; 1 process wrote counters"), "{outcome}");
    let outcome = stats.program("true").succeeds();
    assert!(outcome.stderr.starts_with("dime: no process wrote counters: "), "{outcome}");
    assert!(outcome.stderr.contains("\ndime: likely no process loaded libdime.so"), "{outcome}");
    // One that is killed writes none.
    let outcome = stats.program(unused_program()).args(["make", "2", "all-reduce", "_exit"]).succeeds();
    assert!(outcome.stderr.contains("no process wrote counters") && outcome.stderr.contains("_exit"), "{outcome}");
    // Of two processes one.
    let script = format!("{0} make 2; {0} make 2 all-reduce", unused_program().display());
    let outcome = stats.program("sh").args(["-c", &script]).succeeds();
    assert!(outcome.stderr.contains("dime: 1 of the processes made a communicator"), "{outcome}");
    stats.assert_left_nothing();
}

#[test]
fn files_that_the_user_asked_for_are_read_and_stay() {
    let stats = Stats::new("stats-kept");
    let files = work_dir("run/stats-kept-files");
    let old = "# Dime 0.1.0, host old, process 1\nfast 9\nforwarded 0\none_shot_ll 9\n";
    write(files.join("old.1.txt"), old);
    let outcome = ranks(stats.program(rank_program())).env("DIME_STATS_FILE", files.join("%h.%p.txt")).succeeds();
    assert!(outcome.stderr.starts_with("dime: 12 all-reduces; 3 processes wrote counters"), "{outcome}");
    assert_eq!(std::fs::read_dir(&files).expect("the files").count(), 4);
    // One name for all: the last to end wins.
    let outcome = ranks(stats.program(rank_program())).env("DIME_STATS_FILE", files.join("one")).succeeds();
    assert!(outcome.stderr.starts_with("dime: 4 all-reduces; 1 process wrote counters"), "{outcome}");
    stats.assert_left_nothing();
}

#[test]
fn a_folder_for_the_counters_that_cannot_be_made_is_an_error_before_the_start() {
    let outcome = run().args(["--stats", "--", "echo", "ran"]).env("TMPDIR", "/nonexistent").run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{outcome}");
    for word in ["dime: /nonexistent/dime-run-", "TMPDIR", "DIME_STATS_FILE"] {
        assert!(outcome.stderr.contains(word), "{outcome}");
    }
}

// ---- As without ----

/// `dime run` with and without --stats.
fn both() -> [(&'static str, Program); 2] {
    [("", run()), ("--stats", run().arg("--stats"))]
}

#[test]
fn a_program_ends_with_its_exit_code_or_its_signal() {
    for (name, code) in
        [("exit 0", 0), ("exit 42", 42), ("kill -TERM $$", -15), ("kill -KILL $$", -9), ("kill -SEGV $$", -11)]
    {
        for (option, program) in both() {
            assert_eq!(program.args(["--", "sh", "-c", name]).run().code, code, "{option} {name}");
        }
    }
    // A signal of real time.
    let script = "import os; os.kill(os.getpid(), 40)";
    assert_eq!(run().args(["--stats", "--", "python3", "-c", script]).run().code, 128 + 40);
    // SIGPIPE ends the tool itself only by the exit code that a shell shows for it.
    assert_eq!(run().args(["--stats", "--", "sh", "-c", "kill -PIPE $$"]).run().code, 128 + 13);
}

#[test]
fn a_program_that_cannot_be_started_is_told_alike() {
    let dir = work_dir("run/not-started");
    for (name, code) in [(PathBuf::from("no-such-program-anywhere"), 127), (write(dir.join("text"), "none\n"), 126)] {
        let outcomes = both().map(|(_, program)| program.arg("--").arg(&name).run());
        assert!(outcomes.iter().all(|outcome| outcome.code == code), "{}", outcomes[1]);
        assert_eq!(outcomes[0].stderr, outcomes[1].stderr);
    }
}

#[test]
fn streams_signal_masks_and_process_group_are_those_without_stats() {
    let of = |options: &[&str], program: &[&str]| {
        let mut command = Command::new(tool_path("dime"));
        command.arg("run").args(options).arg("--dime").arg(dime_lib()).arg("--").args(program);
        // One signal is ignored, as nohup does, and one blocked.
        // SAFETY: these calls may be made between fork and exec; a set of zeros is empty.
        unsafe {
            command.pre_exec(|| {
                reset_signals();
                libc::signal(libc::SIGHUP, libc::SIG_IGN);
                let mut blocked = std::mem::zeroed();
                libc::sigaddset(&mut blocked, libc::SIGUSR2);
                libc::sigprocmask(libc::SIG_BLOCK, &blocked, std::ptr::null_mut());
                Ok(())
            })
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the tool starts");
        // Who does not read it has ended already, maybe.
        let _ = child.stdin.take().expect("a pipe").write_all(b"a line\n");
        let output = child.wait_with_output().expect("an end");
        String::from_utf8(output.stdout).expect("text")
    };
    let signals = ["grep", "-E", "SigBlk|SigIgn|SigCgt", "/proc/self/status"];
    // Two signals are the C library's own. Nobody can send them by name, and its way to start a process ignores them.
    let without_own = |text: String| {
        const OF_THE_C_LIBRARY: u64 = 0b11 << 31;
        let line = |line: &str| match line.split_once("\t") {
            Some((name, bits)) => {
                let bits = u64::from_str_radix(bits, 16).expect("hexadecimal digits");
                format!("{name} {:x}\n", bits & !OF_THE_C_LIBRARY)
            }
            None => line.to_owned(),
        };
        text.lines().map(line).collect::<String>()
    };
    let plain = without_own(of(&[], &signals));
    assert!(plain.contains("SigIgn: 1\n"), "{plain}");
    assert_eq!(without_own(of(&["--stats"], &signals)), plain);
    // Its input is read, and no descriptor of the tool's is left open in it.
    let streams = ["sh", "-c", "cat; ls -l /proc/self/fd | wc -l"];
    let plain = of(&[], &streams);
    assert!(plain.starts_with("a line\n"), "{plain}");
    assert_eq!(of(&["--stats"], &streams), plain);
    // The program leads no group of its own.
    let group = of(&["--stats"], &["sh", "-c", "cut -d' ' -f5 /proc/self/stat; cut -d' ' -f5 /proc/$PPID/stat"]);
    let group: Vec<&str> = group.lines().collect();
    assert!(group.len() == 2 && group[0] == group[1], "{group:?}");
}

/// `dime run --stats` of a program that says "ready", and what reads its output.
/// Signals that are ignored stay so in what is started, and nohup and a shell's `&` ignore some.
fn reset_signals() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
        // SAFETY: may be called between fork and exec.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

fn started(program: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut command = Command::new(tool_path("dime"));
    command.args(["run", "--stats", "--dime"]).arg(dime_lib()).arg("--").args(program);
    // SAFETY: what it calls may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            reset_signals();
            Ok(())
        })
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the tool starts");
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    output.read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    (child, output)
}

fn send(child: &Child, signal: i32) {
    // SAFETY: a plain system call; nobody has waited for the child.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

#[test]
fn signals_go_to_the_program_and_the_table_comes_after_its_end() {
    let idle =
        "import signal, time; signal.signal(signal.SIGINT, signal.SIG_DFL); print('ready', flush=True); time.sleep(60)";
    for (name, signal) in [
        ("INT", libc::SIGINT),
        ("TERM", libc::SIGTERM),
        ("HUP", libc::SIGHUP),
        ("QUIT", libc::SIGQUIT),
        ("USR1", libc::SIGUSR1),
        ("USR2", libc::SIGUSR2),
    ] {
        // A program that handles it.
        let script =
            format!("trap 'echo got {name}; exit 7' {name}; echo ready; while :; do read -t 0.05 <> <(:); done");
        let (mut child, mut output) = started(&["bash", "-c", &script]);
        send(&child, signal);
        let mut rest = String::new();
        output.read_to_string(&mut rest).expect("text");
        assert_eq!(rest, format!("got {name}\n"));
        let mut table = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut table).expect("text");
        assert_eq!(child.wait().expect("an end").code(), Some(7), "{name}");
        assert!(table.contains("dime: no process wrote counters"), "{name}: {table}");
        // And one that does not.
        let (mut child, _output) = started(&["python3", "-c", idle]);
        send(&child, signal);
        assert_eq!(child.wait().expect("an end").signal(), Some(signal), "{name}");
    }
}

/// A program in Python that awaits this signal for a while, runs a line meanwhile, and prints how many came from its parent and how many
/// from elsewhere. Two that are close may become one, so there should be many.
fn awaits(signal: &str, line: &str) -> String {
    format!(
        "import os, signal, time\n\
         number = signal.{signal}\n\
         signal.pthread_sigmask(signal.SIG_BLOCK, [number])\n\
         print('ready', flush=True)\n\
         came = [0, 0]\n\
         end = time.time() + 2\n\
         while time.time() < end:\n    {line}\n    info = signal.sigtimedwait([number], 0.05)\n    \
             if info: came[info.si_pid != os.getppid()] += 1\n\
         print('parent=%d\\nelsewhere=%d' % tuple(came))\n"
    )
}

#[test]
fn a_signal_of_the_terminal_is_not_sent_to_the_program_again() {
    // Both are in the foreground group of a terminal, which sends them ctrl-C, again and again.
    let python = write(
        work_dir("run/terminal").join("terminal.py"),
        "import os, pty, select, sys, termios\n\
         pid, terminal = pty.fork()\n\
         if pid == 0:\n    settings = termios.tcgetattr(0)\n    settings[3] = settings[3] & ~termios.ECHO | termios.NOFLSH\n    termios.tcsetattr(0, termios.TCSANOW, settings)\n    os.execv(sys.argv[1], sys.argv[1:])\n\
         text = b''\n\
         try:\n    \
             while True:\n        \
                 if select.select([terminal], [], [], 0.02)[0]:\n            text += os.read(terminal, 1000)\n        \
                 if b'ready' in text and b'parent' not in text: os.write(terminal, b'\\x03')\n\
         except OSError:\n    pass\n\
         print(text.decode().replace('\\r', ''))\n\
         print('code=%d' % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n",
    );
    let program = Program::new("python3").arg(python).arg(tool_path("dime")).args(["run", "--stats", "--dime"]);
    let outcome = program.arg(dime_lib()).args(["--", "python3", "-c", &awaits("SIGINT", "pass")]).succeeds();
    assert_eq!(outcome.value("parent"), "0", "{outcome}");
    assert_ne!(outcome.value("elsewhere"), "0", "{outcome}");
    assert_eq!(outcome.value("code"), "0", "{outcome}");
    assert!(outcome.stdout.contains("dime: no process wrote counters"), "{outcome}");
}

#[test]
fn a_signal_that_the_program_sends_to_its_group_is_not_sent_to_it_again() {
    // A session of its own, so that the group has nobody else in it.
    let program = Program::new("setsid").arg("-w").arg(tool_path("dime")).args(["run", "--stats", "--dime"]);
    let script = awaits("SIGTERM", "os.kill(0, number)");
    let outcome = program.arg(dime_lib()).args(["--", "python3", "-c", &script]).succeeds();
    assert_eq!(outcome.value("parent"), "0", "{outcome}");
    assert_ne!(outcome.value("elsewhere"), "0", "{outcome}");
    assert!(outcome.stderr.contains("dime: no process wrote counters"), "{outcome}");
}

#[test]
fn where_the_end_of_a_child_cannot_be_seen_stats_is_refused_with_the_way_out() {
    let of = |option: &str| {
        let ignore = "import os, signal, sys\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nos.execv(sys.argv[1], sys.argv[1:])\n";
        let program =
            Program::new("python3").args(["-c", ignore]).arg(tool_path("dime")).args(["run", option, "--dime"]);
        program.arg(dime_lib()).args(["--", "echo", "ran"]).run()
    };
    let outcome = of("--stats");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{outcome}");
    assert!(outcome.stderr.contains("env --default-signal=CHLD"), "{outcome}");
    assert_eq!(of("--quiet").stdout, "ran\n");
}

// ---- Frameworks ----

/// A folder of programs that print the variables they were started with.
fn fake_frameworks(name: &str) -> PathBuf {
    let folder = work_dir(&format!("run/{name}"));
    for program in ["vllm", "sglang", "trtllm-serve", "torchrun", "python3"] {
        let script = "#!/bin/sh\necho symm=$VLLM_ALLREDUCE_USE_SYMM_MEM\necho flashinfer=$VLLM_ALLREDUCE_USE_FLASHINFER\n\
                      echo preload=$LD_PRELOAD\necho vllm=$VLLM_NCCL_SO_PATH\necho sglang=$SGLANG_NCCL_SO_PATH\necho args=$*\n";
        let path = write(folder.join(program), script);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("an executable script");
    }
    folder
}

fn with_fakes(folder: &Path, arguments: &[&str]) -> Program {
    run().args(arguments).env("PATH", format!("{}:/usr/bin:/bin", folder.display()))
}

#[test]
fn auto_says_what_it_concluded_and_sets_the_switches_of_that_framework() {
    let fakes = fake_frameworks("auto");
    for (command, name, switch) in [
        (&["vllm", "serve", "m"][..], "vLLM by \"vllm\"", "0"),
        (
            &["python3", "-m", "vllm.entrypoints.openai.api_server"],
            "vLLM by \"vllm.entrypoints.openai.api_server\"",
            "0",
        ),
        (
            &["torchrun", "--nproc-per-node", "2", "-m", "sglang.launch_server"],
            "SGLang by \"sglang.launch_server\"",
            "",
        ),
        (&["sglang", "serve"], "SGLang by \"sglang\"", ""),
        (&["trtllm-serve", "m"], "TensorRT-LLM by \"trtllm-serve\"", ""),
    ] {
        let arguments = [&["--for", "auto", "--"], command].concat();
        let outcome = with_fakes(&fakes, &arguments).succeeds();
        assert!(outcome.stderr.contains(&format!("dime: --for auto: {name}\n")), "{outcome}");
        assert_eq!((outcome.value("symm"), outcome.value("flashinfer")), (switch, switch), "{outcome}");
        // The command is the user's: nothing is added.
        assert_eq!(outcome.value("args"), command[1..].join(" "));
        for variable in ["preload", "vllm", "sglang"] {
            assert_eq!(Path::new(outcome.value(variable)), dime_lib(), "{variable}");
        }
    }
    let outcome = with_fakes(&fakes, &["--for", "auto", "--", "python3", "train.py", "--backend", "vllm"]).succeeds();
    assert!(outcome.stderr.contains("shows none of vllm, sglang and trtllm"), "{outcome}");
    assert_eq!(outcome.value("symm"), "", "{outcome}");
}

#[test]
fn what_is_set_and_what_is_to_be_added_is_said_in_a_line_each_with_the_reason() {
    let fakes = fake_frameworks("lines");
    let outcome = with_fakes(&fakes, &["--for", "vllm", "--", "python3", "server.py"]).succeeds();
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    let beginnings = [
        "dime: LD_PRELOAD=/",
        "dime: VLLM_NCCL_SO_PATH=/",
        "dime: SGLANG_NCCL_SO_PATH=/",
        "dime: VLLM_ALLREDUCE_USE_SYMM_MEM=0: vLLM ",
        "dime: VLLM_ALLREDUCE_USE_FLASHINFER=0: vLLM ",
        "dime: add --disable-custom-all-reduce to the command: vLLM ",
        "dime: add --compilation-config.pass_config.fuse_allreduce_rms=false to the command: vLLM ",
    ];
    assert_eq!(lines.len(), beginnings.len(), "{outcome}");
    assert!(lines.iter().zip(beginnings).all(|(line, beginning)| line.starts_with(beginning)), "{outcome}");
    for (name, words) in [("sglang", "add --disable-custom-all-reduce"), ("trtllm", "allreduce_strategy: NCCL")] {
        let outcome = with_fakes(&fakes, &["--for", name, "--", "python3", "server.py"]).succeeds();
        assert!(outcome.stderr.contains(words), "{outcome}");
    }
    let outcome = with_fakes(&fakes, &["--for", "vllm", "--quiet", "--", "python3", "server.py"]).succeeds();
    assert_eq!((outcome.stderr.as_str(), outcome.value("symm")), ("", "0"), "{outcome}");
    // Without --for nothing is said, and no switch is set.
    let outcome = with_fakes(&fakes, &["--", "vllm", "serve"]).succeeds();
    assert_eq!((outcome.stderr.as_str(), outcome.value("symm")), ("", ""), "{outcome}");
}

#[test]
fn a_switch_that_the_user_has_set_is_kept_with_a_warning() {
    let fakes = fake_frameworks("kept");
    for quiet in [&["--for", "vllm", "--", "vllm"][..], &["--for", "vllm", "--quiet", "--", "vllm"]] {
        let outcome = with_fakes(&fakes, quiet).env("VLLM_ALLREDUCE_USE_SYMM_MEM", "1").succeeds();
        assert_eq!((outcome.value("symm"), outcome.value("flashinfer")), ("1", "0"), "{outcome}");
        let warning = "dime: warning: VLLM_ALLREDUCE_USE_SYMM_MEM stays \"1\", as it is set";
        assert!(outcome.stderr.contains(warning), "{outcome}");
    }
    let outcome =
        with_fakes(&fakes, &["--for", "vllm", "--", "vllm"]).env("VLLM_ALLREDUCE_USE_SYMM_MEM", "0").succeeds();
    assert!(!outcome.stderr.contains("warning") && outcome.stderr.contains("=0 (set already)"), "{outcome}");
    let outcome = with_fakes(&fakes, &["--for", "sglang", "--", "sglang", "--enable-symm-mem"]).succeeds();
    assert!(outcome.stderr.contains("dime: warning: --enable-symm-mem in the command"), "{outcome}");
}

#[test]
fn libraries_that_are_preloaded_already_stay_and_ours_is_there_once() {
    let fakes = fake_frameworks("preloaded");
    let other = sim_dir().join("libnvidia-ml.so.1");
    let (ours, other) = (dime_lib().display().to_string(), other.display().to_string());
    let both = format!("{ours}:{other}");
    for before in [other.clone(), both.clone(), format!("{other} {ours}")] {
        let outcome = with_fakes(&fakes, &["--", "vllm"]).env("LD_PRELOAD", before).succeeds();
        assert_eq!(outcome.value("preload"), both, "{outcome}");
    }
}

#[test]
fn an_unknown_framework_is_an_error_that_lists_the_names() {
    let outcome = run().args(["--for", "megatron", "--", "echo", "ran"]).run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{outcome}");
    assert!(outcome.stderr.contains("invalid value 'megatron' for '--for <FRAMEWORK>'"), "{outcome}");
    assert!(outcome.stderr.contains("[possible values: vllm, sglang, trtllm, auto]"), "{outcome}");
}

#[test]
fn stats_of_a_framework_that_uses_its_own_all_reduce_name_the_way_out() {
    // A fake vllm whose worker makes a communicator and no all-reduce.
    let stats = Stats::new("stats-framework");
    let folder = work_dir("run/stats-framework-program");
    let vllm = write(folder.join("vllm"), format!("#!/bin/sh\n{} make 2\n", unused_program().display()));
    std::fs::set_permissions(&vllm, std::fs::Permissions::from_mode(0o755)).expect("an executable script");
    let outcome = stats.program(&vllm).args(["serve", "m"]).succeeds();
    assert!(outcome.stderr.contains("likely the framework uses an all-reduce of its own (--for "), "{outcome}");
    stats.assert_left_nothing();
}
