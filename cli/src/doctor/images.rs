//! The kernels inside a libdime.so, as the fatbins in it list them, and the driver that each needs.

use std::path::Path;

use dime_harness::Fallible;

const FATBIN_MAGIC: [u8; 4] = 0xba55_ed50_u32.to_le_bytes();
const KIND_PTX: u64 = 1;
const KIND_MACHINE_CODE: u64 = 2;
/// Kernels of compute capability 9.0 and later run on later GPUs only as PTX; machine code runs within its major version.
const MINORS: u32 = 10;
/// CUDA 12.0: the functions of the driver that libdime.so calls.
pub const OLDEST_DRIVER: u32 = 12000;

/// One image of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// PTX, which the driver compiles, and not machine code.
    pub is_ptx: bool,
    /// The compute capability that it is for, 90 for 9.0.
    pub arch: u32,
    /// Of PTX the version of its language, of machine code that of its format: major and minor.
    pub version: (u32, u32),
}

/// All images in a library.
pub fn read(library: &Path) -> Fallible<Vec<Image>> {
    let bytes = std::fs::read(library).map_err(|error| format!("{}: {error}", library.display()))?;
    Ok(find(&bytes))
}

fn number(from: &[u8], offset: usize, bytes: usize) -> Option<u64> {
    let field = from.get(offset..offset.checked_add(bytes)?)?;
    Some(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

fn find(bytes: &[u8]) -> Vec<Image> {
    let mut images = Vec::new();
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(4).position(|window| window == FATBIN_MAGIC) {
        let fatbin = &bytes[at + found..];
        images.extend(images_of(fatbin).unwrap_or_default());
        at += found + 4;
    }
    images
}

/// A fatbin is a header of 16 bytes and entries, each a header and its image.
fn images_of(fatbin: &[u8]) -> Option<Vec<Image>> {
    let (mut at, bytes) = (number(fatbin, 6, 2)? as usize, number(fatbin, 8, 8)? as usize);
    let end = at.checked_add(bytes).filter(|end| *end <= fatbin.len())?;
    let mut images = Vec::new();
    while at < end {
        let entry = &fatbin[at..end];
        let (kind, header, content) = (number(entry, 0, 2)?, number(entry, 4, 4)?, number(entry, 8, 8)?);
        let version = (number(entry, 26, 2)? as u32, number(entry, 24, 2)? as u32);
        if kind == KIND_PTX || kind == KIND_MACHINE_CODE {
            images.push(Image { is_ptx: kind == KIND_PTX, arch: number(entry, 28, 4)? as u32, version });
        }
        at = at.checked_add(header.checked_add(content).filter(|bytes| *bytes > 0)? as usize)?;
    }
    Some(images)
}

impl Image {
    fn runs_on(&self, arch: u32) -> bool {
        arch >= self.arch && (self.is_ptx || arch / MINORS == self.arch / MINORS)
    }

    /// The CUDA version of the oldest driver that loads it, 12080 for 12.8.
    fn oldest_driver(&self) -> u32 {
        let needed = match (self.is_ptx, self.version) {
            // PTX 8.0 came with CUDA 12.0, 8.6 with 12.7, and 9.0 with 13.0; CUDA 12.6 kept 8.5.
            (true, (8, minor)) => 12000 + 10 * if minor > 5 { minor + 1 } else { minor },
            (true, (major, minor)) if major >= 9 => (major + 4) * 1000 + 10 * minor,
            (true, _) => OLDEST_DRIVER,
            // Of CUDA 13 for what earlier releases knew too; GPUs of 10.0 and later had this format from their first release on.
            (false, (1, minor)) if minor >= 8 && self.arch < 100 => 13000,
            (false, _) => OLDEST_DRIVER,
        };
        let first_of_arch = match self.arch {
            ..100 => OLDEST_DRIVER,
            100 | 120 => 12080,
            103 | 121 => 12090,
            _ => 13000,
        };
        needed.max(first_of_arch)
    }
}

/// The CUDA version of the oldest driver that runs some image on a GPU of this compute capability. None: no image is for it.
pub fn oldest_driver(images: &[Image], arch: u32) -> Option<u32> {
    let usable = images.iter().filter(|image| image.runs_on(arch)).map(Image::oldest_driver);
    usable.min().map(|version| version.max(OLDEST_DRIVER))
}

/// "13.0" of 13000.
pub fn version_text(version: u32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

/// The first driver branch of a CUDA version, as users know drivers.
pub fn driver_branch(version: u32) -> u32 {
    match version {
        ..12010 => 525,
        12010 => 530,
        12020 => 535,
        12030 => 545,
        12040 => 550,
        12050 => 555,
        12060 => 560,
        12070 => 565,
        12080 => 570,
        12090..13000 => 575,
        13000 => 580,
        _ => 590,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn code(arch: u32, minor: u32) -> Image {
        Image { is_ptx: false, arch, version: (1, minor) }
    }

    const fn ptx(arch: u32, major: u32, minor: u32) -> Image {
        Image { is_ptx: true, arch, version: (major, minor) }
    }

    #[test]
    fn machine_code_of_cuda_13_needs_its_driver_and_that_of_cuda_12_does_not() {
        assert_eq!(oldest_driver(&[code(90, 8)], 90), Some(13000));
        assert_eq!(oldest_driver(&[code(90, 7)], 90), Some(12000));
        assert_eq!(oldest_driver(&[code(90, 8), code(90, 7)], 90), Some(12000));
        assert_eq!(oldest_driver(&[code(100, 8)], 100), Some(12080));
        assert_eq!(oldest_driver(&[code(80, 7)], 86), Some(12000));
    }

    #[test]
    fn ptx_runs_on_later_gpus_and_machine_code_does_not() {
        assert_eq!(oldest_driver(&[code(90, 7)], 100), None);
        assert_eq!(oldest_driver(&[ptx(90, 9, 0)], 120), Some(13000));
        assert_eq!(oldest_driver(&[ptx(90, 8, 7)], 120), Some(12080));
        assert_eq!(oldest_driver(&[ptx(90, 8, 5)], 90), Some(12050));
        assert_eq!(oldest_driver(&[ptx(90, 8, 0)], 80), None);
    }

    /// A fatbin with a header of 16 bytes and these entries of 64 bytes and 8 of content.
    fn fatbin(images: &[Image]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(FATBIN_MAGIC);
        bytes.extend(1_u16.to_le_bytes());
        bytes.extend(16_u16.to_le_bytes());
        bytes.extend((72 * images.len() as u64).to_le_bytes());
        for image in images {
            let mut entry = [0; 72];
            entry[0] = if image.is_ptx { 1 } else { 2 };
            entry[4] = 64;
            entry[8] = 8;
            entry[24..26].copy_from_slice(&(image.version.1 as u16).to_le_bytes());
            entry[26..28].copy_from_slice(&(image.version.0 as u16).to_le_bytes());
            entry[28..32].copy_from_slice(&image.arch.to_le_bytes());
            bytes.extend(entry);
        }
        bytes
    }

    #[test]
    fn fatbins_are_found_wherever_they_lie_and_broken_ones_are_left() {
        let images = [ptx(120, 9, 0), code(90, 8)];
        let library =
            [&b"before"[..], &fatbin(&images[..1]), b"between", &FATBIN_MAGIC, &fatbin(&images[1..])].concat();
        assert_eq!(find(&library), images);
        let whole = fatbin(&images);
        for bytes in 0..whole.len() {
            assert_eq!(find(&whole[..bytes]), [], "{bytes}");
        }
        assert_eq!(find(&[&FATBIN_MAGIC[..], &[0xff; 80]].concat()), []);
    }
}
