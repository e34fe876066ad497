//! Loading the kernels into a context.

use std::ffi::{CString, c_int, c_void};
use std::ptr;

use cudarc::driver::sys::CUmodule;

use crate::gpu::driver::{Driver, DriverError, DriverResult};
use crate::gpu::image::{self, Image, Target};
use crate::gpu::{CUcontext, CUfunction};
use crate::host::lock::Lock;
use crate::kernel::{KERNELS, Kernel, REDUCTIONS, Reduction};

/// A loaded all-reduce kernel.
#[derive(Clone, Copy, Debug)]
pub struct AllReduceFunction {
    /// The driver's handle.
    pub handle: CUfunction,
    /// It executes `griddepcontrol.wait` (kernels/backend/grid.h), so its launches may have the attribute of
    /// programmatic dependent launch. This depends on the architecture that it was compiled for, not on the GPU: PTX
    /// of compute capability 8.9 also runs on 9.0, and has no such wait.
    pub waits_for_stream: bool,
}

/// The functions of the kernels, for communicators of one number of ranks. Their code is loaded, so no launch loads it.
#[derive(Clone, Copy, Debug)]
pub struct Functions {
    all_reduce: [[AllReduceFunction; REDUCTIONS.len()]; KERNELS.len()],
    /// Writes a pattern into a peer's scratch.
    pub probe_write: CUfunction,
    /// Reports the words of the pattern that differ.
    pub probe_check: CUfunction,
    /// Waits for the launches of a lane.
    pub await_blocks: CUfunction,
}

impl Functions {
    /// The function of a kernel and a reduction.
    pub fn all_reduce(&self, kernel: Kernel, reduction: Reduction) -> AllReduceFunction {
        self.all_reduce[kernel as usize][reduction as usize]
    }

    /// Loads into `context`, which is current and of a GPU of this compute capability, what a communicator of `ranks`
    /// ranks needs.
    pub fn load(driver: &Driver, context: CUcontext, arch: u32, ranks: usize) -> DriverResult<Self> {
        let module = module_of(driver, context, arch)?;
        let specialised = matches!(ranks, 2 | 4 | 8);
        let none = AllReduceFunction { handle: ptr::null_mut(), waits_for_stream: false };
        let mut functions = Self {
            all_reduce: [[none; REDUCTIONS.len()]; KERNELS.len()],
            probe_write: load_function(driver, module, "dime_probe_write")?,
            probe_check: load_function(driver, module, "dime_probe_check")?,
            await_blocks: load_function(driver, module, "dime_await_blocks")?,
        };
        for kernel in KERNELS {
            for reduction in REDUCTIONS {
                let for_ranks = match reduction {
                    _ if kernel.uses_pair_form(ranks) => "2".to_owned(),
                    Reduction::Any => "n".to_owned(),
                    _ if specialised => ranks.to_string(),
                    _ => "n".to_owned(),
                };
                let name = format!("dime_{}_{}_{for_ranks}", kernel.name(), reduction.name());
                let handle = load_function(driver, module, &name)?;
                let waits_for_stream = compiled_for(driver, handle)? >= FIRST_ARCH_WITH_DEPENDENT_LAUNCH;
                functions.all_reduce[kernel as usize][reduction as usize] =
                    AllReduceFunction { handle, waits_for_stream };
            }
        }
        Ok(functions)
    }
}

/// The loaded modules, by the id of their context. A module stays loaded as long as its context, since all
/// communicators use the same kernels. The id is the key, because the application can destroy a primary context, and
/// the next one may have the same handle.
static MODULES: Lock<Vec<(u64, usize)>> = Lock::new(Vec::new());

fn module_of(driver: &Driver, context: CUcontext, arch: u32) -> DriverResult<CUmodule> {
    let mut id = 0;
    // SAFETY: the context is current; the out pointer is ours.
    driver.check("cuCtxGetId", unsafe { (driver.ctx_get_id)(context, &mut id) })?;
    let loaded =
        |modules: &[(u64, usize)]| modules.iter().find(|(of, _)| *of == id).map(|(_, module)| *module as CUmodule);
    if let Some(module) = loaded(&MODULES.hold()) {
        return Ok(module);
    }
    let no_image = |text| DriverError { call: "choosing an image of the kernels", code: NO_BINARY_FOR_GPU, text };
    let image = image::best(arch).ok_or_else(|| no_image(lacking(arch)))?;
    // Without the lock: threads of several GPUs come at the same time, and this takes tens of milliseconds.
    let unpacked = image.unpack().map_err(no_image)?;
    let mut modules = MODULES.hold();
    if let Some(module) = loaded(&modules) {
        return Ok(module);
    }
    let module = load_module(driver, image, &unpacked)?;
    modules.push((id, module as usize));
    Ok(module)
}

/// Loads an image into the current context.
fn load_module(driver: &Driver, image: Image, unpacked: &[u8]) -> DriverResult<CUmodule> {
    let mut module: CUmodule = ptr::null_mut();
    // SAFETY: an ELF file, or PTX that ends in NUL; the driver copies what it needs.
    let code = unsafe { (driver.module_load_data)(&mut module, unpacked.as_ptr().cast::<c_void>()) };
    driver.check("cuModuleLoadData", code).map_err(|error| DriverError {
        text: format!("{}{}", error.text, needed(driver, image.target, unpacked)),
        ..error
    })?;
    Ok(module)
}

/// CUDA_ERROR_NO_BINARY_FOR_GPU.
const NO_BINARY_FOR_GPU: c_int = 209;

fn lacking(arch: u32) -> String {
    let has: Vec<String> = image::all().map(|image| image.target.to_string()).collect();
    format!(
        "this libdime.so has no kernels for compute capability {}.{}, only for {}; build it with DIME_CUDA_ARCHS, and with \
         {arch} in that list",
        arch / 10,
        arch % 10,
        has.join(", ")
    )
}

/// Added to the driver's error when it refuses an image: the driver's version, and the one that the image needs.
fn needed(driver: &Driver, target: Target, unpacked: &[u8]) -> String {
    let oldest = target.oldest_driver(unpacked);
    match driver.version() {
        Ok(version) if version < oldest => format!(
            "; this driver is of {version}, and the kernels for {target} need one of {oldest} or newer: install that"
        ),
        Ok(version) => {
            format!("; this driver is of {version}, which should load kernels for {target}: they need {oldest}")
        }
        Err(_) => String::new(),
    }
}

/// As `__CUDA_ARCH__ / 10` in kernels/backend/grid.h.
const FIRST_ARCH_WITH_DEPENDENT_LAUNCH: c_int = 90;

/// The compute capability that a function was compiled for, 90 for 9.0: the one that `__CUDA_ARCH__` had, also if the
/// driver compiled its PTX. The binary version would not do: for PTX it is the GPU's.
fn compiled_for(driver: &Driver, function: CUfunction) -> DriverResult<c_int> {
    const PTX_VERSION: c_int = 5;
    let mut version = 0;
    // SAFETY: the out pointer is ours, the function is loaded.
    let asked = unsafe { (driver.func_get_attribute)(&mut version, PTX_VERSION, function) };
    driver.check("cuFuncGetAttribute", asked)?;
    Ok(version)
}

/// Finds a function and makes the driver load its code now. With lazy loading the first launch would load it, and
/// might then wait for the whole context, which never becomes idle while a kernel of Dime spins.
fn load_function(driver: &Driver, module: CUmodule, name: &str) -> DriverResult<CUfunction> {
    const BINARY_VERSION: c_int = 6;
    let name = CString::new(name).expect("kernel names hold no NUL");
    let mut function: CUfunction = ptr::null_mut();
    let mut version = 0;
    // SAFETY: out pointers are ours, the name is a C string.
    unsafe {
        driver.check("cuModuleGetFunction", (driver.module_get_function)(&mut function, module, name.as_ptr()))?;
        if let Some(func_load) = driver.func_load {
            driver.check("cuFuncLoad", func_load(function))?;
        }
        // Before CUDA 12.4 there is no cuFuncLoad. Asking for an attribute loads the function too.
        driver.check("cuFuncGetAttribute", (driver.func_get_attribute)(&mut version, BINARY_VERSION, function))?;
    }
    Ok(function)
}
