//! The probe, the last work of a setup on the device: writes a pattern into every peer's scratch, checks what the
//! peers wrote, and clears scratch.

use std::ffi::c_void;
use std::ptr;

use crate::comm::setup::{Objection, SetupRun, memory};
use crate::gpu::CUdeviceptr;
use crate::gpu::driver::DriverResult;
use crate::host::config::Config;
use crate::kernel::layout::{DATA_BYTES, EPOCH_OFFSET, LANE_BYTES, LANES, MAX_BLOCKS, MAX_RANKS, PARITY_BYTES};
use crate::route::Reason;

impl SetupRun {
    /// A number that all ranks share and that differs between setups.
    fn salt(&self) -> u64 {
        let token = self.agreement.hellos()[0].token;
        u64::from_le_bytes([token[0], token[1], token[2], token[3], token[4], token[5], token[6], token[7]])
    }

    /// Enqueues the probe kernel that writes what rank `from` sends to rank `to`. With `wrong`, the kernel that
    /// compares it and counts differing words there.
    pub(super) fn launch_probe(
        &self,
        scratch: CUdeviceptr,
        from: usize,
        to: usize,
        wrong: Option<CUdeviceptr>,
    ) -> DriverResult<()> {
        let Some(functions) = &self.resources.functions else { return Ok(()) };
        let (mut scratch, mut from, mut to, mut salt) = (scratch, from as u32, to as u32, self.salt());
        let mut counter = wrong.unwrap_or(0);
        let function = if wrong.is_some() { functions.probe_check } else { functions.probe_write };
        let mut parameters: [*mut c_void; 5] = [
            (&raw mut scratch).cast(),
            (&raw mut from).cast(),
            (&raw mut to).cast(),
            (&raw mut salt).cast(),
            (&raw mut counter).cast(),
        ];
        let config = crate::gpu::LaunchConfig {
            gridDimX: 16,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: 256,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: 0,
            hStream: self.stream(),
            attrs: ptr::null_mut(),
            numAttrs: 0,
        };
        // SAFETY: the parameters have the types of the kernels in kernels/setup.h; the first lacks the last of them.
        self.driver().check("cuLaunchKernelEx", unsafe {
            (self.driver().launch_kernel_ex)(&config, function, parameters.as_mut_ptr(), ptr::null_mut())
        })
    }

    /// After round 3: checks what the peers wrote, then clears scratch.
    pub(super) fn check_and_clear(&mut self, config: &Config) -> Result<(), Objection> {
        let Some(scratch) = &self.resources.scratch else { return Ok(()) };
        let address = scratch.address;
        let wrong = self
            .in_context(|| {
                // The first word of scratch that no sender's pattern uses.
                let counter = address + 8 * MAX_RANKS as CUdeviceptr;
                let mut wrong = u32::MAX;
                // SAFETY: within our scratch; `wrong` lives until the stream is synchronised.
                unsafe {
                    self.driver()
                        .check("cuMemsetD32Async", (self.driver().memset_d32_async)(counter, 0, 1, self.stream()))?;
                    for (peer, _) in &self.resources.peers {
                        self.launch_probe(address, *peer, self.agreement.rank(), Some(counter))?;
                    }
                    self.synchronize()?;
                    self.driver().check(
                        "cuMemcpyDtoHAsync",
                        (self.driver().memcpy_dtoh_async)((&raw mut wrong).cast(), counter, 4, self.stream()),
                    )?;
                }
                self.synchronize()?;
                Ok(wrong)
            })
            .map_err(|error| (Reason::Probe, error.to_string()))?;
        if wrong != 0 {
            return Err((Reason::Probe, format!("{wrong} words of the peers' patterns differ")));
        }
        self.in_context(|| self.clear(address, config.first_epoch.0)).map_err(memory)
    }

    /// Marks every slot empty, zeroes the control words (flags, stop marks, counts), and writes the first epoch into
    /// every epoch word.
    fn clear(&self, scratch: CUdeviceptr, first_epoch: u32) -> DriverResult<()> {
        let driver = self.driver();
        for lane in 0..LANES {
            for parity in 0..LANE_BYTES / PARITY_BYTES {
                let at = scratch + (lane * LANE_BYTES + parity * PARITY_BYTES) as CUdeviceptr;
                // SAFETY: within our scratch.
                unsafe {
                    driver.check("cuMemsetD8Async", (driver.memset_d8_async)(at, 0xff, DATA_BYTES, self.stream()))?;
                    driver.check(
                        "cuMemsetD8Async",
                        (driver.memset_d8_async)(
                            at + DATA_BYTES as CUdeviceptr,
                            0,
                            PARITY_BYTES - DATA_BYTES,
                            self.stream(),
                        ),
                    )?;
                    if parity == 0 {
                        let words = at + EPOCH_OFFSET as CUdeviceptr;
                        driver.check(
                            "cuMemsetD32Async",
                            (driver.memset_d32_async)(words, first_epoch, MAX_BLOCKS as usize, self.stream()),
                        )?;
                    }
                }
            }
        }
        self.synchronize()
    }
}
