//! The probe, the last work of a setup on the device: writes a pattern into every peer's scratch, checks what the
//! peers wrote, and clears scratch.

use std::ffi::c_void;
use std::ptr;

use crate::comm::setup::exchange::{Exchange, Objection, memory};
use crate::gpu::CUdeviceptr;
use crate::gpu::driver::DriverResult;
use crate::gpu::functions::Functions;
use crate::gpu::memory::PeerScratch;
use crate::gpu::topology;
use crate::kernel::layout::{
    DATA_BYTES, EPOCH_OFFSET, LANE_BYTES, LANES, MAX_BLOCKS, MAX_RANKS, PARITY_BYTES, PROBE_REPORT_OFFSET, ProbeReport,
};
use crate::route::Reason;

impl Exchange {
    /// A number that all ranks share and that differs between setups.
    fn salt(&self) -> u64 {
        let token = self.agreement.hellos()[0].token;
        u64::from_le_bytes([token[0], token[1], token[2], token[3], token[4], token[5], token[6], token[7]])
    }

    /// Enqueues the probe kernel that writes what rank `from` sends to rank `to`. With `report`, the kernel that
    /// compares it and reports there, as [`ProbeReport`].
    fn launch_probe(
        &self,
        functions: &Functions,
        scratch: CUdeviceptr,
        from: usize,
        to: usize,
        report: Option<CUdeviceptr>,
    ) -> DriverResult<()> {
        let (mut scratch, mut from, mut to, mut salt) = (scratch, from as u32, to as u32, self.salt());
        let mut report_address = report.unwrap_or(0);
        let function = if report.is_some() { functions.probe_check } else { functions.probe_write };
        let mut parameters: [*mut c_void; 5] = [
            (&raw mut scratch).cast(),
            (&raw mut from).cast(),
            (&raw mut to).cast(),
            (&raw mut salt).cast(),
            (&raw mut report_address).cast(),
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
        self.driver.check("cuLaunchKernelEx", unsafe {
            (self.driver.launch_kernel_ex)(&config, function, parameters.as_mut_ptr(), ptr::null_mut())
        })
    }

    /// Writes a pattern into the scratch of every peer.
    pub fn write_patterns(&self, functions: &Functions, peers: &[(usize, PeerScratch)]) -> Result<(), Objection> {
        self.in_context(|| {
            for (peer, scratch) in peers {
                self.launch_probe(functions, scratch.address, self.agreement.rank(), *peer, None)?;
            }
            self.synchronize()
        })
        .map_err(|error| (Reason::Probe, error.to_string()))
    }

    /// After round 3: checks what the peers wrote, then clears scratch.
    pub fn check_and_clear(
        &self,
        functions: &Functions,
        scratch: CUdeviceptr,
        first_epoch: u32,
    ) -> Result<(), Objection> {
        let reports = self.check(functions, scratch).map_err(|error| (Reason::Probe, error.to_string()))?;
        let wrong: Vec<usize> = (0..reports.len()).filter(|from| reports[*from].differing != 0).collect();
        if let Some((first, others)) = wrong.split_first() {
            return Err((Reason::Probe, self.describe(*first, &reports[*first], others)));
        }
        self.in_context(|| self.clear(scratch, first_epoch)).map_err(memory)
    }

    /// Compares what every peer wrote. Returns the reports by rank.
    fn check(&self, functions: &Functions, scratch: CUdeviceptr) -> DriverResult<[ProbeReport; MAX_RANKS]> {
        const BYTES: usize = size_of::<[ProbeReport; MAX_RANKS]>();
        let driver = self.driver;
        let at = |from: usize| scratch + (PROBE_REPORT_OFFSET + from * size_of::<ProbeReport>()) as CUdeviceptr;
        let mut reports = [ProbeReport::default(); MAX_RANKS];
        self.in_context(|| {
            // SAFETY: within our scratch; `reports` is as long as said and lives until the stream is synchronised.
            unsafe {
                driver.check("cuMemsetD8Async", (driver.memset_d8_async)(at(0), 0, BYTES, self.stream()))?;
                for peer in self.peers() {
                    self.launch_probe(functions, scratch, peer, self.agreement.rank(), Some(at(peer)))?;
                }
                self.synchronize()?;
                driver.check(
                    "cuMemcpyDtoHAsync",
                    (driver.memcpy_dtoh_async)((&raw mut reports).cast(), at(0), BYTES, self.stream()),
                )?;
            }
            self.synchronize()
        })?;
        Ok(reports)
    }

    /// What is wrong with the pattern of rank `from`, for the log. `others`: further ranks whose patterns differ.
    fn describe(&self, from: usize, report: &ProbeReport, others: &[usize]) -> String {
        let driver = self.driver;
        let (rank, hellos) = (self.agreement.rank(), self.agreement.hellos());
        let gpu = |rank: usize| topology::name(driver, hellos[rank].device_uuid);
        let also = match others {
            [] => String::new(),
            ranks => format!(
                "; words from rank {} differ too",
                ranks.iter().map(usize::to_string).collect::<Vec<_>>().join(" and rank ")
            ),
        };
        format!(
            "what rank {from} on {} wrote into the memory of rank {rank} on {} arrived damaged: {} words differ, the first that was \
             found at byte {:#x} of scratch: {:#018x}, not {:#018x}{also}; driver {}",
            gpu(from),
            gpu(rank),
            report.differing,
            report.offset,
            report.found,
            report.expected,
            driver.version_in_words()
        )
    }

    /// Marks every slot empty, zeroes the control words (flags, stop marks, counts), and writes the first epoch into
    /// every epoch word.
    fn clear(&self, scratch: CUdeviceptr, first_epoch: u32) -> DriverResult<()> {
        let driver = self.driver;
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
