#!/usr/bin/env python3
"""An ordinary torch.distributed program: all_reduce, eagerly and inside torch.cuda.graph, one process for each GPU.

It knows nothing of Dime. It writes the SHA-256 of every result of every rank as JSON; compare_torch.py runs it with and
without libdime.so in front of NCCL and compares. All data are small integers and every expected result is exact in its
type, so the order in which a library adds makes no difference.
"""

import argparse
import ctypes
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time

SIZES_BYTES = [0, 256, 1000, 4096, 65536, 262144 + 16, 1 << 20, 8 << 20]  # 0 stands for one element
DTYPES = ["float32", "bfloat16", "float16", "float64", "int32", "int64", "uint8", "int8"]
OPS = ["SUM", "MAX", "MIN", "PRODUCT", "AVG"]
GRAPH_SIZES_BYTES = [0, 1024, 65536, 1 << 20]
GRAPH_DTYPES = ["bfloat16", "float32", "int32"]
GRAPH_REPLAYS = 4


def cases(world_size):
    """Yields (dtype, op, bytes) of the eager part."""
    for dtype in DTYPES:
        for op in OPS:
            if op == "AVG" and (dtype not in ("float32", "bfloat16", "float16", "float64") or world_size & (world_size - 1)):
                continue  # torch averages no integers; 1/n is exact only for powers of two
            for size in SIZES_BYTES:
                yield dtype, op, size


def fill(torch, dtype, op, count, rank, salt):
    """Small integers that depend on the place, the rank and the salt."""
    place = torch.arange(count, device="cuda", dtype=torch.int64)
    mixed = (place * 2654435761 + rank * 40503 + salt * 97 + 12345) & 0x7FFFFFFF
    mixed = (mixed ^ (mixed >> 13)) & 0xFFFF
    if op == "PRODUCT":
        values = mixed % 2 + 1  # 1 or 2: eight of them stay below 256
    elif dtype == "uint8":
        values = mixed % 8
    else:
        values = mixed % 9 - 4
    return values.to(getattr(torch, dtype))


def expected(torch, dtype, op, count, world_size, salt):
    """The exact result, from all ranks' data."""
    parts = torch.stack([fill(torch, dtype, op, count, rank, salt).double() for rank in range(world_size)])
    if op == "SUM":
        result = parts.sum(0)
    elif op == "AVG":
        result = parts.sum(0) / world_size
    elif op == "PRODUCT":
        result = parts.prod(0)
    else:
        result = parts.max(0).values if op == "MAX" else parts.min(0).values
    if dtype in ("uint8", "int8"):
        # Products of eight ranks wrap.
        result = result.to(torch.int64)
    return result.to(getattr(torch, dtype))


def digest(tensor):
    host = tensor.contiguous().cpu()  # numpy need not be installed
    return hashlib.sha256(ctypes.string_at(host.data_ptr(), host.numel() * host.element_size())).hexdigest()[:16]


def elements(torch, dtype, size_bytes):
    return max(1, size_bytes // torch.empty(0, dtype=getattr(torch, dtype)).element_size())


def worker(rank, world_size, init_file, out_dir, own_gpu):
    if own_gpu:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], check=True, capture_output=True, text=True).stdout.split()
        os.environ["CUDA_VISIBLE_DEVICES"] = names[rank % len(names)]
    import torch
    import torch.distributed as dist

    device = 0 if own_gpu else rank % torch.cuda.device_count()
    torch.cuda.set_device(device)
    dist.init_process_group("nccl", init_method=f"file://{init_file}", rank=rank, world_size=world_size,
                            device_id=torch.device("cuda", device))
    hashes, wrong = {}, []

    def keep(name, tensor, want):
        hashes[name] = digest(tensor)
        if not torch.equal(tensor.view(torch.uint8), want.view(torch.uint8)):
            wrong.append(name)

    for salt, (dtype, op, size) in enumerate(cases(world_size)):
        count = elements(torch, dtype, size)
        tensor = fill(torch, dtype, op, count, rank, salt)
        dist.all_reduce(tensor, op=getattr(dist.ReduceOp, op))
        keep(f"eager {dtype} {op} {count}", tensor, expected(torch, dtype, op, count, world_size, salt))

    # Misaligned views of one storage.
    for offset in (1, 3):
        base = torch.zeros(5000, device="cuda", dtype=torch.bfloat16)
        view = base[offset:offset + 4001]
        view.copy_(fill(torch, "bfloat16", "SUM", 4001, rank, 1000 + offset))
        dist.all_reduce(view)
        keep(f"view +{offset}", view, expected(torch, "bfloat16", "SUM", 4001, world_size, 1000 + offset))
        if base[:offset].any() or base[offset + 4001:].any():
            wrong.append(f"view +{offset}: wrote outside")

    # Several all-reduces in one graph, replayed with new inputs, with eager ones in between.
    shapes = [(dtype, elements(torch, dtype, size)) for dtype in GRAPH_DTYPES for size in GRAPH_SIZES_BYTES]
    inputs = [torch.zeros(count, device="cuda", dtype=getattr(torch, dtype)) for dtype, count in shapes]
    outputs = [torch.zeros_like(tensor) for tensor in inputs]

    def step():
        for source, target in zip(inputs, outputs):
            target.copy_(source)
            dist.all_reduce(target)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    dist.barrier()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        step()
    for replay in range(GRAPH_REPLAYS):
        salt = 5000 + replay
        for tensor, (dtype, count) in zip(inputs, shapes):
            tensor.copy_(fill(torch, dtype, "SUM", count, rank, salt))
        for tensor in outputs:
            tensor.fill_(77)
        graph.replay()
        eager = fill(torch, "float32", "SUM", 3333, rank, salt)
        dist.all_reduce(eager)
        keep(f"between replays {replay}", eager, expected(torch, "float32", "SUM", 3333, world_size, salt))
        for tensor, (dtype, count) in zip(outputs, shapes):
            keep(f"graph {replay} {dtype} {count}", tensor, expected(torch, dtype, "SUM", count, world_size, salt))

    torch.cuda.synchronize()
    with open(os.path.join(out_dir, f"rank{rank}.json"), "w") as file:
        json.dump({"hashes": hashes, "wrong": wrong, "nccl": list(torch.cuda.nccl.version()),
                   "torch": torch.__version__}, file)
    dist.barrier()
    del graph
    dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, required=True)
    parser.add_argument("--own-gpu", action="store_true", help="let each process see only its own GPU")
    parser.add_argument("--out", required=True, help="folder for rank*.json")
    options = parser.parse_args()
    import multiprocessing

    os.makedirs(options.out, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        init_file = os.path.join(folder, "rendezvous")
        start = time.time()
        workers = [context.Process(target=worker, args=(rank, options.ranks, init_file, options.out, options.own_gpu))
                   for rank in range(options.ranks)]
        for process in workers:
            process.start()
        # One rank that dies would leave the others waiting for it.
        while any(process.is_alive() for process in workers):
            if any(process.exitcode not in (None, 0) for process in workers):
                for process in workers:
                    process.kill()
            time.sleep(0.05)
    codes = [process.exitcode for process in workers]
    print(f"torch_allreduce: {options.ranks} ranks, exit codes {codes}, {time.time() - start:.1f} s")
    sys.exit(0 if not any(codes) else 1)


if __name__ == "__main__":
    main()
