//! NVRTC, the CUDA compiler as a library, opened by its path.

use std::error::Error;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;

use libloading::{Library, Symbol};

type Fallible<T> = Result<T, Box<dyn Error>>;
type Program = *mut c_void;

/// NVRTC has no headers of a C library. This is all that the kernels and CUDA's number types need of one.
const STDINT: &CStr = c"#pragma once
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long int64_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long uint64_t;
typedef unsigned long uintptr_t;
";

/// The opened library.
pub struct Nvrtc {
    library: Library,
}

/// What a compilation gives.
pub struct Compiled {
    /// Machine code, an ELF file.
    pub code: Vec<u8>,
    /// The PTX that it was made of, which ends in NUL.
    pub ptx: Vec<u8>,
}

impl Nvrtc {
    pub fn open(path: &Path) -> Fallible<Self> {
        // SAFETY: NVRTC's initialisers have no requirements.
        Ok(Self { library: unsafe { Library::new(path) }? })
    }

    /// Major and minor version, of CUDA.
    pub fn version(&self) -> Fallible<(i32, i32)> {
        let (mut major, mut minor) = (0, 0);
        // SAFETY: NVRTC's function of this name has this type; out pointers are ours.
        let result = unsafe {
            let version: Symbol<'_, unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int> =
                self.library.get(b"nvrtcVersion")?;
            version(&mut major, &mut minor)
        };
        self.check("nvrtcVersion", result)?;
        Ok((major, minor))
    }

    /// Compiles a source for an architecture, 90 for 9.0. An error holds what the compiler says.
    pub fn compile(&self, source: &CStr, name: &CStr, arch: u32, options: &[String]) -> Fallible<Compiled> {
        let mut program: Program = ptr::null_mut();
        // SAFETY: NVRTC's function of this name has this type; the strings live until it returns, which copies them.
        let created = unsafe {
            type Create = unsafe extern "C" fn(
                *mut Program,
                *const c_char,
                *const c_char,
                c_int,
                *const *const c_char,
                *const *const c_char,
            ) -> c_int;
            let create: Symbol<'_, Create> = self.library.get(b"nvrtcCreateProgram")?;
            create(&mut program, source.as_ptr(), name.as_ptr(), 1, &STDINT.as_ptr(), &c"stdint.h".as_ptr())
        };
        self.check("nvrtcCreateProgram", created)?;
        let architecture = format!("--gpu-architecture=sm_{arch}");
        let options = options.iter().chain([&architecture]);
        let options = options.map(|option| CString::new(option.as_str())).collect::<Result<Vec<_>, _>>()?;
        let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        // SAFETY: NVRTC's function of this name has this type; the program was just created.
        let compiled = unsafe {
            let compile: Symbol<'_, unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int> =
                self.library.get(b"nvrtcCompileProgram")?;
            compile(program, pointers.len() as c_int, pointers.as_ptr())
        };
        // The program is never destroyed: this process ends soon.
        if let Err(error) = self.check("nvrtcCompileProgram", compiled) {
            let said = self.output(program, c"nvrtcGetProgramLogSize", c"nvrtcGetProgramLog")?;
            return Err(format!("{error}\n{}", String::from_utf8_lossy(&said).trim_end_matches('\0')).into());
        }
        Ok(Compiled {
            code: self.output(program, c"nvrtcGetCUBINSize", c"nvrtcGetCUBIN")?,
            ptx: self.output(program, c"nvrtcGetPTXSize", c"nvrtcGetPTX")?,
        })
    }

    /// One of a program's outputs, by the names of the functions that give its size and its bytes.
    fn output(&self, program: Program, size: &CStr, bytes: &CStr) -> Fallible<Vec<u8>> {
        let mut count = 0_usize;
        // SAFETY: all of NVRTC's functions for sizes have this type; the program was compiled.
        let asked = unsafe {
            let size: Symbol<'_, unsafe extern "C" fn(Program, *mut usize) -> c_int> =
                self.library.get(size.to_bytes())?;
            size(program, &mut count)
        };
        self.check(&size.to_string_lossy(), asked)?;
        let mut output = vec![0_u8; count];
        // SAFETY: as above; the buffer is as long as NVRTC said.
        let asked = unsafe {
            let get: Symbol<'_, unsafe extern "C" fn(Program, *mut u8) -> c_int> =
                self.library.get(bytes.to_bytes())?;
            get(program, output.as_mut_ptr())
        };
        self.check(&bytes.to_string_lossy(), asked)?;
        Ok(output)
    }

    fn check(&self, call: &str, result: c_int) -> Fallible<()> {
        if result == 0 {
            return Ok(());
        }
        // SAFETY: NVRTC's function of this name has this type, and returns a constant string.
        let text = unsafe {
            let text_of: Symbol<'_, unsafe extern "C" fn(c_int) -> *const c_char> =
                self.library.get(b"nvrtcGetErrorString")?;
            CStr::from_ptr(text_of(result)).to_string_lossy().into_owned()
        };
        Err(format!("{call} failed: {text} ({result})").into())
    }
}
