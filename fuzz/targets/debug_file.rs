//! DIME_DEBUG_FILE: what is filled into the path, and that nothing else changes.

#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libfuzzer_sys::fuzz_target;

fn expanded(pattern: &[u8]) -> Vec<u8> {
    let path = dime::host::file_name::expanded(Path::new(OsStr::from_bytes(pattern)));
    path.as_os_str().as_bytes().to_vec()
}

fuzz_target!(|pattern: &[u8]| {
    let doubled: Vec<u8> =
        pattern.iter().flat_map(|byte| std::iter::repeat_n(*byte, 1 + usize::from(*byte == b'%'))).collect();
    assert_eq!(expanded(&doubled), pattern, "every percent sign can be written as two");

    let process = std::process::id().to_string();
    let without_signs = |part: &[u8]| !part.contains(&b'%');
    if without_signs(pattern) {
        assert_eq!(expanded(pattern), pattern);
        assert_eq!(expanded(&[pattern, b"%p"].concat()), [pattern, process.as_bytes()].concat());
    }
    // Parts that no pair stretches across are filled in each by itself.
    for at in (0..=pattern.len()).filter(|at| !pattern[..*at].ends_with(b"%")) {
        let (before, behind) = pattern.split_at(at);
        assert_eq!(expanded(pattern), [expanded(before), expanded(behind)].concat());
    }
});
