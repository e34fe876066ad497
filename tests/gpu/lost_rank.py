#!/usr/bin/env python3
"""A rank is lost; the other one aborts all its process groups and goes on in a new world.

    lost_rank.py [--dime LIBDIME] [--how threads|group]

Two processes, a GPU each, with two process groups that both have used. The last rank kills itself. The other one calls all-reduces on
both groups, which wait for the lost rank, and aborts all groups, each in a thread of its own. With --how group it is PyTorch's function for that,
which opens a group of NCCL's, but calls each abort in a thread where that group is not open: with PyTorch 2.11 and NCCL 2.28.9 it hangs with
NCCL alone too. (tests/c/aborts_in_groups.c aborts communicators in one group.) The lost rank is started again, and both make a new world with two groups and use them. PASS when all of it
ends within the limits, every result is right, and (with LIBDIME, which is preloaded) kernels of libdime.so did all-reduces in both
worlds. Without LIBDIME it shows what NCCL alone does.
"""

import argparse
import ctypes
import faulthandler
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

RANKS = 2
LOST = RANKS - 1
COUNT = 1024
ABORT_LIMIT_S = 20.0
LIMIT_S = 100.0


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.005)


def touch(path):
    open(path, "w").close()


def fast_all_reduces(dime):
    """How many kernels of libdime.so have done in this process."""
    if not dime:
        return 0
    library = ctypes.CDLL(dime)
    library.dimeCounterName.restype = ctypes.c_char_p
    library.dimeCounterValue.restype = ctypes.c_ulonglong
    total, index = 0, 0
    while (name := library.dimeCounterName(index)) is not None:
        total += 0 if name.startswith(b"forward_") else library.dimeCounterValue(index)
        index += 1
    return total


def make_world(rank, rendezvous):
    """The default group and another one."""
    import torch
    import torch.distributed as dist

    store = dist.FileStore(rendezvous, RANKS)
    dist.init_process_group("nccl", store=store, rank=rank, world_size=RANKS, device_id=torch.device("cuda", rank))
    return [dist.group.WORLD, dist.new_group(list(range(RANKS)))]


def use(groups, rank):
    import torch
    import torch.distributed as dist

    for group in groups:
        for step in range(3):
            tensor = torch.full((COUNT,), float(rank + 1 + step), device="cuda")
            dist.all_reduce(tensor, group=group)
            if not bool((tensor == float(RANKS * (RANKS + 1) // 2 + RANKS * step)).all()):
                sys.exit(f"FAIL: wrong result on rank {rank}")


def must_be_fast(dime, before, when):
    now = fast_all_reduces(dime)
    if dime and now <= before:
        sys.exit(f"FAIL: no all-reduce was fast {when}")
    return now


def abort_all(groups, how):
    import torch
    import torch.distributed as dist

    if how == "threads":
        backends = [group._get_backend(torch.device("cuda")) for group in groups]
        threads = [threading.Thread(target=backend.abort) for backend in backends]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    # Those that are aborted already stay so.
    dist.distributed_c10d._abort_process_group()


def be_rank(rank, world, folder, dime, how):
    import torch
    import torch.distributed as dist

    torch.cuda.set_device(rank)
    fast = 0
    if world == 1:
        groups = make_world(rank, os.path.join(folder, "rendezvous-1"))
        use(groups, rank)
        torch.cuda.synchronize()
        fast = must_be_fast(dime, fast, "before the loss")
        if rank == LOST:
            # Not before the other one is done with its part.
            wait_for(os.path.join(folder, "used"))
            os.kill(os.getpid(), signal.SIGKILL)
        touch(os.path.join(folder, "used"))
        wait_for(os.path.join(folder, "lost"))
        tensors = [torch.ones(COUNT, device="cuda") for _ in groups]
        works = [dist.all_reduce(tensor, group=group, async_op=True) for tensor, group in zip(tensors, groups)]
        time.sleep(0.3)
        if any(work.is_completed() for work in works):
            sys.exit("FAIL: an all-reduce ended without the lost rank")
        begin = time.monotonic()
        # Says where it hangs.
        faulthandler.dump_traceback_later(ABORT_LIMIT_S, exit=True)
        abort_all(groups, how)
        aborted = time.monotonic()
        torch.cuda.synchronize()
        free = time.monotonic()
        faulthandler.cancel_dump_traceback_later()
        print(f"aborting {len(groups)} groups took {(aborted - begin) * 1e3:.0f} ms, "
              f"the GPU was free {(free - aborted) * 1e3:.0f} ms later", flush=True)
        if free - begin > ABORT_LIMIT_S:
            sys.exit("FAIL: that is too long")
        del works
        touch(os.path.join(folder, "aborted"))
    begin = time.monotonic()
    groups = make_world(rank, os.path.join(folder, "rendezvous-2"))
    use(groups, rank)
    torch.cuda.synchronize()
    must_be_fast(dime, fast, "in the new world")
    if rank != LOST:
        print(f"the new world was made and used in {time.monotonic() - begin:.1f} s", flush=True)
    dist.destroy_process_group()


def start(rank, world, folder, dime, how):
    environment = dict(os.environ)
    # PyTorch's own watchdog would end the survivor, which does here what the watchdog would.
    environment.update(TORCH_NCCL_ASYNC_ERROR_HANDLING="0", TORCH_NCCL_ENABLE_MONITORING="0")
    command = [sys.executable, os.path.abspath(__file__), "--rank", str(rank), "--world", str(world)]
    command += ["--folder", folder, "--how", how]
    if dime:
        environment["LD_PRELOAD"] = dime
        command += ["--dime", dime]
    return subprocess.Popen(command, env=environment)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dime", type=os.path.abspath, help="libdime.so")
    parser.add_argument("--how", choices=("threads", "group"), default="threads", help="how all groups are aborted")
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--world", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank is not None:
        be_rank(options.rank, options.world, options.folder, options.dime, options.how)
        return
    deadline = time.monotonic() + LIMIT_S
    running = []

    def fail(text):
        for process in running:
            process.kill()
        print(f"FAIL: {text}")
        sys.exit(1)

    def await_file(path):
        while not os.path.exists(path):
            if running[0].poll() is not None:
                fail(f"the surviving rank ended with {running[0].returncode}")
            if time.monotonic() > deadline:
                fail(f"{os.path.basename(path)} did not come to be in time")
            time.sleep(0.01)

    def await_end(process, expected):
        try:
            code = process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            fail("a rank hangs")
        if code != expected:
            fail(f"a rank ended with {code}, not {expected}")

    with tempfile.TemporaryDirectory() as folder:
        running = [start(rank, 1, folder, options.dime, options.how) for rank in range(RANKS)]
        await_file(os.path.join(folder, "used"))
        await_end(running[LOST], -signal.SIGKILL)
        touch(os.path.join(folder, "lost"))
        await_file(os.path.join(folder, "aborted"))
        running[LOST] = start(LOST, 2, folder, options.dime, options.how)
        for process in running:
            await_end(process, 0)
    print("PASS: all groups were aborted after a rank was lost, and a new world works")


if __name__ == "__main__":
    main()
