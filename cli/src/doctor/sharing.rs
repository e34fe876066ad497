//! Whether two processes can share memory here, tried as a setup of Dime does it: abstract sockets, a descriptor passed over them,
//! memory behind it that both map and write.
//!
//! Two processes of this program, the sides, do the same thing at the same time. Each tells the other its socket on standard output,
//! which is the other's standard input.

use std::io::{self, BufRead, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dime::comm::setup::sockets::{self, Listener, Party, Peer};
use dime::gpu::driver::Driver;
use dime::gpu::memory::{PeerScratch, Scratch, Sharing};
use dime_harness::cuda::{Context, PinnedBuffer, Stream};
use dime_harness::shared_page::SharedPage;
use dime_harness::{Fallible, cuda};
use serde_json::{Value, json};

use crate::doctor::child::{self, LIMIT};
use crate::doctor::confinement;
use crate::doctor::gpus::Machine;
use crate::doctor::report::{Check, Section};

/// How long a side waits for the other.
const WAIT_LIMIT: Duration = Duration::from_secs(10);
/// Of GPU memory, what is tried; the driver rounds it up.
const SCRATCH_BYTES: usize = 2 << 20;

/// What a side shows first in the memory that it owns.
fn greeting(side: usize) -> u8 {
    0x51 + side as u8
}

/// What a side answers in the memory of the other.
fn reply(side: usize) -> u8 {
    0xa1 + side as u8
}

/// Part `share-page` and `share-gpu`: one side.
pub fn part(side: usize, is_gpu: bool) -> Fallible<Value> {
    let deadline = Instant::now() + WAIT_LIMIT;
    if is_gpu { share_scratch(side, deadline) } else { share_page(side, deadline) }.map(|()| json!(true))
}

fn share_page(side: usize, deadline: Instant) -> Fallible<()> {
    let failed = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let (own, descriptor) = SharedPage::create().map_err(failed("memory behind a descriptor (memfd)"))?;
    own.word(0).store(greeting(side).into(), Ordering::Release);
    let received = exchange(side, &descriptor, deadline)?;
    let other = SharedPage::map(&received).map_err(failed("mapping the other process's memory"))?;
    if !other.await_word(0, greeting(1 - side).into(), deadline) {
        return Err("the mapped memory is not that of the other process".to_owned());
    }
    other.word(1).store(reply(side).into(), Ordering::Release);
    if !own.await_word(1, reply(1 - side).into(), deadline) {
        return Err("what the other process wrote does not arrive".to_owned());
    }
    Ok(())
}

/// A side has a GPU of its own where there are two.
fn share_scratch(side: usize, deadline: Instant) -> Fallible<()> {
    let driver = Driver::get()?;
    cuda::init()?;
    let ordinal = side % cuda::device_count()?.max(1);
    let _context = Context::retain(ordinal)?;
    let device = ordinal as i32;
    let failed = |error: dime::gpu::driver::DriverError| error.to_string();
    let own = Scratch::allocate(driver, device, SCRATCH_BYTES, Sharing::Descriptor).map_err(failed)?;
    let stream = Stream::new()?;
    let half = SCRATCH_BYTES / 2;
    stream.fill(own.address, greeting(side), half)?;
    stream.wait(WAIT_LIMIT)?;
    let descriptor = own.export_descriptor(driver).map_err(failed)?;
    let received = exchange(side, &descriptor, deadline)?;
    let other = PeerScratch::import_descriptor(driver, device, &received, SCRATCH_BYTES).map_err(failed)?;
    let byte_at = |address: u64| -> Fallible<u8> {
        let landed = PinnedBuffer::new(1)?;
        stream.copy_to_host(&landed, 0, address, 1)?;
        stream.wait(WAIT_LIMIT)?;
        Ok(landed.as_slice()[0])
    };
    if byte_at(other.address + half as u64 - 1)? != greeting(1 - side) {
        return Err("the mapped GPU memory does not have what the other process wrote".to_owned());
    }
    stream.fill(other.address + half as u64, reply(side), half)?;
    stream.wait(WAIT_LIMIT)?;
    while byte_at(own.address + SCRATCH_BYTES as u64 - 1)? != reply(1 - side) {
        if Instant::now() > deadline {
            return Err("what the other process wrote to GPU memory does not arrive".to_owned());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Gives the other side a descriptor and takes its.
fn exchange(side: usize, descriptor: &OwnedFd, deadline: Instant) -> Fallible<OwnedFd> {
    let failed = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let random = || sockets::random().map_err(failed("random bytes"));
    let (name, token) = (random()?, random()?);
    let listener = Listener::bind(&name).map_err(failed("listening at an abstract unix socket"))?;
    let text: String = name.iter().chain(&token).map(|byte| format!("{byte:02x}")).collect();
    writeln!(io::stdout(), "{text}").map_err(failed("a pipe between the processes"))?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(failed("a pipe between the processes"))?;
    let (their_name, their_token) =
        read_names(line.trim()).ok_or("the other process ended before it began to share")?;
    let peer = Peer { rank: 1 - side as u32, socket: &their_name, token: &their_token };
    let party = Party { rank: side as u32, token: &token, listener: &listener, descriptor, peers: vec![peer] };
    let outcome = sockets::pass(&[party], deadline, |_| false).pop().ok_or("nothing was passed")?;
    let received = outcome.map_err(failed("passing a descriptor over an abstract unix socket"))?;
    received.into_iter().next().map(|(_, descriptor)| descriptor).ok_or_else(|| "no descriptor arrived".to_owned())
}

fn read_names(text: &str) -> Option<([u8; 16], [u8; 16])> {
    let bytes = (0..32).map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok());
    let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
    Some((bytes[..16].try_into().ok()?, bytes[16..].try_into().ok()?))
}

/// Runs both sides.
fn try_out(part: &str) -> Fallible<()> {
    let failed = |error: io::Error| format!("two processes that try it: {error}");
    let deadline = Instant::now() + LIMIT;
    let (to_second, from_first) = io::pipe().map_err(failed)?;
    let (to_first, from_second) = io::pipe().map_err(failed)?;
    let start = |side: usize, input, output| {
        let mut command = child::part(part)?;
        command.args(["--side", &side.to_string()]);
        command.stdin::<io::PipeReader>(input).stdout::<io::PipeWriter>(output).stderr(Stdio::piped());
        command.spawn().map_err(failed)
    };
    let first = start(0, to_first, from_first)?;
    let second = start(1, to_second, from_second)?;
    let told = [first, second].map(|side| child::finish(side, deadline).and_then(|output| child::told(&output)));
    // One side fails; the other often only notices that it is alone.
    let mut errors: Vec<String> = told.into_iter().filter_map(Result::err).collect();
    errors.sort_by_key(|error| error.contains("the other process ended") || error.contains("in time"));
    errors.into_iter().next().map_or(Ok(()), Err)
}

const ADVICE: &str = "let all ranks run as one user, in one container or namespace, under a seccomp profile that allows AF_UNIX sockets; \
                      until then their all-reduces go to NCCL";

/// Sharing of a page, and of GPU memory where there are GPUs.
pub fn section(machine: Option<&Machine>) -> Section {
    let confined = confinement::signs();
    let mut checks = vec![match try_out("share-page") {
        Ok(()) => Check::ok(
            "memory",
            "two processes share memory: abstract sockets, a descriptor passed over them, a page that both see",
        ),
        Err(error) => Check::fail("memory", format!("two processes cannot share memory: {error}"), ADVICE)
            .details(confined.clone()),
    }];
    if let Some(machine) = machine {
        checks.push(if machine.gpus.iter().take(2).all(|gpu| gpu.shares_descriptors) {
            match try_out("share-gpu") {
                Ok(()) => Check::ok("gpu_memory", "two processes share GPU memory (cuMemCreate, as a descriptor) and see each other's writes"),
                Err(error) => {
                    let text = format!("two processes cannot share GPU memory: {error}");
                    Check::fail("gpu_memory", text, ADVICE).details(confined.clone())
                }
            }
        } else {
            Check::warn(
                "gpu_memory",
                "the driver cannot share GPU memory as a descriptor here: Dime uses legacy IPC handles, which were not tried",
                "where the GPUs are virtual, ask for virtual memory management (vGPU unified memory)",
            )
        });
    }
    checks.extend(confinement::check());
    let shown = checks.first().cloned().map(|check| check.with("confinement", json!(confined)));
    checks.splice(..1, shown);
    Section { name: "sharing", title: "Sharing between processes", checks }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_garbage_is_not() {
        let text: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
        let (name, token) = read_names(&text).expect("names");
        assert_eq!((name[15], token[0]), (15, 16));
        for bad in ["", "00", &text[..62], &"zz".repeat(32)] {
            assert_eq!(read_names(bad), None, "{bad}");
        }
    }
}
