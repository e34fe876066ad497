//! Libraries opened at run time, and tables of their functions.

use std::ffi::{CStr, CString, c_void};

/// A library that has been opened and is never closed.
#[derive(Clone, Copy)]
pub struct Opened(*mut c_void);

impl Opened {
    /// Opens a library; its names are for this table alone (RTLD_LOCAL). The error is the loader's.
    pub fn open(name: &CStr) -> Result<Opened, String> {
        // SAFETY: the name is a C string; loading runs the library's initialisers, which is what is asked for.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() { Err(last_error()) } else { Ok(Opened(handle)) }
    }

    /// The address of a function; None when the library lacks it.
    pub fn symbol(self, name: &str) -> Option<*mut c_void> {
        let name = CString::new(name).ok()?;
        // SAFETY: the handle is open and the name is a C string.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        (!address.is_null()).then_some(address)
    }
}

/// The text of the last dlopen/dlsym error of this thread.
fn last_error() -> String {
    // SAFETY: dlerror returns null or a C string that stays valid until the next dl call of this thread.
    unsafe {
        let text = libc::dlerror();
        if text.is_null() { "no reason given".to_owned() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
    }
}

/// A struct of C functions, and how to fill it from a library: a line is `field = "symbol" (arguments) -> result`, where the
/// result is int if none is given. Each signature must be the one that the library's header declares for the symbol.
macro_rules! function_table {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $table:ident;
        $($field:ident = $symbol:literal ($($argument:ty),*) $(-> $result:ty)?;)*
    ) => {
        $(#[$attribute])*
        $visibility struct $table {
            $(
                #[doc = $symbol]
                $visibility $field: unsafe extern "C" fn($($argument),*) -> $crate::loader::result_type!($($result)?),
            )*
        }

        /// The symbol of each function, for messages.
        #[allow(non_upper_case_globals, dead_code)]
        impl $table {
            $(const $field: &'static str = $symbol;)*
        }

        impl $table {
            /// Looks up every function. `lacking` words the error for a symbol that the library does not have.
            fn resolve(library: $crate::loader::Opened, lacking: impl Fn(&str) -> String) -> $crate::Fallible<Self> {
                Ok(Self {
                    $($field: {
                        let address = library.symbol($symbol).ok_or_else(|| lacking($symbol))?;
                        // SAFETY: the signature in the table is the one the library's header declares for this symbol.
                        unsafe {
                            std::mem::transmute::<
                                *mut std::ffi::c_void,
                                unsafe extern "C" fn($($argument),*) -> $crate::loader::result_type!($($result)?),
                            >(address)
                        }
                    },)*
                })
            }
        }
    };
}

macro_rules! result_type {
    () => {
        std::ffi::c_int
    };
    ($result:ty) => {
        $result
    };
}

pub(crate) use {function_table, result_type};
