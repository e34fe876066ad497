//! The properties of a device, and the link between two devices.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};

use cudarc::driver::sys::CUuuid;

use crate::gpu::CUdevice;
use crate::gpu::driver::{Driver, DriverResult};

/// What a rank says of its device in the setup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// The driver's number of it in this process.
    pub ordinal: CUdevice,
    /// Its UUID, the same in every process of the host.
    pub uuid: [u8; 16],
    /// Compute capability, 90 for 9.0.
    pub arch: u32,
    /// Multiprocessors.
    pub multiprocessors: u16,
    /// It is a MIG instance.
    pub mig: bool,
    /// Its memory can be shared as a file descriptor.
    pub shares_descriptors: bool,
}

const MULTIPROCESSOR_COUNT: c_int = 16;
const COMPUTE_CAPABILITY_MAJOR: c_int = 75;
const COMPUTE_CAPABILITY_MINOR: c_int = 76;
const VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED: c_int = 102;
const HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED: c_int = 103;
const P2P_NATIVE_ATOMIC_SUPPORTED: c_int = 3;

fn attribute(driver: &Driver, device: CUdevice, which: c_int) -> DriverResult<c_int> {
    let mut value = 0;
    // SAFETY: the out pointer is ours.
    driver.check("cuDeviceGetAttribute", unsafe { (driver.device_get_attribute)(&mut value, which, device) })?;
    Ok(value)
}

fn uuid_of(driver: &Driver, device: CUdevice) -> DriverResult<[u8; 16]> {
    let mut uuid = CUuuid { bytes: [0; 16] };
    // SAFETY: the out pointer is ours.
    driver.check("cuDeviceGetUuid", unsafe { (driver.device_get_uuid)(&mut uuid, device) })?;
    Ok(uuid.bytes.map(|byte| byte as u8))
}

impl Device {
    /// Queries the driver for device number `ordinal`.
    pub fn describe(driver: &Driver, ordinal: CUdevice) -> DriverResult<Self> {
        let mut name = [0 as c_char; 256];
        // SAFETY: the buffer is as long as said.
        driver.check("cuDeviceGetName", unsafe {
            (driver.device_get_name)(name.as_mut_ptr(), name.len() as c_int, ordinal)
        })?;
        // SAFETY: the driver ends the name with a zero.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
        let major = attribute(driver, ordinal, COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(driver, ordinal, COMPUTE_CAPABILITY_MINOR)?;
        Ok(Self {
            ordinal,
            uuid: uuid_of(driver, ordinal)?,
            arch: (major * 10 + minor) as u32,
            multiprocessors: attribute(driver, ordinal, MULTIPROCESSOR_COUNT)? as u16,
            mig: name.contains(" MIG "),
            shares_descriptors: attribute(driver, ordinal, VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED)? != 0
                && attribute(driver, ordinal, HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED)? != 0,
        })
    }
}

/// The device of this UUID. None: it is not visible in this process.
pub fn visible(driver: &Driver, uuid: [u8; 16]) -> Option<CUdevice> {
    let mut count = 0;
    // SAFETY: the out pointer is ours.
    driver.check("cuDeviceGetCount", unsafe { (driver.device_get_count)(&mut count) }).ok()?;
    (0..count).find(|device| uuid_of(driver, *device).ok() == Some(uuid))
}

/// The link between two devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// NVLink or NVSwitch.
    Nvlink,
    /// Another link, or one that could not be determined.
    Other,
    /// The driver reports no peer access.
    None,
}

/// The link from `device` to the device with the UUID `peer`, which this process may not see.
pub fn link(driver: &Driver, device: &Device, peer: [u8; 16]) -> Link {
    let Some(peer_device) = visible(driver, peer) else {
        // NVML sees all GPUs of the host.
        return if nvml_reports_nvlink(device.uuid, peer) { Link::Nvlink } else { Link::Other };
    };
    let mut can_access = 0;
    let mut atomics = 0;
    // SAFETY: out pointers are ours.
    let asked = unsafe {
        driver
            .check(
                "cuDeviceCanAccessPeer",
                (driver.device_can_access_peer)(&mut can_access, device.ordinal, peer_device),
            )
            .and_then(|()| {
                driver.check(
                    "cuDeviceGetP2PAttribute",
                    (driver.device_get_p2p_attribute)(
                        &mut atomics,
                        P2P_NATIVE_ATOMIC_SUPPORTED,
                        device.ordinal,
                        peer_device,
                    ),
                )
            })
    };
    match (asked, can_access, atomics) {
        (Ok(()), 0, _) => Link::None,
        // NVLink supports atomics across the link, PCIe does not.
        (Ok(()), _, 1) => Link::Nvlink,
        _ => Link::Other,
    }
}

/// Asks NVML, which is opened for this query.
fn nvml_reports_nvlink(device: [u8; 16], peer: [u8; 16]) -> bool {
    type NvmlDevice = *mut c_void;
    const P2P_CAPS_NVLINK: c_uint = 2;
    const P2P_STATUS_OK: c_uint = 0;
    // SAFETY: each function has the C type that NVML documents; handles are used only while NVML is initialised.
    unsafe {
        let library = libc::dlopen(c"libnvidia-ml.so.1".as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        if library.is_null() {
            return false;
        }
        let init = libc::dlsym(library, c"nvmlInit_v2".as_ptr());
        let by_uuid = libc::dlsym(library, c"nvmlDeviceGetHandleByUUID".as_ptr());
        let p2p_status = libc::dlsym(library, c"nvmlDeviceGetP2PStatus".as_ptr());
        let shutdown = libc::dlsym(library, c"nvmlShutdown".as_ptr());
        if [init, by_uuid, p2p_status, shutdown].iter().any(|symbol| symbol.is_null()) {
            return false;
        }
        let init = std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_uint>(init);
        let shutdown = std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_uint>(shutdown);
        let by_uuid =
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*const c_char, *mut NvmlDevice) -> c_uint>(by_uuid);
        let p2p_status = std::mem::transmute::<
            *mut c_void,
            unsafe extern "C" fn(NvmlDevice, NvmlDevice, c_uint, *mut c_uint) -> c_uint,
        >(p2p_status);
        if init() != 0 {
            return false;
        }
        let find = |uuid: [u8; 16]| {
            let mut found: NvmlDevice = std::ptr::null_mut();
            (by_uuid(uuid_text(uuid).as_ptr(), &mut found) == 0).then_some(found)
        };
        let reports = match (find(device), find(peer)) {
            (Some(device), Some(peer)) => {
                let mut status = c_uint::MAX;
                p2p_status(device, peer, P2P_CAPS_NVLINK, &mut status) == 0 && status == P2P_STATUS_OK
            }
            _ => false,
        };
        shutdown();
        reports
    }
}

/// How a log line names a device: its number here, if this process sees it, and its UUID, which is the same in every
/// process.
pub fn name(driver: &Driver, uuid: [u8; 16]) -> String {
    let text = uuid_text(uuid);
    let text = text.to_string_lossy();
    match visible(driver, uuid) {
        Some(ordinal) => format!("GPU {ordinal} ({text})"),
        None => text.into_owned(),
    }
}

/// A UUID as the management tools write it.
fn uuid_text(uuid: [u8; 16]) -> CString {
    let hex: Vec<String> = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |range: std::ops::Range<usize>| hex[range].concat();
    let text = format!("GPU-{}-{}-{}-{}-{}", part(0..4), part(4..6), part(6..8), part(8..10), part(10..16));
    CString::new(text).expect("hex digits hold no NUL")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_written_as_the_management_tools_write_it() {
        let uuid = [0x81, 0xc6, 0x65, 0xf0, 0xc1, 0xea, 0x96, 0xeb, 0xc4, 0xce, 0x56, 0x12, 0x1c, 0x13, 0x10, 0xc6];
        assert_eq!(uuid_text(uuid).to_str(), Ok("GPU-81c665f0-c1ea-96eb-c4ce-56121c1310c6"));
    }
}
