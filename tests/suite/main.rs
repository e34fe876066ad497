//! The integration tests, in one program: the runner keeps all processors busy across modules, and one program is linked.
//!
//! What counts the descriptors of its process, or looks at its own file, is a program of its own beside this folder.

#[path = "../support/mod.rs"]
mod support;

#[path = "../../src/kernel/catalogue.rs"]
#[allow(dead_code)] // the tests need the names of the kernels alone
mod catalogue;

mod abi;
mod bench;
mod configuration;
mod cost;
mod differential;
mod docs;
mod doctor;
mod exports;
mod fake_nccl;
mod floors;
mod headers;
mod loader;
mod loader_refusals;
mod loader_search;
mod logging;
mod packages;
mod plot;
mod pynccl;
mod run;
mod sim_aborted;
mod sim_aborts;
mod sim_batch_invariant;
mod sim_crowded;
mod sim_dependents;
mod sim_faults;
mod sim_gpu;
mod sim_graphs;
mod sim_groups;
mod sim_lifecycle;
mod sim_nccl_variables;
mod sim_node;
mod sim_observed;
mod sim_old_driver;
mod sim_parts;
mod sim_presence;
mod sim_probe;
mod sim_processes;
mod sim_schedules;
mod sim_shared_gpus;
mod sim_streams;
mod sim_stuck;
mod sim_suspended;
mod sim_trust;
mod sim_tuning;
mod stats_file;
mod tool;
