#!/usr/bin/env python3
"""vLLM's or SGLang's own NCCL communicator on libdime.so: right sums, eager and in CUDA graphs, all done by Dime.

The communicator (PyNcclCommunicator) is the framework's, unchanged: tests/fetch_pynccl.py fetches its files out of the
released wheel. What these files import besides torch has a stand-in here. The library is named as users name it, by
VLLM_NCCL_SO_PATH or SGLANG_NCCL_SO_PATH; nothing is preloaded.

Each rank compares each result with the exact sum on the CPU. Then the counters of libdime.so must say that a kernel of
Dime did every all-reduce.

--bindings needs no GPU and no torch: it loads the framework's ctypes bindings alone, which look up each function that
they use, and calls two.
"""

import argparse
import contextlib
import ctypes
import importlib
import itertools
import os
import random
import sys
import tempfile
import time
import types

# Dime is to do all of these, also on GPUs whose thresholds are lower.
THRESHOLD = "8M"
DTYPES = ["bfloat16", "float16", "float32"]
EAGER_ELEMENTS = [1, 255, 4096, 33001, 1 << 19, 1 << 21]
# As the graphs of a server: one for each batch size, of rows of 8192, all in one memory pool, the largest captured first.
BATCH_SIZES = [64, 48, 32, 24, 16, 8, 4, 2, 1]
ROW = 8192
ROUNDS = 4

PATH_VARIABLES = {"vllm": "VLLM_NCCL_SO_PATH", "sglang": "SGLANG_NCCL_SO_PATH"}
FOLDERS = {"vllm": "vllm.distributed.device_communicators", "sglang": "sglang.srt.distributed.device_communicators"}


class Logger:
    """Takes every message and says nothing."""

    def __getattr__(self, name):
        return lambda *arguments, **named: None


def stand_in(name, **names):
    module = types.ModuleType(name)
    vars(module).update(names)
    sys.modules[name] = module


def import_from(framework, folder, file):
    """A module of the framework out of the fetched files, with stand-ins for what it imports besides torch."""
    package = FOLDERS[framework]
    parts = package.split(".")
    packages = [".".join(parts[:length]) for length in range(1, len(parts) + 1)] + [f"{parts[0]}.utils"]
    for name in packages:
        # A package without its own __init__, which would import the whole framework.
        stand_in(name, __path__=[os.path.join(folder, *name.split("."))])
    no_group = type("StatelessProcessGroup", (), {})

    def current_stream():
        import torch

        return torch.cuda.current_stream()

    if framework == "vllm":
        platform = types.SimpleNamespace(is_rocm=lambda: False, is_cuda=lambda: True, fp8_dtype=lambda: None)
        stand_in("vllm.envs", VLLM_NCCL_SO_PATH=os.environ.get("VLLM_NCCL_SO_PATH"), VLLM_DISABLE_PYNCCL=False,
                 VLLM_USE_NCCL_SYMM_MEM=False, VLLM_BATCH_INVARIANT=False)
        sys.modules["vllm"].envs = sys.modules["vllm.envs"]
        stand_in("vllm.logger", init_logger=lambda name: Logger())
        stand_in("vllm.platforms", current_platform=platform)
        stand_in("vllm.distributed.utils", StatelessProcessGroup=no_group)
        stand_in("vllm.utils.torch_utils", current_stream=current_stream)
    else:
        stand_in("sglang.srt.distributed.utils", StatelessProcessGroup=no_group)
        stand_in("sglang.srt.utils", __path__=[])
        stand_in("sglang.srt.utils.common", get_current_device_stream_fast=current_stream)
    return importlib.import_module(f"{package}.{file}")


class Counters:
    """The counters of the libdime.so in this process."""

    def __init__(self, dime):
        library = ctypes.CDLL(dime)  # the same one: it is opened by the same path
        library.dimeCounterName.restype = ctypes.c_char_p
        library.dimeCounterValue.restype = ctypes.c_uint64
        self.value_of = library.dimeCounterValue
        self.names = [name.decode() for name in itertools.takewhile(bool, map(library.dimeCounterName, itertools.count()))]

    def read(self):
        return {name: self.value_of(index) for index, name in enumerate(self.names)}


def values(torch, dtype, count, rank, salt):
    """Small integers on the CPU: eight ranks' sum, summed again over the ranks, is exact in every type here."""
    place = torch.arange(count, dtype=torch.int64)
    mixed = (place * 2654435761 + rank * 40503 + salt * 97 + 12345) & 0x7FFFFFFF
    return ((mixed ^ (mixed >> 13)) % 9 - 4).to(getattr(torch, dtype))


def exact_sum(torch, dtype, count, ranks, salt):
    return sum(values(torch, dtype, count, rank, salt).double() for rank in range(ranks)).to(getattr(torch, dtype))


def ways_of(framework, comm):
    """The ways in which the framework calls an all-reduce: each takes a tensor and returns the sum."""
    if framework == "vllm":
        return {"all_reduce": comm.all_reduce}

    def in_place(tensor):
        result = tensor.clone()
        with comm.change_state(enable=True):
            comm.all_reduce(result)
        return result

    def out_of_place(tensor):
        with comm.change_state(enable=True):
            return comm.outplace_all_reduce(tensor)

    return {"all_reduce": in_place, "outplace_all_reduce": out_of_place}


def worker(options, rank, init_file):
    os.environ[PATH_VARIABLES[options.framework]] = options.dime
    os.environ["DIME_THRESHOLD_BYTES"] = THRESHOLD
    import torch
    import torch.distributed as dist

    device = torch.device("cuda", rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    dist.init_process_group("gloo", init_method=f"file://{init_file}", rank=rank, world_size=options.ranks)
    comm = import_from(options.framework, options.files, "pynccl").PyNcclCommunicator(dist.group.WORLD, device)
    if not comm.available:
        sys.exit(f"rank {rank}: the communicator could not open {options.dime}")
    counters = Counters(options.dime)
    before = counters.read()
    wrong, calls, results = [], 0, 0

    def check(name, tensor, want):
        nonlocal results
        results += 1
        if not torch.equal(tensor.cpu(), want):
            wrong.append(name)

    ways = ways_of(options.framework, comm)
    for salt, (way, dtype, count) in enumerate(itertools.product(ways, DTYPES, EAGER_ELEMENTS)):
        output = ways[way](values(torch, dtype, count, rank, salt).to(device))
        calls += 1
        check(f"eager {way} of {count} {dtype}", output, exact_sum(torch, dtype, count, options.ranks, salt))

    # Two all-reduces in each graph: the second one's input is the first one's output.
    source = torch.zeros(BATCH_SIZES[0] * ROW, dtype=torch.bfloat16, device=device)
    pool = torch.cuda.graph_pool_handle()
    graphs = {}
    for way, batch in itertools.product(ways, BATCH_SIZES):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            once = ways[way](source[:batch * ROW])
            twice = ways[way](once)
        calls += 2
        graphs[way, batch] = graph, once, twice
    for turn in range(ROUNDS):
        order = list(graphs)
        random.Random(turn).shuffle(order)  # the same on all ranks
        for step, (way, batch) in enumerate(order):
            graph, once, twice = graphs[way, batch]
            count, salt = batch * ROW, 1000 * (turn + 1) + step
            source[:count].copy_(values(torch, "bfloat16", count, rank, salt))
            graph.replay()
            want = exact_sum(torch, "bfloat16", count, options.ranks, salt)
            check(f"graph {way} of {batch} rows, turn {turn}", once, want)
            check(f"the same, summed again, turn {turn}", twice, want * options.ranks)
            eager = ways[way](values(torch, "bfloat16", 5000, rank, salt).to(device))
            calls += 1
            check(f"eager after it, turn {turn}", eager, exact_sum(torch, "bfloat16", 5000, options.ranks, salt))
    torch.cuda.synchronize()

    counted = {name: value - before[name] for name, value in counters.read().items() if value != before[name]}
    for name in wrong[:10]:
        print(f"FAIL  rank {rank}: wrong: {name}")
    fast = sum(value for name, value in counted.items() if not name.startswith("forward_"))
    if fast != calls or sum(counted.values()) != calls:
        wrong.append("counters")
        print(f"FAIL  rank {rank}: {calls} all-reduces, but the counters say {counted}")
    if rank == 0:
        print(f"{options.framework}, NCCL {comm.nccl.ncclGetVersion()}, torch {torch.__version__}: {results} results a rank, "
              f"{calls} all-reduces: {counted}", flush=True)
    dist.barrier()
    graphs.clear()
    with contextlib.suppress(AttributeError):  # SGLang's has no end
        comm.destroy()
    dist.destroy_process_group()
    sys.exit(1 if wrong else 0)


def run_ranks(options):
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        init_file = os.path.join(folder, "rendezvous")
        workers = [context.Process(target=worker, args=(options, rank, init_file)) for rank in range(options.ranks)]
        for process in workers:
            process.start()
        # One rank that dies would leave the others waiting for it.
        while any(process.is_alive() for process in workers):
            if any(process.exitcode not in (None, 0) for process in workers):
                time.sleep(1)  # the others may have something to say
                for process in workers:
                    process.kill()
            time.sleep(0.05)
    codes = [process.exitcode for process in workers]
    print(f"PASS: {options.ranks} ranks, every sum exact, every all-reduce done by Dime" if not any(codes)
          else f"FAIL  exit codes {codes}")
    return any(codes)


def try_bindings(options):
    class Torch(types.ModuleType):
        """Enough of torch to import bindings: each name that they mention is a class of its own."""

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            vars(self)[name] = type(name, (), {})
            return vars(self)[name]

    for name in ("torch", "torch.distributed"):
        sys.modules[name] = Torch(name)
    sys.modules["torch.distributed"].ReduceOp = Torch("ReduceOp")
    os.environ[PATH_VARIABLES[options.framework]] = options.dime
    os.environ["DIME_THRESHOLD_BYTES"] = THRESHOLD
    bindings = import_from(options.framework, options.files, "pynccl_wrapper")
    library = bindings.NCCLLibrary()
    wanted = [function.name for function in bindings.NCCLLibrary.exported_functions]
    missing = [name for name in wanted if name not in library._funcs]
    if missing or library.lib._name != options.dime:
        print(f"FAIL  {library.lib._name} lacks {missing}")
        return True
    library.ncclGetUniqueId()
    print(f"PASS: {options.framework}'s bindings find their {len(wanted)} functions, NCCL {library.ncclGetVersion()}")
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", choices=list(PATH_VARIABLES), required=True)
    parser.add_argument("--files", required=True, help="the folder that tests/fetch_pynccl.py printed")
    parser.add_argument("--dime", required=True, type=os.path.abspath, help="libdime.so")
    parser.add_argument("--ranks", type=int, help="2 to 8")
    parser.add_argument("--bindings", action="store_true", help="only load the bindings, without torch and GPUs")
    options = parser.parse_args()
    if not options.bindings and options.ranks not in range(2, 9):
        parser.error("--ranks must be from 2 to 8")
    sys.exit(try_bindings(options) if options.bindings else run_ranks(options))


if __name__ == "__main__":
    main()
