//! Where the real NCCL may be: any loader configuration, in files that include each other, and any paths in the environment.

#![no_main]

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use dime::real::search::{Caller, Surroundings, places};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

/// What texts are made of. Nothing that leads out of the folder to a file that cannot be read to its end.
const WORDS: &[&[u8]] = &[
    b"include",
    b" ",
    b"\t",
    b"\n",
    b"\r\n",
    b"#",
    b"*",
    b"/",
    b"//",
    b"./",
    b":",
    b"a",
    b"b",
    b".conf",
    b"a.conf",
    b"b.conf",
    b"*.conf",
    b"sub/c.conf",
    b"lib",
    b"libnccl.so.2",
    b"python3.12",
    b"site-packages",
    b"libtorch_cuda.so",
    b"cupy",
    b"\xff",
    b"\xc3\xa9",
];
const CONFIGURATIONS: [&str; 3] = ["a.conf", "b.conf", "sub/c.conf"];

/// A folder with some libraries. tools/fuzz.sh takes it away with the folder for temporary files.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("dime-fuzz-search-{}", std::process::id()));
    for library in
        ["lib/libnccl.so.2", "lib/libnccl.so.2.9.1", "lib/python3.12/site-packages/nvidia/nccl/lib/libnccl.so"]
    {
        write(&folder.join(library), b"");
    }
    folder
});

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("a file has a folder")).expect("the temporary folder is writable");
    fs::write(path, bytes).expect("the temporary folder is writable");
}

fuzz_target!(|bytes: &[u8]| {
    let _ = run(&mut Unstructured::new(bytes));
});

fn text(input: &mut Unstructured) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for _ in 0..input.int_in_range(0..=30)?.min(input.len()) {
        match input.int_in_range(0..=WORDS.len())? {
            0 => text.extend(FOLDER.as_os_str().as_encoded_bytes()),
            word => text.extend(WORDS[word - 1]),
        }
    }
    Ok(text)
}

fn path(input: &mut Unstructured) -> Result<PathBuf> {
    Ok(OsString::from_vec(text(input)?).into())
}

/// A cache of the loader, damaged or not.
fn cache(input: &mut Unstructured) -> Result<Vec<u8>> {
    let mut bytes = b"glibc-ld.so.cache1.1".to_vec();
    for _ in 0..input.int_in_range(0..=30)? {
        bytes.extend(input.int_in_range(0..=200_u32)?.to_ne_bytes());
    }
    bytes.extend(text(input)?);
    Ok(bytes)
}

fn run(input: &mut Unstructured) -> Result<()> {
    for name in CONFIGURATIONS {
        write(&FOLDER.join(name), &text(input)?);
    }
    write(&FOLDER.join("cache"), &cache(input)?);
    let surroundings = Surroundings {
        configured: None,
        mapped: vec![path(input)?, path(input)?],
        callers: vec![Caller {
            is_known: input.arbitrary()?,
            has_runpath: input.arbitrary()?,
            folders: vec![path(input)?, path(input)?],
        }],
        library_path: Some(text(input).map(OsString::from_vec)?),
        virtual_env: Some(path(input)?),
        conda_prefix: Some(path(input)?),
        programs: vec![path(input)?],
        loader_cache: FOLDER.join("cache"),
        loader_configuration: FOLDER.join("a.conf"),
        loader_folders: vec![FOLDER.join("lib")],
    };
    for place in places(&surroundings) {
        assert!(!place.what.is_empty());
        for file in place.files() {
            let name = file.file_name().expect("a file has a name").to_string_lossy().into_owned();
            assert!(name == "libnccl.so" || name.starts_with("libnccl.so."), "{}", file.display());
        }
    }
    let configured = Surroundings { configured: Some(path(input)?), ..surroundings };
    assert_eq!(places(&configured).len(), 1, "a path that the user names is the only place");
    Ok(())
}
