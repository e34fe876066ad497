//! Options of nccl-tests that have no meaning here: each is refused with the reason and the way out.

use dime_harness::Fallible;

/// They are read so that they can be refused in words of their own.
#[derive(clap::Args)]
pub struct Refused {
    #[arg(short = 'm', long = "agg_iters", hide = true)]
    aggregated: Option<String>,
    #[arg(short = 'N', long = "run_cycles", hide = true)]
    cycles: Option<String>,
    #[arg(short = 'p', long = "parallel_init", hide = true)]
    parallel_init: Option<String>,
    #[arg(short = 'r', long = "root", hide = true)]
    root: Option<String>,
    #[arg(short = 'z', long = "blocking", hide = true)]
    blocking: Option<String>,
    #[arg(short = 'y', long = "stream_null", hide = true)]
    stream_null: Option<String>,
    #[arg(short = 'a', long = "average", hide = true)]
    average: Option<String>,
    #[arg(short = 'T', long = "timeout", hide = true)]
    timeout: Option<String>,
    #[arg(short = 'C', long = "report_cputime", hide = true)]
    report_cputime: Option<String>,
}

impl Refused {
    /// Fails when one of them is given with a value other than the one that means what happens here anyway.
    pub fn check(&self) -> Fallible<()> {
        let options = [
            ("-m", &self.aggregated, "1", "all-reduces in one group are not timed; leave it out"),
            ("-N", &self.cycles, "1", "repeat the run with --repeat"),
            ("-p", &self.parallel_init, "0", "communicators are made one after the other; leave it out"),
            ("-r", &self.root, "0", "an all-reduce has no root; leave it out"),
            ("-z", &self.blocking, "0", "the host waits at the end of each sample only; leave it out"),
            ("-y", &self.stream_null, "0", "each rank has a stream of its own; leave it out"),
            (
                "-a",
                &self.average,
                "",
                "the time is that of the fastest rank, and p50 and p99 are those of all; leave it out",
            ),
            ("-T", &self.timeout, "0", "limit the run with --limit SECONDS"),
            ("-C", &self.report_cputime, "0", "the host's time of a call comes with --mode eager"),
        ];
        let refused = options.iter().find(|(_, value, usual, _)| value.as_ref().is_some_and(|value| value != usual));
        match refused {
            Some((option, Some(value), _, reason)) => Err(format!("{option} {value}: {reason}")),
            _ => Ok(()),
        }
    }
}
