//! `dime-qa forwards`: shows reasons to hand a call to the real NCCL, in a run each.
//!
//! Each scenario sets up what makes a call ineligible, prints the line dimeExplain writes, and checks the result. One
//! scenario is eligible, to show that the others are forwarded for their own reason.

use std::time::Duration;

use dime_harness::Fallible;
use dime_harness::control::Control;
use dime_harness::cuda::{DeviceBuffer, PinnedBuffer};
use dime_harness::guard::POISON;
use dime_harness::locate::Paths;
use dime_harness::number::{Dtype, Op};
use dime_harness::output::say;
use dime_harness::payload::{Kind, PERIOD, Payload};
use dime_harness::rig::{Buffers, Communicator, open_gpus, wait_all};
use dime_harness::team::{Model, Seat, Team, set_variables};

use crate::devices::choose_devices;

/// Options of `dime-qa forwards`.
#[derive(clap::Args, Clone)]
pub struct Options {
    #[command(flatten)]
    paths: Paths,
    /// Devices to use [default: the first two]
    #[arg(long, value_delimiter = ',')]
    devices: Vec<usize>,
}

/// What dimeExplain must say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Fast,
    Forward,
}

struct Scenario {
    name: &'static str,
    expect: Expect,
    variables: &'static [(&'static str, &'static str)],
    /// Variables that only the last rank has.
    variables_of_last: &'static [(&'static str, &'static str)],
    model: Model,
    ranks: usize,
    /// Both ranks on one device.
    same_device: bool,
    dtype: Dtype,
    bytes: usize,
    pre_mul_sum: bool,
    /// The communicator's first call happens inside a stream capture.
    capture_first: bool,
}

const PLAIN: Scenario = Scenario {
    name: "an eligible call",
    expect: Expect::Fast,
    variables: &[],
    variables_of_last: &[],
    model: Model::Threads,
    ranks: 2,
    same_device: false,
    dtype: Dtype::F32,
    bytes: 4096,
    pre_mul_sum: false,
    capture_first: false,
};

fn scenarios() -> Vec<Scenario> {
    let forward = |name| Scenario { name, expect: Expect::Forward, ..PLAIN };
    vec![
        PLAIN,
        Scenario { bytes: 256 << 20, ..forward("a message past the default threshold") },
        Scenario { variables: &[("DIME_THRESHOLD_BYTES", "2048")], ..forward("a message past DIME_THRESHOLD_BYTES") },
        Scenario { variables: &[("DIME_DISABLE", "1")], ..forward("DIME_DISABLE=1") },
        Scenario { variables: &[("CUDA_LAUNCH_BLOCKING", "1")], ..forward("CUDA_LAUNCH_BLOCKING=1") },
        Scenario { bytes: 0, ..forward("no elements") },
        // NCCL connects at its first call, too, and in one process cannot do so in a capture: have it connect before.
        Scenario {
            capture_first: true,
            variables: &[("NCCL_RUNTIME_CONNECT", "0")],
            ..forward("a first call inside a stream capture")
        },
        Scenario {
            dtype: Dtype::I32,
            variables: &[("DIME_KERNEL", "one_shot_sentinel")],
            ..forward("a forced kernel that cannot carry the type")
        },
        Scenario { ranks: 1, ..forward("one rank") },
        Scenario { pre_mul_sum: true, ..forward("an operation made by ncclRedOpCreatePreMulSum") },
        // NCCL 2.30 and later take them; older ones refuse.
        Scenario {
            same_device: true,
            variables: &[("NCCL_MULTI_RANK_GPU_ENABLE", "1"), ("DIME_ALLOW_SHARED_GPU", "0")],
            ..forward("two ranks on one device")
        },
        Scenario {
            model: Model::Processes,
            variables_of_last: &[("DIME_DISABLE", "1")],
            ..forward("DIME_DISABLE=1 on one rank only")
        },
        Scenario {
            model: Model::Processes,
            variables_of_last: &[("DIME_THRESHOLD_BYTES", "2048")],
            ..forward("another DIME_THRESHOLD_BYTES on one rank")
        },
    ]
}

/// Runs every scenario and prints a line for each.
pub fn run(options: &Options) -> Fallible<bool> {
    let paths = options.paths.resolve()?;
    let mut devices = choose_devices(&options.devices)?;
    devices.truncate(2);
    if devices.len() < 2 {
        return Err("two devices are needed".to_owned());
    }
    let mut all_right = true;
    for scenario in scenarios() {
        let (right, line) = one(&scenario, &paths, &devices)?;
        say!("{}  {}: {line}", if right { "PASS" } else { "FAIL" }, scenario.name)?;
        all_right &= right;
    }
    Ok(all_right)
}

fn one(scenario: &Scenario, paths: &Paths, devices: &[usize]) -> Fallible<(bool, String)> {
    set_variables(scenario.variables);
    let devices = if scenario.same_device { vec![devices[0]; 2] } else { devices[..scenario.ranks].to_vec() };
    let payload = Payload::new(scenario.dtype, Kind::Exact, &[Op::Sum], devices.len(), 1);
    let control = Control::new()?;
    let team = Team {
        model: scenario.model,
        devices: &devices,
        control,
        wait_limit: Duration::from_secs(20),
        limit: Duration::from_secs(60),
        in_process: false,
    };
    let outcome = team.run(|seat| work(scenario, seat, paths, &payload));
    let unset: Vec<(&str, &str)> = scenario.variables.iter().map(|(name, _)| (*name, "")).collect();
    set_variables(&unset);
    Ok(match outcome {
        Ok(()) => {
            let line = control.report();
            let wanted = match scenario.expect {
                Expect::Fast => "fast:",
                // Such a call leaves the communicator as it was; that it was forwarded is in the counters.
                Expect::Forward if scenario.capture_first => "forward_capture_first",
                Expect::Forward => "forward:",
            };
            (line.starts_with(wanted), line)
        }
        // NCCL before 2.30 refuses two ranks on one device by itself, with ncclInvalidUsage: there is nothing to forward.
        Err(_) if scenario.same_device && control.log_text().contains("code 5") => {
            (true, "refused by NCCL itself when the communicator is made".to_owned())
        }
        Err(error) => (false, error),
    })
}

fn work(scenario: &Scenario, seat: &Seat, paths: &Paths, payload: &Payload) -> Fallible<()> {
    if seat.worker + 1 == seat.workers && !scenario.variables_of_last.is_empty() {
        set_variables(scenario.variables_of_last);
    }
    let library = &paths.libraries()?.dime;
    let gpus = open_gpus(seat)?;
    let communicator = Communicator::create(seat, library, &gpus)?;
    let (gpu, comm) = (&gpus[0], communicator.handles[0]);
    let input = DeviceBuffer::new(scenario.bytes.max(payload.inputs[0].len()))?;
    input.upload(&payload.inputs[gpu.rank])?;
    input.tile(payload.inputs[gpu.rank].len(), &gpu.stream)?;
    let output = DeviceBuffer::new(scenario.bytes)?;
    gpu.stream.fill(output.address(), POISON, scenario.bytes)?;
    let op = if scenario.pre_mul_sum { library.pre_mul_sum(0.5, comm)? } else { Op::Sum.code() };
    let dtype = scenario.dtype;
    let count = scenario.bytes / dtype.bytes();
    let buffers = [Buffers { input: input.address(), output: output.address() }];
    seat.doing("the all-reduce");
    let call = || communicator.all_reduce_on(&[&gpu.stream], &buffers, count, dtype, op);
    if scenario.capture_first {
        let graph = gpu.stream.capture(call)?;
        gpu.stream.launch(&graph)?;
        wait_all(seat, &gpus)?;
    } else {
        // Twice: the first eligible call sets the communicator up.
        for _ in 0..2 {
            call()?;
            wait_all(seat, &gpus)?;
        }
    }
    let line = if scenario.capture_first {
        let counted = library.counters().into_iter().filter(|(name, value)| name.starts_with("forward") && *value > 0);
        counted.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
    } else {
        library.explain_raw(comm, count, dtype, op)?.unwrap_or_default()
    };
    let host = PinnedBuffer::new(scenario.bytes)?;
    gpu.stream.copy_to_host(&host, 0, output.address(), scenario.bytes)?;
    wait_all(seat, &gpus)?;
    if scenario.pre_mul_sum {
        check_halves(payload, host.as_slice())?;
    } else if let Some(index) = payload.first_wrong(Op::Sum, 0, &host.as_slice()[..count * dtype.bytes()]) {
        let value = dtype.show(dtype.bits_at(host.as_slice(), index));
        return Err(format!("element {index} of {count} is {value}, which is wrong"));
    }
    if scenario.pre_mul_sum {
        library.destroy_op(op, comm)?;
    }
    if seat.worker == 0 {
        seat.control.set_report(&line);
    }
    communicator.destroy(seat, &gpus)?;
    seat.barrier()
}

/// Compares a result with half the sum of small integers, which is exact.
fn check_halves(payload: &Payload, got: &[u8]) -> Fallible<()> {
    let answer = payload.answer(Op::Sum);
    for index in 0..got.len() / 4 {
        let want = payload.dtype.to_f32(payload.dtype.bits_at(&answer.first, index % PERIOD)) / 2.0;
        let value = payload.dtype.to_f32(payload.dtype.bits_at(got, index));
        if value != want {
            return Err(format!("element {index} is {value}, not {want}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_scenario_is_fast_and_all_others_forward() {
        let scenarios = scenarios();
        assert_eq!(scenarios.iter().filter(|s| s.expect == Expect::Fast).count(), 1);
        assert!(scenarios.len() >= 9);
    }

    #[test]
    fn a_halved_sum_is_compared_exactly() {
        let payload = Payload::new(Dtype::F32, Kind::Exact, &[Op::Sum], 2, 1);
        let halves: Vec<u8> = (0..100)
            .flat_map(|i| {
                (f32::from_bits(Dtype::F32.bits_at(&payload.answer(Op::Sum).first, i) as u32) / 2.0).to_le_bytes()
            })
            .collect();
        assert_eq!(check_halves(&payload, &halves), Ok(()));
        assert!(check_halves(&payload, &payload.answer(Op::Sum).first).is_err());
    }
}
