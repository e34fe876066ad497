//! Guards: bytes around a buffer that an all-reduce must leave as they are.

/// Bytes before and after every buffer; also the grid on which windows into a pool of inputs begin.
pub const GUARD_BYTES: usize = 256;
/// What guards and outputs hold before an all-reduce.
pub const POISON: u8 = 0xa5;
