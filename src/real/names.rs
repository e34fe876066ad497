//! The functions of the real NCCL: name and the release that first has it.

use std::ffi::CStr;

use crate::nccl::functions::nccl_functions;

/// Makes from each line of the table the function's place in [`Function`] and its entry in [`FUNCTIONS`].
macro_rules! names {
    ($(in $header:literal { $(
        $(#[doc = $doc:literal])*
        $since:literal fn $name:ident $(/ $twin:ident)? ($($argument:ident: $type:ty),* $(,)?) -> $result:ident $(=> $hook:path)?;
    )* })*) => {
        /// The functions by name.
        #[derive(Clone, Copy, Debug)]
        #[allow(missing_docs)]
        pub enum Function { $($($name,)*)* }

        /// Name of each function and the first release that has it.
        pub const FUNCTIONS: &[(&CStr, &str)] = &[$($(
            (
                // The name is written without the zero that a C string ends with, so add it here.
                match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                    Ok(name) => name,
                    Err(_) => unreachable!(),
                },
                $since,
            ),
        )*)*];
    };
}

nccl_functions!(names);

/// Number of functions.
pub(super) const COUNT: usize = FUNCTIONS.len();
