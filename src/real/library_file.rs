//! Whether a file can be a shared library of this process, judged by its type and its header. The loader's own
//! messages do not say what is wrong with a file of another machine or with a folder.
//!
//! The command-line tool includes this file too, so it uses nothing of this crate.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Why a file is no shared library for this process.
#[derive(Debug)]
pub enum Unfit {
    Missing,
    Unreadable(io::Error),
    Directory,
    NotAFile,
    NotALibrary,
    OtherMachine { file: String, process: &'static str },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "no such file"),
            Self::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Self::Directory => write!(f, "is a directory, not a library"),
            Self::NotAFile => write!(f, "is not a file"),
            Self::NotALibrary => write!(f, "is not a shared library"),
            Self::OtherMachine { file, process } => {
                write!(f, "is built for {file}, but this process is {process}")
            }
        }
    }
}

impl From<io::Error> for Unfit {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::Missing } else { Self::Unreadable(error) }
    }
}

/// Looks at the file and reads its start.
pub fn check(path: &Path) -> Result<(), Unfit> {
    const TYPE_SHARED: u16 = 3;
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(Unfit::Directory);
    }
    if !metadata.is_file() {
        return Err(Unfit::NotAFile);
    }
    // Identification, type and machine.
    let mut header = [0; 20];
    let mut file = File::open(path)?;
    match file.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Unfit::NotALibrary),
        Err(error) => return Err(Unfit::Unreadable(error)),
    }
    let half_word = |at: usize| {
        let bytes = [header[at], header[at + 1]];
        if header[5] == 2 { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    };
    if !header.starts_with(b"\x7fELF") || half_word(16) != TYPE_SHARED {
        return Err(Unfit::NotALibrary);
    }
    let (file_bits, file_machine) = (header[4], half_word(18));
    let process = match std::env::consts::ARCH {
        "x86_64" => (2, 62),
        "aarch64" => (2, 183),
        // An architecture that this table lacks: the loader decides.
        _ => return Ok(()),
    };
    if (file_bits, file_machine) != process {
        return Err(Unfit::OtherMachine {
            file: machine_name(file_bits, file_machine),
            process: if process.1 == 62 { "x86-64" } else { "aarch64" },
        });
    }
    Ok(())
}

fn machine_name(bits: u8, machine: u16) -> String {
    match (bits, machine) {
        (2, 62) => "x86-64".to_owned(),
        (1, 62) => "x32".to_owned(),
        (_, 3) => "i386".to_owned(),
        (_, 40) => "32-bit ARM".to_owned(),
        (_, 183) => "aarch64".to_owned(),
        (_, 21) => "ppc64".to_owned(),
        (_, 243) => "RISC-V".to_owned(),
        _ => format!("ELF machine {machine}"),
    }
}
