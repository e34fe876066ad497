//! The images of the kernels: machine code for each architecture, and PTX for newer GPUs. Each is packed by itself, so
//! only the one that a GPU needs is unpacked.
//!
//! An image lies in a section of libdime.so named after it: `.dime.sm_90`, `.dime.compute_120`. So `dime doctor` can
//! tell what a library needs without loading it.

use std::fmt;
use std::io::Read;

#[cfg(dime_kernels)]
include!(concat!(env!("OUT_DIR"), "/images.rs"));
#[cfg(not(dime_kernels))]
static PACKED: &[(&str, &[u8])] = &[];

/// What the name of an image's section begins with.
pub const SECTION_PREFIX: &str = ".dime.";

/// The CUDA version of the oldest driver that has every function that Dime cannot do without (`gpu::driver`): 525.
pub const OLDEST_DRIVER: DriverVersion = DriverVersion(12000);

/// A version of the driver, as cuDriverGetVersion counts: 12080 for CUDA 12.8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DriverVersion(pub u32);

/// "CUDA 12.8 (driver 570)".
impl fmt::Display for DriverVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CUDA {} (driver {})", self.cuda(), self.branch())
    }
}

impl DriverVersion {
    /// "12.8".
    pub fn cuda(self) -> String {
        format!("{}.{}", self.0 / 1000, self.0 % 1000 / 10)
    }

    /// The first driver branch of this CUDA version, as users know drivers.
    pub const fn branch(self) -> u32 {
        match self.0 / 10 {
            ..=1200 => 525,
            1201 => 530,
            1202 => 535,
            1203 => 545,
            1204 => 550,
            1205 => 555,
            1206 => 560,
            1207 => 565,
            1208 => 570,
            1209..1300 => 575,
            1300 => 580,
            _ => 590,
        }
    }
}

/// What an image is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// PTX, which the driver compiles, and not machine code.
    pub is_ptx: bool,
    /// The compute capability, 90 for 9.0.
    pub arch: u32,
}

impl Target {
    /// The target of a name such as `sm_90`, or `compute_120` for PTX.
    pub fn named(name: &str) -> Option<Self> {
        let (is_ptx, arch) = match name.strip_prefix("sm_") {
            Some(arch) => (false, arch),
            None => (true, name.strip_prefix("compute_")?),
        };
        Some(Self { is_ptx, arch: arch.parse().ok()? })
    }

    /// Whether a GPU of this compute capability runs it, whatever its driver. Machine code runs on the later minor
    /// versions of its major version, PTX on all that is later.
    pub const fn runs_on(self, arch: u32) -> bool {
        arch >= self.arch && (self.is_ptx || arch / 10 == self.arch / 10)
    }

    /// The oldest driver that loads an image for this, by the target and by the format of the unpacked image.
    pub fn oldest_driver(self, unpacked: &[u8]) -> DriverVersion {
        let of_format =
            if self.is_ptx { oldest_driver_of_ptx(unpacked) } else { oldest_driver_of_elf(self.arch, unpacked) };
        let of_arch = match self.arch {
            ..100 => OLDEST_DRIVER.0,
            100 | 120 => 12080,
            103 | 121 => 12090,
            _ => 13000,
        };
        DriverVersion(of_format.max(of_arch)).max(OLDEST_DRIVER)
    }
}

/// "compute capability 9.0", and of PTX "compute capability 12.0 (PTX)".
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "compute capability {}.{}", self.arch / 10, self.arch % 10)?;
        f.write_str(if self.is_ptx { " (PTX)" } else { "" })
    }
}

/// A compiled form of the kernels, packed.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// What it is compiled for.
    pub target: Target,
    packed: &'static [u8],
}

impl Image {
    /// What the driver is given: an ELF file, or PTX that ends in NUL.
    pub fn unpack(&self) -> Result<Vec<u8>, String> {
        unpack(self.packed).map_err(|error| format!("the kernels for {} cannot be unpacked: {error}", self.target))
    }
}

/// The image in the content of its section.
pub fn unpack(packed: &[u8]) -> Result<Vec<u8>, String> {
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(packed).map_err(|error| error.to_string())?;
    let mut image = Vec::new();
    decoder.read_to_end(&mut image).map_err(|error| error.to_string())?;
    Ok(image)
}

/// ELF ABI version (`e_ident[EI_ABIVERSION]`) 8, which drivers before 580 refuse for architectures below 10.0. CUDA 13's
/// compilers write it for every architecture, CUDA 12's only for 10.0 and newer, whose first drivers load it.
const NEW_ABI: u8 = 8;
const ABI_OFFSET: usize = 8;

fn oldest_driver_of_elf(arch: u32, elf: &[u8]) -> u32 {
    if arch < 100 && elf.get(ABI_OFFSET).is_some_and(|abi| *abi >= NEW_ABI) { 13000 } else { OLDEST_DRIVER.0 }
}

fn oldest_driver_of_ptx(ptx: &[u8]) -> u32 {
    let text = String::from_utf8_lossy(ptx);
    let version = text.lines().find_map(|line| line.strip_prefix(".version "));
    let numbers = version.and_then(|version| version.trim().split_once('.'));
    let numbers = numbers.map(|(major, minor)| (major.parse::<u32>().unwrap_or(0), minor.parse::<u32>().unwrap_or(0)));
    match numbers {
        // PTX 8.0 came with CUDA 12.0, 8.6 with 12.7, and 9.0 with 13.0; CUDA 12.6 kept 8.5.
        Some((8, minor)) => 12000 + 10 * if minor > 5 { minor + 1 } else { minor },
        Some((major @ 9.., minor)) => (major + 4) * 1000 + 10 * minor,
        _ => OLDEST_DRIVER.0,
    }
}

/// The images of this build; none in a build without kernels.
pub fn all() -> impl Iterator<Item = Image> {
    PACKED.iter().map(|(name, packed)| Image {
        target: Target::named(name).expect("the build names an image by its target"),
        packed,
    })
}

/// The image that a GPU of this compute capability loads.
pub fn best(arch: u32) -> Option<Image> {
    best_of(all(), arch, |image| image.target)
}

/// Of `images` the one that a GPU of this compute capability loads: machine code before PTX, then the newest.
pub fn best_of<I>(images: impl Iterator<Item = I>, arch: u32, target: impl Fn(&I) -> Target) -> Option<I> {
    let usable = images.filter(|image| target(image).runs_on(arch));
    usable.max_by_key(|image| (!target(image).is_ptx, target(image).arch))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn code(arch: u32) -> Target {
        Target { is_ptx: false, arch }
    }

    const fn ptx(arch: u32) -> Target {
        Target { is_ptx: true, arch }
    }

    /// The beginning of an ELF file of this ABI version.
    fn elf(abi: u8) -> Vec<u8> {
        [b"\x7fELF\x02\x01\x01\x33", &[abi][..], &[0; 7]].concat()
    }

    #[test]
    fn machine_code_of_cuda_13_needs_its_driver_and_that_of_cuda_12_does_not() {
        assert_eq!(code(90).oldest_driver(&elf(8)), DriverVersion(13000));
        assert_eq!(code(90).oldest_driver(&elf(7)), DriverVersion(12000));
        assert_eq!(code(100).oldest_driver(&elf(8)), DriverVersion(12080));
        assert_eq!(code(103).oldest_driver(&elf(8)), DriverVersion(12090));
    }

    #[test]
    fn ptx_needs_the_driver_of_its_version_and_of_its_architecture() {
        let needs = |arch, version| ptx(arch).oldest_driver(format!("//\n.version {version}\n.target\0").as_bytes()).0;
        assert_eq!(needs(90, "9.0"), 13000);
        assert_eq!(needs(90, "8.7"), 12080);
        assert_eq!(needs(90, "8.5"), 12050);
        assert_eq!(needs(90, "8.0"), 12000);
        assert_eq!(needs(120, "8.0"), 12080);
        assert_eq!(needs(120, "8.8"), 12090);
    }

    #[test]
    fn machine_code_runs_within_its_major_version_and_ptx_on_all_later_gpus() {
        let images = [code(80), code(86), code(90), code(100), code(120), ptx(120)];
        for (arch, expected) in [
            (75, None),
            (80, Some(code(80))),
            (86, Some(code(86))),
            (89, Some(code(86))),
            (90, Some(code(90))),
            (103, Some(code(100))),
            (110, None),
            (121, Some(code(120))),
            (130, Some(ptx(120))),
        ] {
            assert_eq!(best_of(images.into_iter(), arch, |target| *target), expected, "{arch}");
        }
    }

    #[test]
    fn versions_are_written_as_users_know_them() {
        assert_eq!(DriverVersion(12080).to_string(), "CUDA 12.8 (driver 570)");
        assert_eq!(DriverVersion(13000).to_string(), "CUDA 13.0 (driver 580)");
        assert_eq!(OLDEST_DRIVER.to_string(), "CUDA 12.0 (driver 525)");
    }

    #[test]
    fn what_is_no_zstd_frame_and_what_is_no_target_are_refused() {
        let broken = Image { target: code(90), packed: b"no frame" };
        let error = broken.unpack().unwrap_err();
        assert!(error.contains("compute capability 9.0 cannot be unpacked"), "{error}");
        assert_eq!(Target::named("sm_new"), None);
        assert_eq!(Target::named("90"), None);
    }

    /// Held on the images of the build, so that no compiler of another release gets into a library unseen.
    #[test]
    #[cfg(dime_kernels)]
    fn the_images_of_gpus_up_to_9_0_load_from_driver_525_on() {
        assert!(all().count() >= 2, "machine code and PTX");
        for image in all() {
            let (target, unpacked) = (image.target, image.unpack().unwrap());
            let oldest = target.oldest_driver(&unpacked);
            if target.is_ptx {
                assert!(unpacked.ends_with(b"\0"), "{target}");
                assert!(all().all(|other| other.target.arch <= target.arch), "PTX is of the newest: {target}");
            } else {
                assert!(unpacked.starts_with(b"\x7fELF"), "{target}");
                assert!(
                    target.arch >= 100 || (unpacked[ABI_OFFSET] == 7 && oldest == OLDEST_DRIVER),
                    "{target}: {oldest}"
                );
                assert!(oldest < DriverVersion(13000), "{target}: {oldest}");
            }
        }
    }
}
