//! The driver, the GPUs, and which reaches which over what.

use std::path::Path;

use dime::gpu::driver::Driver;
use dime::gpu::image::{DriverVersion, OLDEST_DRIVER};
use dime::gpu::topology::{self, Device, Link};
use dime_harness::{Fallible, cuda, nvml, table};
use serde_json::{Value, json};

use crate::doctor::child;
use crate::doctor::images::{self, oldest_driver};
use crate::doctor::report::{Check, Section};

/// Compute capability 8.0: what the kernels need.
const OLDEST_ARCH: u32 = 80;

/// What the driver says of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Of the kernel module: "580.95.05". None: it does not say.
    driver: Option<String>,
    /// The CUDA version of the driver, 13000 for 13.0.
    cuda: u32,
    /// In the order of the driver.
    pub gpus: Vec<Gpu>,
    /// How the row's GPU reaches the column's.
    links: Vec<Vec<Way>>,
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    name: String,
    /// Compute capability, 90 for 9.0.
    pub arch: u32,
    memory_bytes: u64,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// It is a slice of a GPU.
    pub is_mig: bool,
    /// Its memory can be shared as a file descriptor.
    pub shares_descriptors: bool,
    multicast: Option<bool>,
    /// NVLinks that end at an NVSwitch.
    switch_links: Option<u64>,
}

/// How a GPU reaches another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Itself,
    Nvlink,
    Pcie,
    None,
}

const WAYS: [(Way, &str, &str); 4] = [
    (Way::Itself, "self", "-"),
    (Way::Nvlink, "nvlink", "NVLink"),
    (Way::Pcie, "pcie", "PCIe"),
    (Way::None, "none", "none"),
];

impl Way {
    fn name(self) -> &'static str {
        WAYS.iter().find(|(way, ..)| *way == self).map_or("", |(_, name, _)| name)
    }

    fn shown(self) -> &'static str {
        WAYS.iter().find(|(way, ..)| *way == self).map_or("", |(.., shown)| shown)
    }
}

/// Part `gpus`: asks the driver.
pub fn part_gpus() -> Fallible<Value> {
    let driver = Driver::get()?;
    cuda::init()?;
    let count = cuda::device_count()?;
    let failed = |error: dime::gpu::driver::DriverError| error.to_string();
    let devices = (0..count as i32).map(|ordinal| Device::describe(driver, ordinal).map_err(failed));
    let devices: Vec<Device> = devices.collect::<Fallible<_>>()?;
    let gpus = devices.iter().enumerate().map(|(ordinal, device)| {
        Ok(json!({
            "name": cuda::device_name(ordinal)?,
            "arch": device.arch,
            "memory_bytes": cuda::device_memory_bytes(ordinal)?,
            "multiprocessors": device.multiprocessors,
            "mig": device.mig,
            "shares_descriptors": device.shares_descriptors,
            "multicast": cuda::has_multicast(ordinal),
            "switch_links": nvml::switch_links(device.uuid).ok(),
        }))
    });
    let gpus: Vec<Value> = gpus.collect::<Fallible<_>>()?;
    let way = |from: &Device, to: &Device| {
        if from.ordinal == to.ordinal {
            return Way::Itself;
        }
        match topology::link(driver, from, to.uuid) {
            Link::Nvlink => Way::Nvlink,
            Link::Other => Way::Pcie,
            Link::None => Way::None,
        }
    };
    let links: Vec<Vec<&str>> =
        devices.iter().map(|from| devices.iter().map(|to| way(from, to).name()).collect()).collect();
    Ok(json!({
        "driver": cuda::kernel_driver_version(),
        "cuda": cuda::driver_version()?,
        "gpus": gpus,
        "links": links,
    }))
}

impl Machine {
    /// Asks the driver, in a process of its own. The error says why there are no GPUs.
    pub fn ask() -> Fallible<Self> {
        let machine = Self::of(&child::ask("gpus")?).ok_or("the driver's answer has no sense")?;
        if machine.gpus.is_empty() { Err("the driver shows none".to_owned()) } else { Ok(machine) }
    }

    fn of(told: &Value) -> Option<Self> {
        let number = |value: &Value| value.as_u64().map(|number| number as u32);
        let gpu = |gpu: &Value| {
            Some(Gpu {
                name: gpu["name"].as_str()?.to_owned(),
                arch: number(&gpu["arch"])?,
                memory_bytes: gpu["memory_bytes"].as_u64()?,
                multiprocessors: number(&gpu["multiprocessors"])?,
                is_mig: gpu["mig"].as_bool()?,
                shares_descriptors: gpu["shares_descriptors"].as_bool()?,
                multicast: gpu["multicast"].as_bool(),
                switch_links: gpu["switch_links"].as_u64(),
            })
        };
        let way = |name: &Value| WAYS.iter().find(|(_, known, _)| name == known).map(|(way, ..)| *way);
        let row = |row: &Value| row.as_array()?.iter().map(way).collect::<Option<Vec<Way>>>();
        Some(Self {
            driver: told["driver"].as_str().map(str::to_owned),
            cuda: number(&told["cuda"])?,
            gpus: told["gpus"].as_array()?.iter().map(gpu).collect::<Option<_>>()?,
            links: told["links"].as_array()?.iter().map(row).collect::<Option<_>>()?,
        })
    }

    /// The GPUs of the largest set in which Dime would be fast: all reach each other in the same allowed way, and are of one kind.
    pub fn largest_set(&self, allows_pcie: bool) -> Vec<&Gpu> {
        let count = self.gpus.len().min(u16::BITS as usize);
        let reach = |one: usize, other: usize| {
            let allowed = |way: Way| way == Way::Nvlink || allows_pcie && way == Way::Pcie;
            one == other || allowed(self.links[one][other]) && allowed(self.links[other][one])
        };
        let fits = |set: &Vec<usize>| {
            let serves = |gpu: &Gpu| gpu.arch >= OLDEST_ARCH && !gpu.is_mig && gpu.arch == self.gpus[set[0]].arch;
            set.iter().all(|one| serves(&self.gpus[*one]) && set.iter().all(|other| reach(*one, *other)))
        };
        let sets = (1_u32..1 << count).map(|bits| (0..count).filter(|at| bits >> at & 1 == 1).collect());
        let largest = sets.filter(fits).max_by_key(Vec::len).unwrap_or_default();
        largest.into_iter().map(|at| &self.gpus[at]).collect()
    }
}

/// What is said where there are no GPUs.
pub fn absent(why: &str) -> Check {
    let what = "driver, GPUs, their links, sharing of their memory and sizes that would be fast were not looked at";
    match cuda::kernel_driver_version() {
        Some(version) => Check::fail(
            "gpus",
            format!("there is a driver ({version}), but no GPU can be used: {why}; {what}"),
            "see what `nvidia-smi` says; in a container, give it the GPUs; look at CUDA_VISIBLE_DEVICES",
        ),
        None => Check::warn(
            "gpus",
            format!("no GPU here: {why}; {what}"),
            "run this where the GPUs are; in a container, give it the GPUs; look at CUDA_VISIBLE_DEVICES",
        ),
    }
}

/// The driver against the kernels, and each GPU.
pub fn section(machine: &Machine, dime: Option<&Path>) -> Section {
    let images = dime.map(images::read);
    let mut checks = vec![driver_check(machine, images.as_ref().and_then(|images| images.as_deref().ok()))];
    checks.extend(machine.gpus.iter().enumerate().map(|(index, gpu)| gpu_check(index, gpu)));
    Section { name: "gpus", title: "Driver and GPUs", checks }
}

fn driver_check(machine: &Machine, images: Option<&[images::Image]>) -> Check {
    let driver = machine.driver.as_ref().map_or(String::new(), |version| format!("{version}, "));
    let here = DriverVersion(machine.cuda);
    let text = format!("driver {driver}CUDA {}", here.cuda());
    let check = match images {
        None => Check::warn(
            "driver",
            format!("{text}; there is no libdime.so to compare it with"),
            "name one with --dime PATH",
        ),
        Some([]) => Check::fail(
            "driver",
            format!("{text}; no kernels are found in this libdime.so, so it forwards every call"),
            "build it without the feature forward-only",
        ),
        Some(images) => {
            let served = machine.gpus.iter().filter(|gpu| gpu.arch >= OLDEST_ARCH);
            let needs: Vec<(u32, Option<DriverVersion>)> =
                served.map(|gpu| (gpu.arch, oldest_driver(images, gpu.arch))).collect();
            let lacking = needs.iter().find(|(_, needed)| needed.is_none());
            let needed = needs.iter().filter_map(|(_, needed)| *needed).max().unwrap_or(OLDEST_DRIVER);
            let check = if let Some((arch, _)) = lacking {
                Check::fail(
                    "driver",
                    format!("{text}; this libdime.so has no kernels for compute capability {}", arch_text(*arch)),
                    format!("build it with DIME_CUDA_ARCHS={arch}, or without DIME_CUDA_ARCHS"),
                )
            } else if here < needed {
                Check::fail(
                    "driver",
                    format!(
                        "{text}; the kernels in this libdime.so need CUDA {} or newer, so every call is forwarded",
                        needed.cuda()
                    ),
                    format!("install driver {} or newer", needed.branch()),
                )
            } else {
                Check::ok("driver", format!("{text}; the kernels in this libdime.so need CUDA {}", needed.cuda()))
            };
            check.with("needed_cuda", needed.cuda())
        }
    };
    check.with("driver", machine.driver.clone()).with("cuda", here.cuda())
}

fn arch_text(arch: u32) -> String {
    format!("{}.{}", arch / 10, arch % 10)
}

fn gpu_check(index: usize, gpu: &Gpu) -> Check {
    let gib = gpu.memory_bytes as f64 / f64::from(1 << 30);
    let arch = arch_text(gpu.arch);
    let text = format!("GPU {index}: {}, compute capability {arch}, {gib:.0} GiB", gpu.name);
    let check = if gpu.is_mig {
        Check::warn(
            "gpu",
            format!("{text}, a MIG instance: its all-reduces go to NCCL"),
            "use whole GPUs: MIG instances cannot reach each other",
        )
    } else if gpu.arch < OLDEST_ARCH {
        Check::warn(
            "gpu",
            format!("{text}: its all-reduces go to NCCL"),
            "Dime's kernels need compute capability 8.0 or newer",
        )
    } else {
        Check::ok("gpu", format!("{text}, not MIG"))
    };
    check
        .with("index", index)
        .with("name", gpu.name.as_str())
        .with("compute_capability", arch)
        .with("memory_bytes", gpu.memory_bytes)
        .with("multiprocessors", gpu.multiprocessors)
        .with("mig", gpu.is_mig)
}

/// The matrix of links.
pub fn links(machine: &Machine, allows_pcie: bool) -> Section {
    let count = machine.gpus.len();
    let pairs = |wanted: Way| {
        let ways = (0..count).flat_map(|one| (0..count).map(move |other| (one, other)));
        ways.filter(|(one, other)| one < other)
            .filter(|(one, other)| machine.links[*one][*other] == wanted || machine.links[*other][*one] == wanted)
            .map(|(one, other)| format!("{one}-{other}"))
            .collect::<Vec<_>>()
    };
    let (pcie, none) = (pairs(Way::Pcie), pairs(Way::None));
    let check = if count < 2 {
        Check::warn(
            "links",
            "there is one GPU: it has no other to reduce with",
            "look at CUDA_VISIBLE_DEVICES, or use a machine with more",
        )
    } else if !none.is_empty() {
        Check::warn(
            "links",
            format!(
                "GPUs without access to each other's memory: {}; all-reduces between them go to NCCL",
                none.join(", ")
            ),
            "see `nvidia-smi topo -p2p r`; an IOMMU or the settings of a virtual machine can forbid it",
        )
    } else if !pcie.is_empty() && !allows_pcie {
        Check::warn(
            "links",
            format!(
                "GPUs that reach each other over PCIe only: {}; all-reduces between them go to NCCL",
                pcie.join(", ")
            ),
            "use GPUs that NVLink joins, or DIME_ALLOW_PCIE=1 on all ranks to try Dime over PCIe",
        )
    } else if !pcie.is_empty() {
        Check::ok("links", "all GPUs reach each other, some over PCIe, which DIME_ALLOW_PCIE allows")
    } else {
        Check::ok("links", "NVLink joins all GPUs")
    };
    let matrix: Vec<Vec<&str>> = machine.links.iter().map(|row| row.iter().map(|way| way.name()).collect()).collect();
    let check = check.details(shown(machine)).with("matrix", json!(matrix));
    Section {
        name: "links",
        title: "Links between GPUs",
        checks: vec![check, switch_check(machine), multicast_check(machine)],
    }
}

fn shown(machine: &Machine) -> Vec<String> {
    let head = |index: usize| format!("GPU{index}");
    let header: Vec<String> = std::iter::once(String::new()).chain((0..machine.gpus.len()).map(head)).collect();
    let row = |(index, row): (usize, &Vec<Way>)| {
        std::iter::once(head(index)).chain(row.iter().map(|way| way.shown().to_owned())).collect()
    };
    let rows: Vec<Vec<String>> = machine.links.iter().enumerate().map(row).collect();
    table::render(&header, &rows).lines().map(str::to_owned).collect()
}

/// Dime works with and without them, so none is a warning.
fn switch_check(machine: &Machine) -> Check {
    let links: Option<Vec<u64>> = machine.gpus.iter().map(|gpu| gpu.switch_links).collect();
    let text = match links.as_deref() {
        None => "the management library does not say whether there are NVSwitches".to_owned(),
        Some(links) if links.iter().all(|count| *count == 0) => "no NVLink ends at an NVSwitch".to_owned(),
        Some(links) => {
            let counts: Vec<String> = links.iter().map(u64::to_string).collect();
            format!("NVLinks of each GPU that end at an NVSwitch: {}", counts.join(", "))
        }
    };
    Check::ok("nvswitch", text).with("switch_links", json!(links))
}

/// NVLS makes NCCL faster, not Dime; so it is never a warning that it is not there.
fn multicast_check(machine: &Machine) -> Check {
    let answers: Vec<Option<bool>> = machine.gpus.iter().map(|gpu| gpu.multicast).collect();
    let (text, value) = match () {
        () if answers.contains(&None) => {
            ("the driver does not say whether NVSwitch multicast (NVLS) is there", json!(null))
        }
        () if answers.contains(&Some(false)) => ("no NVSwitch multicast (NVLS); Dime uses none", json!(false)),
        () => ("NVSwitch multicast (NVLS) on all GPUs; NCCL uses it, Dime does not", json!(true)),
    };
    Check::ok("nvls", text).with("multicast", value)
}

#[cfg(test)]
mod tests {
    use dime::gpu::image::Target;

    use super::*;
    use crate::doctor::report::Status;

    fn gpu(arch: u32) -> Gpu {
        Gpu {
            name: "NVIDIA H200".to_owned(),
            arch,
            memory_bytes: 140 << 30,
            multiprocessors: 132,
            is_mig: false,
            shares_descriptors: true,
            multicast: None,
            switch_links: None,
        }
    }

    fn machine(count: usize, way: impl Fn(usize, usize) -> Way) -> Machine {
        let row = |one| (0..count).map(|other| if one == other { Way::Itself } else { way(one, other) }).collect();
        Machine { driver: None, cuda: 12080, gpus: vec![gpu(90); count], links: (0..count).map(row).collect() }
    }

    #[test]
    fn the_largest_set_is_joined_throughout_and_of_one_kind() {
        assert_eq!(machine(8, |_, _| Way::Nvlink).largest_set(false).len(), 8);
        // Two groups of NVLink, and PCIe between them.
        let mut groups = machine(5, |one, other| if (one < 2) == (other < 2) { Way::Nvlink } else { Way::Pcie });
        assert_eq!(groups.largest_set(false).len(), 3);
        assert_eq!(groups.largest_set(true).len(), 5);
        groups.gpus[4].arch = 100;
        groups.gpus[3].is_mig = true;
        assert_eq!(groups.largest_set(true).len(), 3);
        groups.gpus = vec![gpu(75); 5];
        assert_eq!(groups.largest_set(true).len(), 0);
    }

    #[test]
    fn a_driver_older_than_the_kernels_fails_and_so_do_kernels_for_other_gpus() {
        let image =
            |oldest| images::Image { target: Target { is_ptx: false, arch: 90 }, oldest_driver: DriverVersion(oldest) };
        let (of_cuda_13, of_cuda_12) = ([image(13000)], [image(12000)]);
        let mut here = machine(2, |_, _| Way::Nvlink);
        assert_eq!(driver_check(&here, Some(&of_cuda_13)).status(), Status::Fail);
        assert_eq!(driver_check(&here, Some(&of_cuda_12)).status(), Status::Ok);
        assert_eq!(driver_check(&here, Some(&[])).status(), Status::Fail);
        assert_eq!(driver_check(&here, None).status(), Status::Warn);
        here.cuda = 13000;
        assert_eq!(driver_check(&here, Some(&of_cuda_13)).status(), Status::Ok);
        here.gpus[1].arch = 100;
        assert_eq!(driver_check(&here, Some(&of_cuda_13)).status(), Status::Fail);
    }

    #[test]
    fn a_machine_is_what_the_part_tells() {
        let told = json!({ "driver": null, "cuda": 12080, "gpus": [], "links": [["self", "pcie"], ["none", "self"]] });
        let machine = Machine::of(&told).expect("a machine");
        assert_eq!(machine.links, [[Way::Itself, Way::Pcie], [Way::None, Way::Itself]]);
        assert_eq!(Machine::of(&json!({ "cuda": "new" })), None);
    }
}
