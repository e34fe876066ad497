//! LD_PRELOAD: the list of libraries that the loader takes before all others.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use dime_harness::Fallible;

/// Refuses a path that the loader does not take for one: what it cannot preload it leaves out, and the program runs on.
pub fn check(dime: &Path) -> Fallible<()> {
    let bytes = dime.as_os_str().as_bytes();
    let Some((_, name)) =
        [(b' ', "a space"), (b':', "a colon"), (b'$', "a dollar sign")].iter().find(|(byte, _)| bytes.contains(byte))
    else {
        return Ok(());
    };
    Err(format!(
        "{}: cannot be preloaded, for there is {name} in the path: the loader splits LD_PRELOAD at spaces and colons and \
         replaces words that begin with a dollar sign; make a link to it elsewhere (ln -s) and name that with --dime PATH",
        dime.display()
    ))
}

/// Our library first, then what was preloaded already. Our library is there once.
pub fn list(dime: &OsStr, before: Option<&OsStr>) -> OsString {
    let mut list = dime.to_owned();
    let before = before.unwrap_or_default().as_bytes();
    for library in before.split(|byte| matches!(byte, b':' | b' ')).map(OsStr::from_bytes) {
        if !library.is_empty() && library != dime {
            list.push(":");
            list.push(library);
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_library_comes_before_others_preloaded() {
        let dime = OsStr::new("/a/libdime.so");
        assert_eq!(list(dime, None), "/a/libdime.so");
        assert_eq!(list(dime, Some(OsStr::new(""))), "/a/libdime.so");
        assert_eq!(list(dime, Some(OsStr::new("/b.so"))), "/a/libdime.so:/b.so");
    }

    #[test]
    fn our_library_is_preloaded_once_and_others_keep_their_order() {
        let dime = OsStr::new("/a/libdime.so");
        for before in ["/a/libdime.so:/b.so:/c.so", "/b.so /a/libdime.so :/c.so", "/b.so:/c.so:/a/libdime.so:"] {
            assert_eq!(list(dime, Some(OsStr::new(before))), "/a/libdime.so:/b.so:/c.so", "{before}");
        }
        // Another file of that name is another library.
        assert_eq!(list(dime, Some(OsStr::new("/z/libdime.so"))), "/a/libdime.so:/z/libdime.so");
    }
}
