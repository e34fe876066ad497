//! The images of the kernels inside a libdime.so, and the driver that each needs.

use std::path::Path;

use dime::gpu::image::{DriverVersion, SECTION_PREFIX, Target, best_of, unpack};
use dime_harness::Fallible;

use crate::doctor::elf::Elf;

/// What an image is for, and what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    pub target: Target,
    /// The oldest driver that loads it.
    pub oldest_driver: DriverVersion,
}

/// All images in a library.
pub fn read(library: &Path) -> Fallible<Vec<Image>> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", library.display());
    let elf = Elf::open(library).map_err(|error| named(&error))?;
    let elf = elf.ok_or_else(|| named(&"this is no library for this machine"))?;
    let mut images = Vec::new();
    for (section, content) in elf.sections() {
        let Some(target) = section.strip_prefix(SECTION_PREFIX).and_then(Target::named) else { continue };
        let unpacked = unpack(&content()).map_err(|error| named(&format!("section {section}: {error}")))?;
        images.push(Image { target, oldest_driver: target.oldest_driver(&unpacked) });
    }
    Ok(images)
}

/// The oldest driver that loads the image which libdime.so takes for a GPU of this compute capability. None: no image is
/// for it.
pub fn oldest_driver(images: &[Image], arch: u32) -> Option<DriverVersion> {
    best_of(images.iter(), arch, |image| image.target).map(|image| image.oldest_driver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_library_is_named_and_one_without_kernels_has_no_images() {
        let error = read(Path::new("/proc/self/status")).unwrap_err().to_string();
        assert_eq!(error, "/proc/self/status: this is no library for this machine");
        assert_eq!(read(Path::new("/proc/self/exe")).unwrap(), []);
    }

    #[test]
    fn the_driver_is_that_of_the_image_which_the_library_loads() {
        let image = |name, oldest| Image {
            target: Target::named(name).expect("a target"),
            oldest_driver: DriverVersion(oldest),
        };
        let images =
            [image("sm_80", 12000), image("sm_100", 12080), image("sm_103", 12090), image("compute_103", 12090)];
        assert_eq!(oldest_driver(&images, 86), Some(DriverVersion(12000)));
        assert_eq!(oldest_driver(&images, 100), Some(DriverVersion(12080)));
        assert_eq!(oldest_driver(&images, 103), Some(DriverVersion(12090)));
        assert_eq!(oldest_driver(&images, 120), Some(DriverVersion(12090)));
        assert_eq!(oldest_driver(&images, 75), None);
    }
}
