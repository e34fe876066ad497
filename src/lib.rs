//! Dime.
