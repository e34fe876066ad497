//! The management library of NVIDIA's driver, opened for a question that CUDA does not answer.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};

use crate::Fallible;
use crate::loader::{Opened, function_table};

type Handle = *mut c_void;

/// NVML_NVLINK_DEVICE_TYPE_SWITCH
const SWITCH: c_int = 2;
/// More links than any GPU has; one that it has not is an error, and not counted.
const MOST_LINKS: c_uint = 36;

function_table! {
    /// Entry points of libnvidia-ml.so.1. Results are NVML's codes, 0 for success.
    struct Nvml;
    init = "nvmlInit_v2" ();
    shutdown = "nvmlShutdown" ();
    device = "nvmlDeviceGetHandleByUUID" (*const c_char, *mut Handle);
    link_state = "nvmlDeviceGetNvLinkState" (Handle, c_uint, *mut c_uint);
    link_end = "nvmlDeviceGetNvLinkRemoteDeviceType" (Handle, c_uint, *mut c_int);
}

/// How many NVLinks of the GPU with this UUID are up and end at an NVSwitch. The error says why that is not known.
pub fn switch_links(uuid: [u8; 16]) -> Fallible<u32> {
    let library = Opened::open(c"libnvidia-ml.so.1")?;
    let nvml = Nvml::resolve(library, |symbol| format!("libnvidia-ml.so.1 has no {symbol}"))?;
    let checked = |call: &str, code: c_int| if code == 0 { Ok(()) } else { Err(format!("{call}: code {code}")) };
    let text = CString::new(uuid_text(uuid)).map_err(|error| error.to_string())?;
    let mut device = std::ptr::null_mut();
    // SAFETY: NVML is initialised from here to the shutdown, and the handle is used between them only; out pointers are ours.
    unsafe {
        checked(Nvml::init, (nvml.init)())?;
        let found = checked(Nvml::device, (nvml.device)(text.as_ptr(), &mut device));
        let links = found.map(|()| (0..MOST_LINKS).filter(|link| ends_at_switch(&nvml, device, *link)).count() as u32);
        (nvml.shutdown)();
        links
    }
}

/// # Safety
/// NVML is initialised, and the handle is one of its devices.
unsafe fn ends_at_switch(nvml: &Nvml, device: Handle, link: c_uint) -> bool {
    let (mut is_up, mut end) = (0, -1);
    // SAFETY: as the caller says; out pointers are ours.
    unsafe {
        (nvml.link_state)(device, link, &mut is_up) == 0
            && is_up == 1
            && (nvml.link_end)(device, link, &mut end) == 0
            && end == SWITCH
    }
}

/// "GPU-81c665f0-c1ea-96eb-c4ce-56121c1310c6"
fn uuid_text(uuid: [u8; 16]) -> String {
    let mut text = "GPU".to_owned();
    for (index, byte) in uuid.iter().enumerate() {
        let begins_part = matches!(index, 0 | 4 | 6 | 8 | 10);
        text += &format!("{}{byte:02x}", if begins_part { "-" } else { "" });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_written_as_the_management_tools_write_it() {
        let uuid = [0x81, 0xc6, 0x65, 0xf0, 0xc1, 0xea, 0x96, 0xeb, 0xc4, 0xce, 0x56, 0x12, 0x1c, 0x13, 0x10, 0xc6];
        assert_eq!(uuid_text(uuid), "GPU-81c665f0-c1ea-96eb-c4ce-56121c1310c6");
    }
}
