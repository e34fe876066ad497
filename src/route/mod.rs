//! Routing: which kernel an all-reduce takes and on which grid, or why NCCL does it.
//!
//! A call is parsed into a [`Shape`]; [`route`] makes a [`LaunchPlan`] of it, or gives the [`Reason`] to forward.
//!
//! Pure. It sees what NCCL requires to be equal on all ranks (count, type, operation) and what the ranks agreed on at setup, and
//! nothing else: no pointers, no environment, no GPU. So all ranks decide alike.

mod geometry;
mod plan;
mod policy;
mod reason;
mod shape;
mod tables;

pub use self::plan::{LaunchPlan, Piece};
pub use self::policy::{Agreed, may_need_setup, never_fast, route};
pub use self::reason::{REASONS, Reason};
pub use self::shape::Shape;
