//! What the fuzz targets share.

pub mod ranks;
pub mod stranger;
