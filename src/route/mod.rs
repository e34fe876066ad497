//! Routing: which kernel and grid an all-reduce takes, or why NCCL does it.
//!
//! A call is parsed into a [`Shape`]. [`route`] makes a [`LaunchPlan`] of it, or returns the [`Reason`] to forward.
//!
//! Routing is pure, so that all ranks decide alike. Its only inputs are what NCCL requires to be equal on all ranks
//! (count, type, operation) and the values on which the ranks agreed at setup, the rows of a tuning file among them. It sees no pointers, no environment
//! and no GPU.

mod geometry;
mod plan;
mod policy;
mod reason;
mod shape;
mod tables;
pub mod tuning;
mod type_kind;

pub use self::plan::{LaunchPlan, Piece};
pub use self::policy::{Agreed, may_need_setup, never_fast, route};
pub use self::reason::{REASONS, Reason};
pub use self::shape::Shape;
pub use self::type_kind::{TYPE_KINDS, TypeKind};
