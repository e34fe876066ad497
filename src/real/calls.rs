//! A Rust function for each of the real NCCL's, which calls it.

use std::ffi::{c_char, c_int, c_uint, c_void};

use crate::host::thread::inside_nccl;
use crate::nccl::functions::nccl_functions;
use crate::nccl::*;
use crate::real::library;
use crate::real::library::Address;
use crate::real::names::Function;

/// Makes from each line of the table a Rust function of its name that calls NCCL's.
macro_rules! calls {
    ($(in $header:literal { $(
        $(#[doc = $doc:literal])*
        $since:literal fn $name:ident $(/ $twin:ident)? ($($argument:ident: $type:ty),* $(,)?) -> $result:ident $(=> $hook:path)?;
    )* })*) => {
        $($(
            #[doc = concat!("Calls ", stringify!($name), " of the real NCCL (first in ", $since, ").")]
            ///
            /// # Safety
            /// The arguments meet the contract that NCCL has for them.
            #[inline(always)]
            pub unsafe fn $name($($argument: $type),*) -> $result {
                /// # Safety
                /// `address` is that of the function; the arguments meet its contract.
                #[inline(always)]
                unsafe fn call(address: Address $(, $argument: $type)*) -> $result {
                    // SAFETY: the real NCCL exports this address under this name, and NCCL has never changed the prototype of
                    // a function.
                    let function = unsafe {
                        std::mem::transmute::<Address, unsafe extern "C" fn($($type),*) -> $result>(address)
                    };
                    // SAFETY: the caller answers for the arguments.
                    inside_nccl(|| unsafe { function($($argument),*) }, |_returned| is_failure!($result, _returned))
                }

                // Apart, and with all the arguments, so that the usual way need not save them across a call that it does
                // not make.
                #[cold]
                #[inline(never)]
                unsafe fn first_call($($argument: $type),*) -> $result {
                    match library::find(Function::$name as usize) {
                        // SAFETY: found under this name; the caller answers for the arguments.
                        Ok(address) => unsafe { call(address $(, $argument)*) },
                        Err(code) => failure!($result, code),
                    }
                }

                match library::known(Function::$name as usize) {
                    // SAFETY: found under this name; the caller answers for the arguments.
                    Some(address) => unsafe { call(address $(, $argument)*) },
                    // SAFETY: the caller answers for the arguments.
                    None => unsafe { first_call($($argument),*) },
                }
            }
        )*)*
    };
}

/// Whether what a function returned is a failure of NCCL's, which replaces one of ours as the last.
macro_rules! is_failure {
    (ncclResult_t, $returned:ident) => {
        $returned != ncclSuccess
    };
    ($other:ident, $returned:ident) => {
        false
    };
}

/// What a function of each return type returns when NCCL or the function is missing.
macro_rules! failure {
    (ncclResult_t, $code:ident) => {
        $code
    };
    (c_int, $code:ident) => {{
        let _ = $code;
        -1
    }};
    (ncclTeam_t, $code:ident) => {{
        let _ = $code;
        ncclTeam_t { nRanks: 0, rank: 0, stride: 0 }
    }};
    (Text, $code:ident) => {{
        let _ = $code;
        c"NCCL is not loaded: the log of Dime says why".as_ptr()
    }};
    (Nothing, $code:ident) => {{
        let _ = $code;
    }};
}

nccl_functions!(calls);

/// Whether the NCCL that was loaded, if any was, has a function.
#[inline(always)]
pub fn has(function: Function) -> bool {
    library::known(function as usize).is_some()
}
