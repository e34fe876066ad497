//! The shape of an all-reduce, parsed once.

use crate::nccl::{AllReduce, DataType, RedOp};
use crate::route::reason::Reason;

/// Type, reduction operation and size of an all-reduce that the kernels can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Type of an element.
    pub datatype: DataType,
    /// The reduction operation: how elements are combined.
    pub op: RedOp,
    /// Bytes of the message; not 0.
    pub bytes: usize,
}

impl Shape {
    /// The shape of a call, or why it has to be forwarded.
    pub fn of(call: &AllReduce) -> Result<Self, Reason> {
        Self::parse(call.count, call.datatype, call.op)
    }

    /// The shape of `count` elements with NCCL's numbers of type and operation, or why the call has to be forwarded.
    pub fn parse(count: usize, datatype: i32, op: i32) -> Result<Self, Reason> {
        let op = RedOp::from_nccl(op).ok_or(Reason::UserOp)?;
        let datatype = DataType::from_nccl(datatype).ok_or(Reason::UnknownType)?;
        if count == 0 {
            return Err(Reason::CountZero);
        }
        let bytes = count.checked_mul(datatype.bytes()).ok_or(Reason::TooLarge)?;
        Ok(Self { datatype, op, bytes })
    }
}
