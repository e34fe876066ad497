//! The functions that libdime.so exports under NCCL's names, two from each line of the table: `ncclX` and its twin
//! `pncclX`.
//!
//! The twin has a body of its own and never calls `ncclX`: a profiler may interpose its own `ncclX`, which would call
//! `pncclX` again.

use std::ffi::{c_char, c_int, c_uint, c_void};

use crate::api::boundary::{INTERNAL_ERROR_TEXT, NO_TEAM, boundary};
use crate::comm::{creation, hooks};
use crate::nccl::functions::nccl_functions;
use crate::nccl::*;
use crate::real;

/// Makes the exported functions from the table.
macro_rules! exports {
    ($(in $header:literal { $(
        $(#[doc = $doc:literal])*
        $since:literal fn $name:ident $(/ $twin:ident)? ($($argument:ident: $type:ty),* $(,)?) -> $result:ident $(=> $hook:path)?;
    )* })*) => {
        $($(
            export! {
                $(#[doc = $doc])*
                $name $(/ $twin)? ($($argument: $type),*) -> $result => callee!($name $($hook)?)
            }
        )*)*
    };
}

/// An exported function, and its twin if it has one: each calls `$callee` inside the panic boundary.
macro_rules! export {
    ($(#[$doc:meta])* $name:ident / $twin:ident $arguments:tt -> $result:ident => $callee:expr) => {
        export! { $(#[$doc])* $name $arguments -> $result => $callee }
        export! {
            #[doc = concat!("Same as ", stringify!($name), ", for profilers that put their own ", stringify!($name), " before this one.")]
            $twin $arguments -> $result => $callee
        }
    };
    ($(#[$doc:meta])* $symbol:ident($($argument:ident: $type:ty),*) -> $result:ident => $callee:expr) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $symbol($($argument: $type),*) -> $result {
            // SAFETY: the arguments go on as they came, under the contract that the caller has with NCCL.
            boundary(after_panic!($result), || unsafe { $callee($($argument),*) })
        }
    };
}

/// What a function calls: its hook, or NCCL's function of its name.
macro_rules! callee {
    ($name:ident) => {
        real::$name
    };
    ($name:ident $hook:path) => {
        $hook
    };
}

/// What a function of each return type returns after a panic.
macro_rules! after_panic {
    (ncclResult_t) => {
        ncclInternalError
    };
    (c_int) => {
        -1
    };
    (ncclTeam_t) => {
        NO_TEAM
    };
    (Text) => {
        INTERNAL_ERROR_TEXT.as_ptr()
    };
    (Nothing) => {
        ()
    };
}

nccl_functions!(exports);
