//! The GPUs of one worker and the communicators on them.

use crate::Fallible;
use crate::cuda::{Context, Stream};
use crate::nccl::{Comm, Library, UniqueId};
use crate::number::{Dtype, Op};
use crate::team::Seat;

/// One rank's GPU.
pub struct Gpu {
    /// The rank, in the whole run.
    pub rank: usize,
    /// The primary context of its device.
    pub context: Context,
    /// The rank's own stream.
    pub stream: Stream,
}

/// Opens the GPUs that a worker drives, in rank order.
pub fn open_gpus(seat: &Seat) -> Fallible<Vec<Gpu>> {
    seat.doing("opening the GPU");
    crate::cuda::init()?;
    seat.ranks
        .clone()
        .map(|rank| {
            let context = Context::retain(seat.ordinals[rank])?;
            let stream = Stream::new()?;
            Ok(Gpu { rank, context, stream })
        })
        .collect()
}

/// One communicator: the handle of each rank that this worker drives.
pub struct Communicator<'a> {
    /// The library that made it.
    pub library: &'a Library,
    /// In rank order.
    pub handles: Vec<Comm>,
}

/// One all-reduce as a rank issues it: device addresses of its input and output.
#[derive(Clone, Copy)]
pub struct Buffers {
    /// Device address of the input.
    pub input: u64,
    /// Device address of the output.
    pub output: u64,
}

impl<'a> Communicator<'a> {
    /// Creates a communicator over all ranks of the run. Every worker must call this alike.
    pub fn create(seat: &Seat, library: &'a Library, gpus: &[Gpu]) -> Fallible<Communicator<'a>> {
        seat.doing(&format!("creating a communicator of {} ranks with {}", seat.total, library.label()));
        if seat.worker == 0 {
            seat.control.put_unique_id(&library.unique_id()?.0);
        }
        seat.barrier()?;
        let id = UniqueId(seat.control.unique_id());
        let boxes = grouped(seat, library, gpus, |gpu| {
            gpu.context.enter()?;
            library.comm_init_rank(seat.total, id, gpu.rank)
        })?;
        // Nobody may overwrite the id before all have read it.
        seat.barrier()?;
        Ok(Communicator { library, handles: boxes.iter().map(|handle| **handle).collect() })
    }

    /// Splits off a communicator with the same ranks. Every worker must call this alike.
    pub fn split(&self, seat: &Seat, gpus: &[Gpu]) -> Fallible<Communicator<'a>> {
        let mut parents = self.handles.iter();
        let boxes = grouped(seat, self.library, gpus, |gpu| {
            let parent = parents.next().expect("a handle for each GPU");
            gpu.context.enter()?;
            self.library.comm_split(*parent, gpu.rank)
        })?;
        Ok(Communicator { library: self.library, handles: boxes.iter().map(|handle| **handle).collect() })
    }

    /// Issues one all-reduce on each GPU of the worker, on the given streams; `buffers` and `streams` are one per GPU.
    pub fn all_reduce_on(
        &self,
        streams: &[&Stream],
        buffers: &[Buffers],
        count: usize,
        dtype: Dtype,
        op: i32,
    ) -> Fallible<()> {
        let group = self.handles.len() > 1;
        if group {
            self.library.group_start()?;
        }
        for ((&comm, stream), buffers) in self.handles.iter().zip(streams).zip(buffers) {
            self.library.all_reduce_raw(buffers.input, buffers.output, count, dtype, op, comm, stream)?;
        }
        if group { self.library.group_end() } else { Ok(()) }
    }

    /// Issues one all-reduce on each GPU of the worker, on its own stream.
    pub fn all_reduce(&self, gpus: &[Gpu], buffers: &[Buffers], count: usize, dtype: Dtype, op: Op) -> Fallible<()> {
        if let ([gpu], [buffers], [comm]) = (gpus, buffers, &self.handles[..]) {
            let (input, output) = (buffers.input, buffers.output);
            return self.library.all_reduce_raw(input, output, count, dtype, op.code(), *comm, &gpu.stream);
        }
        let streams: Vec<&Stream> = gpus.iter().map(|gpu| &gpu.stream).collect();
        self.all_reduce_on(&streams, buffers, count, dtype, op.code())
    }

    /// Reports an asynchronous error of any rank here.
    pub fn check_async_error(&self) -> Fallible<()> {
        self.handles.iter().try_for_each(|&comm| self.library.check_async_error(comm))
    }

    /// Destroys the handles. Every worker must call this alike, with its streams idle.
    pub fn destroy(self, seat: &Seat, gpus: &[Gpu]) -> Fallible<()> {
        seat.doing(&format!("destroying a communicator of {}", self.library.label()));
        if self.handles.len() > 1 {
            self.library.group_start()?;
        }
        for (gpu, &comm) in gpus.iter().zip(&self.handles) {
            gpu.context.enter()?;
            self.library.comm_destroy(comm)?;
        }
        if self.handles.len() > 1 { self.library.group_end() } else { Ok(()) }
    }
}

/// Calls `make` for each GPU, inside a group where one thread drives several.
fn grouped<T>(
    seat: &Seat,
    library: &Library,
    gpus: &[Gpu],
    mut make: impl FnMut(&Gpu) -> Fallible<T>,
) -> Fallible<Vec<T>> {
    if seat.must_group() {
        library.group_start()?;
    }
    let made: Fallible<Vec<T>> = gpus.iter().map(&mut make).collect();
    if seat.must_group() {
        library.group_end()?;
    }
    made
}

/// Waits for the streams of all GPUs of the worker.
pub fn wait_all(seat: &Seat, gpus: &[Gpu]) -> Fallible<()> {
    for gpu in gpus {
        gpu.context.enter()?;
        gpu.stream.wait(seat.wait_limit).map_err(|e| format!("rank {}: {e}", gpu.rank))?;
    }
    Ok(())
}
