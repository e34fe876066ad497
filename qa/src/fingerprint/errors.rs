//! Misuses and the errors they return, from libdime.so itself or from the NCCL behind it.
//!
//! Only such as concern one rank: none of these calls begins anything that another rank would have to join. Left out is
//! what NCCL itself leaves undefined, a handle that was aborted or destroyed for example.

use std::ffi::{c_int, c_void};
use std::ptr;

use dime_harness::Fallible;
use dime_harness::nccl::{Functions, UniqueId, result_name};
use dime_harness::rig::{Communicator, Gpu};

/// ncclFloat32, ncclSum
const F32: c_int = 7;
const SUM: c_int = 0;

/// Makes every misuse, one after the other, with the first rank of the communicator here and a buffer of its device.
pub fn lines(communicator: &Communicator, gpu: &Gpu, buffer: u64) -> Fallible<Vec<String>> {
    gpu.context.enter()?;
    let library = communicator.library;
    let misuse = Misuse {
        functions: &library.functions,
        comm: communicator.handles[0].0,
        stream: gpu.stream.raw(),
        buffer: buffer as *mut c_void,
    };
    let mut results = misuse.all_reduces();
    results.extend(misuse.groups());
    results.extend(misuse.operations(library.pre_mul_sum(0.5, communicator.handles[0])?));
    results.extend(misuse.communicators(library.unique_id()?));
    Ok(results.iter().map(|(what, code)| format!("{what}: {}", result_name(*code))).collect())
}

/// What was done, and the code that came back.
type Results = Vec<(&'static str, c_int)>;

struct Misuse<'a> {
    functions: &'a Functions,
    comm: *mut c_void,
    stream: *mut c_void,
    buffer: *mut c_void,
}

impl Misuse<'_> {
    fn all_reduce(&self, count: usize, dtype: c_int, op: c_int, comm: *mut c_void) -> c_int {
        // SAFETY: the buffer is large enough for all that is done here, which is nothing as long as the call is refused.
        unsafe { (self.functions.all_reduce)(self.buffer, self.buffer, count, dtype, op, comm, self.stream) }
    }

    fn all_reduces(&self) -> Results {
        let null = ptr::null_mut();
        let comm = self.comm;
        // SAFETY: without elements the addresses are not used.
        let nothing_nowhere = unsafe { (self.functions.all_reduce)(null, null, 0, F32, SUM, comm, self.stream) };
        vec![
            ("ncclAllReduce, communicator NULL", self.all_reduce(16, F32, SUM, null)),
            ("ncclAllReduce of no elements, communicator NULL", self.all_reduce(0, F32, SUM, null)),
            ("ncclAllReduce, type 12", self.all_reduce(16, 12, SUM, comm)),
            ("ncclAllReduce, type -1", self.all_reduce(16, -1, SUM, comm)),
            ("ncclAllReduce, type 1000000", self.all_reduce(16, 1_000_000, SUM, comm)),
            ("ncclAllReduce, operation 5, which nobody made", self.all_reduce(16, F32, 5, comm)),
            ("ncclAllReduce, operation -1", self.all_reduce(16, F32, -1, comm)),
            ("ncclAllReduce, operation 1000000", self.all_reduce(16, F32, 1_000_000, comm)),
            ("ncclAllReduce, the largest operation", self.all_reduce(16, F32, c_int::MAX, comm)),
            ("ncclAllReduce, the smallest operation", self.all_reduce(16, F32, c_int::MIN, comm)),
            ("ncclAllReduce of no elements", self.all_reduce(0, F32, SUM, comm)),
            ("ncclAllReduce of no elements, buffers NULL", nothing_nowhere),
            ("ncclAllReduce of no elements, type 12", self.all_reduce(0, 12, SUM, comm)),
            ("ncclAllReduce of no elements, operation -1", self.all_reduce(0, F32, -1, comm)),
        ]
    }

    /// What is wrong in a group is said at once and again at its end, and nothing of the group is done.
    fn groups(&self) -> Results {
        let functions = self.functions;
        // SAFETY: no arguments.
        let (start, end) = (|| unsafe { (functions.group_start)() }, || unsafe { (functions.group_end)() });
        vec![
            ("ncclGroupEnd without a start", end()),
            ("ncclGroupStart", start()),
            ("ncclAllReduce in a group, communicator NULL", self.all_reduce(16, F32, SUM, ptr::null_mut())),
            ("ncclGroupEnd after it", end()),
            ("ncclGroupStart once more", start()),
            ("ncclAllReduce in a group", self.all_reduce(16, F32, SUM, self.comm)),
            ("ncclAllReduce in the same group, type 12", self.all_reduce(16, 12, SUM, self.comm)),
            ("ncclGroupEnd after both", end()),
            ("ncclGroupStart of an empty group", start()),
            ("ncclGroupEnd of an empty group", end()),
        ]
    }

    fn operations(&self, made: c_int) -> Results {
        // SAFETY: handles are alive or NULL, and what an operation's number means is for NCCL to check.
        let destroy = |op, comm| unsafe { (self.functions.red_op_destroy)(op, comm) };
        let comm = self.comm;
        vec![
            ("ncclRedOpDestroy, a built-in operation", destroy(SUM, comm)),
            ("ncclRedOpDestroy, operation -1", destroy(-1, comm)),
            ("ncclRedOpDestroy, communicator NULL", destroy(made, ptr::null_mut())),
            ("ncclRedOpDestroy", destroy(made, comm)),
            ("ncclRedOpDestroy, the same again", destroy(made, comm)),
            ("ncclAllReduce, an operation that was destroyed", self.all_reduce(16, F32, made, comm)),
        ]
    }

    fn communicators(&self, id: UniqueId) -> Results {
        let f = self.functions;
        let (comm, null) = (self.comm, ptr::null_mut());
        let (mut number, mut handle) = (0, ptr::null_mut());
        // SAFETY: handles are alive or NULL, out pointers valid or NULL, and no call gets so far as to wait for another rank.
        unsafe {
            vec![
                ("ncclCommCount, communicator NULL", (f.comm_count)(null, &mut number)),
                ("ncclCommCount, result NULL", (f.comm_count)(comm, ptr::null_mut())),
                ("ncclCommUserRank, communicator NULL", (f.comm_user_rank)(null, &mut number)),
                ("ncclCommUserRank, result NULL", (f.comm_user_rank)(comm, ptr::null_mut())),
                ("ncclCommCuDevice, communicator NULL", (f.comm_cu_device)(null, &mut number)),
                ("ncclCommCuDevice, result NULL", (f.comm_cu_device)(comm, ptr::null_mut())),
                ("ncclCommGetAsyncError, communicator NULL", (f.async_error)(null, &mut number)),
                ("ncclCommGetAsyncError, result NULL", (f.async_error)(comm, ptr::null_mut())),
                ("ncclCommGetAsyncError", (f.async_error)(comm, &mut number)),
                ("the communicator's state after all that", number),
                ("ncclCommInitRank, communicator NULL", (f.comm_init_rank)(ptr::null_mut(), 2, id, 0)),
                ("ncclCommInitRank, no ranks", (f.comm_init_rank)(&mut handle, 0, id, 0)),
                ("ncclCommInitRank, rank 2 of 2", (f.comm_init_rank)(&mut handle, 2, id, 2)),
                ("ncclCommInitRank, rank -1", (f.comm_init_rank)(&mut handle, 2, id, -1)),
                ("ncclCommInitAll, communicators NULL", (f.comm_init_all)(ptr::null_mut(), 1, ptr::null())),
                ("ncclCommInitAll, -1 devices", (f.comm_init_all)(&mut handle, -1, ptr::null())),
                ("ncclCommSplit, communicator NULL", (f.comm_split)(null, 0, 0, &mut handle, ptr::null_mut())),
                ("ncclCommSplit, result NULL", (f.comm_split)(comm, 0, 0, ptr::null_mut(), ptr::null_mut())),
                ("ncclCommDestroy, communicator NULL", (f.comm_destroy)(null)),
                ("ncclCommAbort, communicator NULL", (f.comm_abort)(null)),
                ("ncclGetUniqueId, result NULL", (f.get_unique_id)(ptr::null_mut())),
                ("ncclGetVersion, result NULL", (f.get_version)(ptr::null_mut())),
            ]
        }
    }
}
