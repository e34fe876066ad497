//! What an ELF file of this machine says of itself: its interpreter, its sections and the symbols that it defines.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8] = b"\x7fELF\x02\x01";
const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const SECTION_HEADER_BYTES: usize = 64;
const SYMBOL_BYTES: usize = 24;
const PT_INTERP: u64 = 3;
const SHT_DYNSYM: u64 = 11;
/// More than the symbols of any library have; a broken file does not make us allocate what it says.
const MOST_BYTES: u64 = 1 << 30;

/// An open ELF file.
pub struct Elf {
    file: File,
    header: [u8; HEADER_BYTES],
}

/// A little-endian number of `bytes` bytes.
fn number(from: &[u8], offset: usize, bytes: usize) -> u64 {
    from.get(offset..offset + bytes).unwrap_or(&[]).iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

impl Elf {
    /// Opens a file. None: it is no 64-bit little-endian ELF.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        let mut header = [0; HEADER_BYTES];
        match file.read_exact_at(&mut header, 0) {
            Ok(()) => Ok(header.starts_with(MAGIC).then_some(Self { file, header })),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn bytes(&self, offset: u64, bytes: u64) -> Option<Vec<u8>> {
        let mut read = vec![0; usize::try_from(bytes.min(MOST_BYTES)).ok()?];
        self.file.read_exact_at(&mut read, offset).ok()?;
        Some(read)
    }

    /// The loader that it names. None: it is statically linked, or a library.
    pub fn interpreter(&self) -> Option<PathBuf> {
        let count = number(&self.header, 56, 2);
        let table = self.bytes(number(&self.header, 32, 8), count * PROGRAM_HEADER_BYTES as u64)?;
        let entry = table.chunks_exact(PROGRAM_HEADER_BYTES).find(|entry| number(entry, 0, 4) == PT_INTERP)?;
        let mut path = self.bytes(number(entry, 8, 8), number(entry, 32, 8))?;
        path.retain(|byte| *byte != 0);
        Some(OsString::from_vec(path).into())
    }

    /// Whether others can find this symbol in it.
    pub fn defines(&self, symbol: &str) -> bool {
        self.look_up(symbol).unwrap_or(false)
    }

    /// The headers of its sections.
    fn section_headers(&self) -> Option<Vec<[u8; SECTION_HEADER_BYTES]>> {
        let count = number(&self.header, 60, 2);
        let table = self.bytes(number(&self.header, 40, 8), count * SECTION_HEADER_BYTES as u64)?;
        Some(table.as_chunks().0.to_vec())
    }

    fn content(&self, section: &[u8]) -> Option<Vec<u8>> {
        self.bytes(number(section, 24, 8), number(section, 32, 8))
    }

    /// The names of its sections, each with a way to read its content; none if the file has no names or is cut off.
    pub fn sections(&self) -> Vec<(String, impl Fn() -> Vec<u8>)> {
        let headers = self.section_headers().unwrap_or_default();
        let of_names = headers.get(number(&self.header, 62, 2) as usize).and_then(|header| self.content(header));
        let names = of_names.unwrap_or_default();
        let name = |header: &[u8]| {
            let name = names.get(number(header, 0, 4) as usize..).unwrap_or_default();
            String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
        };
        let content = |header: [u8; SECTION_HEADER_BYTES]| move || self.content(&header).unwrap_or_default();
        headers.iter().map(|header| (name(header), content(*header))).collect()
    }

    fn look_up(&self, symbol: &str) -> Option<bool> {
        let sections = self.section_headers()?;
        let dynamic = sections.iter().find(|section| number(*section, 4, 4) == SHT_DYNSYM)?;
        let names = self.content(sections.get(number(dynamic, 40, 4) as usize)?)?;
        let symbols = self.content(dynamic)?;
        let wanted = [symbol.as_bytes(), b"\0"].concat();
        Some(symbols.chunks_exact(SYMBOL_BYTES).any(|entry| {
            let is_defined = number(entry, 6, 2) != 0;
            is_defined && names.get(number(entry, 0, 4) as usize..).is_some_and(|rest| rest.starts_with(&wanted))
        }))
    }
}

/// Whether a file is a library or program that defines a symbol.
pub fn defines(path: &Path, symbol: &str) -> bool {
    Elf::open(path).ok().flatten().is_some_and(|elf| elf.defines(symbol))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_names_its_loader_and_a_script_is_no_program() {
        let elf = Elf::open(Path::new("/proc/self/exe")).unwrap().expect("a program");
        assert!(elf.interpreter().is_some_and(|loader| loader.is_file()));
        assert!(!elf.defines("ncclAllReduce"));
        let text = elf.sections().into_iter().find(|(name, _)| name == ".text").expect("a program has code");
        assert!(!text.1().is_empty());
        assert!(Elf::open(Path::new("/proc/self/status")).unwrap().is_none());
    }

    #[test]
    fn what_is_cut_off_defines_nothing() {
        let path = std::env::temp_dir().join(format!("dime-doctor-elf-{}", std::process::id()));
        let whole = std::fs::read("/proc/self/exe").unwrap();
        for bytes in [0, 10, HEADER_BYTES, 5000] {
            std::fs::write(&path, &whole[..bytes]).unwrap();
            assert!(!defines(&path, "main"), "{bytes}");
        }
        std::fs::remove_file(path).unwrap();
    }
}
