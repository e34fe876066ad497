"""ncclCommAbort while our kernel spins for a peer that never comes: it must return, and the GPU must be free.

Usage: abort.py LIBDIME

One process, two GPUs. Both ranks all-reduce together once; then rank 0 all-reduces alone, so its kernel waits for rank 1. The
communicator of rank 0 is aborted from another thread while the kernel spins. PASS when the abort and a synchronisation of the GPU
end within the limit, results before were right, and a new pair of communicators works afterwards.
"""

import ctypes
import os
import sys
import threading
import time

import torch

LIMIT_S = 5.0
COUNT = 1024
FLOAT32, SUM = 7, 0


def main():
    torch.cuda.init()
    nccl = ctypes.CDLL(sys.argv[1])
    for name in ("ncclCommInitAll", "ncclAllReduce", "ncclCommAbort", "ncclGroupStart", "ncclGroupEnd", "dimeExplain"):
        getattr(nccl, name).restype = ctypes.c_int

    def call(name, *arguments):
        code = getattr(nccl, name)(*arguments)
        if code != 0:
            sys.exit(f"FAIL: {name} gave {code}")

    streams = [torch.cuda.Stream(device) for device in (0, 1)]
    inputs = [torch.full((COUNT,), float(rank + 1), device=f"cuda:{rank}") for rank in (0, 1)]
    outputs = [torch.zeros(COUNT, device=f"cuda:{rank}") for rank in (0, 1)]

    def pair():
        comms = (ctypes.c_void_p * 2)()
        call("ncclCommInitAll", comms, 2, (ctypes.c_int * 2)(0, 1))
        return [ctypes.c_void_p(comm) for comm in comms]

    def all_reduce(comms, ranks):
        call("ncclGroupStart")
        for rank in ranks:
            call(
                "ncclAllReduce",
                ctypes.c_void_p(inputs[rank].data_ptr()),
                ctypes.c_void_p(outputs[rank].data_ptr()),
                ctypes.c_size_t(COUNT),
                FLOAT32,
                SUM,
                comms[rank],
                ctypes.c_void_p(streams[rank].cuda_stream),
            )
        call("ncclGroupEnd")

    def together(comms):
        for output in outputs:
            output.zero_()
        torch.cuda.synchronize(0)
        torch.cuda.synchronize(1)
        all_reduce(comms, (0, 1))
        for device in (0, 1):
            torch.cuda.synchronize(device)
            if not bool((outputs[device] == 3.0).all()):
                sys.exit(f"FAIL: wrong result on rank {device}")

    comms = pair()
    together(comms)
    text = ctypes.create_string_buffer(256)
    call("dimeExplain", comms[0], ctypes.c_size_t(COUNT), FLOAT32, SUM, text, ctypes.c_size_t(len(text)))
    print("all-reduces are", text.value.decode())
    if not text.value.startswith(b"fast"):
        sys.exit("FAIL: our kernel is not in use")

    all_reduce(comms, (0,))
    time.sleep(0.3)
    if streams[0].query():
        sys.exit("FAIL: the kernel of rank 0 ended without rank 1")
    took = []

    def abort():
        begin = time.monotonic()
        call("ncclCommAbort", comms[0])
        took.append(time.monotonic() - begin)

    thread = threading.Thread(target=abort, daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    if not took:
        print("FAIL: ncclCommAbort did not return")
        os._exit(1)
    begin = time.monotonic()
    while not streams[0].query() and time.monotonic() - begin < LIMIT_S:
        time.sleep(0.001)
    if not streams[0].query():
        print("FAIL: the GPU still spins")
        os._exit(1)
    print(f"ncclCommAbort took {took[0] * 1e3:.0f} ms, the GPU was free {(time.monotonic() - begin) * 1e3:.0f} ms later")
    call("ncclCommAbort", comms[1])
    together(pair())
    print("PASS: aborted while spinning; new communicators work")


main()
