//! The parts of the simulated node by themselves: its driver and its NCCL do what the real ones promise.

use crate::support::Program;
use crate::support::sim::sim_file;

#[test]
fn the_simulated_driver_does_as_cuda_does() {
    let outcome = Program::new(sim_file("test_driver")).limit_s(300).succeeds();
    println!("{}", outcome.stdout.lines().last().unwrap_or_default());
}

#[test]
fn the_simulated_nccl_gives_right_results_and_everything_back() {
    let outcome = Program::new(sim_file("test_nccl")).limit_s(300).succeeds();
    println!("{}", outcome.stdout.lines().last().unwrap_or_default());
}
