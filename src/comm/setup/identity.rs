//! What a rank says of itself: its process, host, build and settings, and why it cannot take part.

use std::io;

use once_cell::race::OnceBox;

use crate::comm::setup::nccl_variables::NcclVariables;
use crate::comm::setup::sockets;
use crate::gpu::image;
use crate::gpu::topology::Device;
use crate::host::config::Config;
use crate::route::Reason;

/// A number that no other process has, not even a child of fork.
pub fn process_id() -> io::Result<[u8; 16]> {
    static RANDOM: OnceBox<[u8; 16]> = OnceBox::new();
    let mut id = *RANDOM.get_or_try_init(|| sockets::random().map(Box::new))?;
    id[..4].copy_from_slice(&std::process::id().to_le_bytes());
    Ok(id)
}

/// The host's boot id, which distinguishes hosts and boots.
pub fn boot_id() -> Result<[u8; 16], String> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(PATH).map_err(|error| format!("{PATH}: {error}"))?;
    let mut id = [0; 16];
    let digits: Vec<u8> =
        text.bytes().filter_map(|byte| (byte as char).to_digit(16).map(|digit| digit as u8)).collect();
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Ok(id)
}

pub fn build() -> u64 {
    u64::from_str_radix(env!("DIME_BUILD_HASH"), 16).unwrap_or(0)
}

/// A hash of the settings in which the ranks must agree.
pub fn settings(config: &Config) -> u64 {
    let text = config.agreed_text();
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Why this rank cannot take part, as far as it knows before the first round.
pub fn own_refusal(config: &Config, variables: &NcclVariables, device: &Device) -> Option<Reason> {
    if config.disable {
        Some(Reason::Disabled)
    } else if !image::all().any(|_| true) {
        Some(Reason::NoKernels)
    } else if std::env::var_os("CUDA_LAUNCH_BLOCKING").is_some_and(|value| value == "1") {
        Some(Reason::LaunchBlocking)
    } else if variables.forbids_peer_access() {
        Some(Reason::P2pDisabled)
    } else if device.mig {
        Some(Reason::Mig)
    } else {
        None
    }
}

/// What a rank says of its device when it does not know it. It refuses in the same message.
pub fn unknown_device(ordinal: i32) -> Device {
    Device { ordinal, uuid: [0; 16], arch: 0, multiprocessors: 0, mig: false, shares_descriptors: false }
}
