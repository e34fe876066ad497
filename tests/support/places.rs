//! Places in which a loader may find an NCCL, each filled with a fake of its own release, so that the version tells
//! which one was taken.

use super::fake::Fake;
use super::{Cc, Release, test_file, write};
use std::path::{Path, PathBuf};

/// A fake NCCL of this release at `directory`/libnccl.so.2.
pub fn fake_nccl(directory: impl AsRef<Path>, release: &str) -> PathBuf {
    Fake::complete(Release::parse(release)).build(directory.as_ref().join("libnccl.so.2"))
}

/// A shared library without NCCL in it, under the given file name.
pub fn other_library(path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    let name = path.file_name().expect("a file name").to_string_lossy().into_owned();
    let source =
        write(path.with_extension("c"), "int some_other_library(void) { return 1; }\nint some_other_library(void);\n");
    Cc::c().shared(&name).arg("-Wno-missing-prototypes").arg(source).build(path)
}

/// tests/c/report.c, which opens a library by name and says what answers.
pub fn build_report(directory: &Path) -> PathBuf {
    Cc::c().arg(test_file("c/report.c")).args(["-pthread", "-ldl"]).build(directory.join("report"))
}

/// tests/c/report.c linked with a libnccl.so.2, which it finds again by DT_RPATH, as the libraries of torch do.
pub fn build_linked_report(directory: &Path, library: &Path) -> PathBuf {
    link_report(library, "-Wl,--disable-new-dtags").build(directory.join("linked-report"))
}

/// The same with DT_RUNPATH, which the loader looks at after LD_LIBRARY_PATH.
pub fn build_report_with_runpath(directory: &Path, library: &Path) -> PathBuf {
    link_report(library, "-Wl,--enable-new-dtags").build(directory.join("runpath-report"))
}

fn link_report(library: &Path, tags: &str) -> Cc {
    Cc::c()
        .args(["-DLINKED", "-Wl,--no-as-needed", tags])
        .arg(test_file("c/report.c"))
        .arg(library)
        .arg(format!("-Wl,-rpath,{}", library.parent().expect("a library has a directory").display()))
        .args(["-pthread", "-ldl"])
}
