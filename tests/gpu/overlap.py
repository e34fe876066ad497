#!/usr/bin/env python3
"""What all-reduces and other work cost each other: GEMMs on one stream, all-reduces on another.

    overlap.py --ranks N --dime LIBDIME [--bytes 16K,64K,256K,1M,4M,8M,16M] [--json FILE]

For NCCL alone and for NCCL with libdime.so in front, of every size (bf16 sum):

    gemm          by how many percent a chain of GEMMs (8192 x 8192 x 4096, bf16) is slower while all-reduces follow
                  each other without a pause on another stream
    alone         us for an all-reduce in a graph, nothing beside it
    beside        the same while GEMMs follow each other on another stream of the same priority
    beside_high   the same with the all-reduces on a stream of high priority

Each is the median of several tries on the slowest rank. A try counts only if the other work ran from its beginning to its
end. The sums are checked. One process for each GPU; needs PyTorch.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time

ROWS, COLUMNS, INNER = 8192, 8192, 4096
GEMMS = 16  # in a chain
TRIES = 5
OPERATIONS = 20  # all-reduces in a graph
UNITS = {"K": 1 << 10, "M": 1 << 20}


def parse_size(text):
    unit = UNITS.get(text[-1:].upper())
    try:
        return int(text[:-1]) * unit if unit else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write bytes, or a number with K or M") from None


class Rank:
    """The work of one rank. All ranks make the same calls in the same order."""

    def __init__(self, torch, dist, rank, ranks):
        self.torch, self.dist, self.ranks = torch, dist, ranks
        generator = torch.Generator(device="cuda").manual_seed(rank)
        self.a = torch.randn(ROWS, INNER, generator=generator, device="cuda", dtype=torch.bfloat16)
        self.b = torch.randn(INNER, COLUMNS, generator=generator, device="cuda", dtype=torch.bfloat16)
        self.product = torch.empty(ROWS, COLUMNS, device="cuda", dtype=torch.bfloat16)
        self.gemm_stream = torch.cuda.Stream()
        self.gemms(self.gemm_stream, 3)
        torch.cuda.synchronize()

    def slowest(self, value):
        """The largest of the ranks' values."""
        tensor = self.torch.tensor([value], dtype=self.torch.float64, device="cuda")
        self.dist.all_reduce(tensor, op=self.dist.ReduceOp.MAX)
        return tensor.item()

    def gemms(self, stream, count):
        with self.torch.cuda.stream(stream):
            for _ in range(count):
                self.torch.mm(self.a, self.b, out=self.product)

    def event(self, stream):
        event = self.torch.cuda.Event(enable_timing=True)
        event.record(stream)
        return event

    def start_together(self):
        self.torch.cuda.synchronize()
        self.dist.barrier()
        self.torch.cuda.synchronize()

    def graph_of(self, size, stream):
        """A chain of all-reduces in a graph, whose sum is checked."""
        torch, dist = self.torch, self.dist
        count = size // 2
        generator = torch.Generator(device="cuda").manual_seed(size)
        # Equal on all ranks, so that the sums are known; with two digits, so that they are exact.
        source = torch.randint(-3, 4, (count,), generator=generator, device="cuda").bfloat16()
        target = source.clone()
        dist.all_reduce(target)  # sets the communicator up
        assert torch.equal(target, source * self.ranks), f"a wrong sum of {size} bytes"
        self.start_together()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            for _ in range(OPERATIONS):
                dist.all_reduce(target)

        def replay():
            """On the stream: each replay begins with the contributions, or the sums of sums would grow to infinity."""
            with torch.cuda.stream(stream):
                target.copy_(source)
                event = self.event(stream)
                graph.replay()
            return event

        replay()
        torch.cuda.synchronize()
        if self.ranks & (self.ranks - 1) == 0:  # else sums of sums need more digits than bf16 has
            assert torch.equal(target, source * float(self.ranks) ** OPERATIONS), f"a wrong sum of {size} bytes in a graph"
        return replay

    def gemms_alone(self):
        def once():
            self.start_together()
            begin = self.event(self.gemm_stream)
            self.gemms(self.gemm_stream, GEMMS)
            end = self.event(self.gemm_stream)
            end.synchronize()
            return begin.elapsed_time(end)

        return median([self.slowest(once()) for _ in range(TRIES)])

    def all_reduces_alone(self, replay, stream):
        def once():
            self.start_together()
            replay()  # hides the launch, and brings the ranks together
            begin = replay()
            end = self.event(stream)
            end.synchronize()
            return begin.elapsed_time(end)

        once()
        return median([self.slowest(once()) for _ in range(TRIES)])

    def gemms_beside(self, replay, stream, alone_ms, all_reduces_ms):
        """The chain's time while graphs of all-reduces are replayed from before its beginning to after its end."""
        replays = int(2 * alone_ms / all_reduces_ms) + 4

        def once(replays):
            self.start_together()
            replay()
            first = replay()
            for _ in range(replays):
                replay()
            last = self.event(stream)
            self.gemm_stream.wait_event(first)
            begin = self.event(self.gemm_stream)
            self.gemms(self.gemm_stream, GEMMS)
            end = self.event(self.gemm_stream)
            self.torch.cuda.synchronize()
            return begin.elapsed_time(end), end.elapsed_time(last)

        times = []
        while len(times) < TRIES:
            chain_ms, rest_ms = once(replays)
            if self.slowest(-rest_ms) < 0:
                times.append(self.slowest(chain_ms))
            else:
                replays *= 2
                assert replays < 1 << 22, "the all-reduces never last as long as the GEMMs"
        return median(times)

    def all_reduces_beside(self, replay, stream, gemm_ms, all_reduces_ms):
        """The time of a graph of all-reduces while GEMMs run from before its beginning to after its end."""
        gemms = int(8 * all_reduces_ms / gemm_ms) + 12

        def once(gemms):
            self.start_together()
            self.gemms(self.gemm_stream, 2)
            running = self.event(self.gemm_stream)
            self.gemms(self.gemm_stream, gemms)
            done = self.event(self.gemm_stream)
            stream.wait_event(running)
            replay()
            begin = replay()
            end = self.event(stream)
            self.torch.cuda.synchronize()
            return begin.elapsed_time(end), end.elapsed_time(done)

        times = []
        while len(times) < TRIES:
            graph_ms, rest_ms = once(gemms)
            if self.slowest(-rest_ms) < 0:
                times.append(self.slowest(graph_ms))
            else:
                gemms *= 2
                assert gemms < 1 << 14, "the GEMMs never last as long as the all-reduces"
        return median(times)


def median(values):
    return sorted(values)[len(values) // 2]


def worker(rank, ranks, init_file, sizes, results):
    import torch
    import torch.distributed as dist

    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    dist.init_process_group("nccl", init_method=f"file://{init_file}", rank=rank, world_size=ranks, device_id=device)
    work = Rank(torch, dist, rank, ranks)
    normal, high = torch.cuda.Stream(priority=0), torch.cuda.Stream(priority=-1)
    gemms_ms = work.gemms_alone()
    for size in sizes:
        on_normal, on_high = work.graph_of(size, normal), work.graph_of(size, high)
        alone_ms = work.all_reduces_alone(on_normal, normal)
        beside_ms = work.gemms_beside(on_normal, normal, gemms_ms, alone_ms)
        one_gemm_ms = gemms_ms / GEMMS
        row = {
            "bytes": size,
            "gemm_percent": round(100 * (beside_ms / gemms_ms - 1), 1),
            "gemm_alone_us": round(1000 * one_gemm_ms, 1),
            "alone_us": round(1000 * alone_ms / OPERATIONS, 2),
            "beside_us": round(1000 * work.all_reduces_beside(on_normal, normal, one_gemm_ms, alone_ms) / OPERATIONS, 2),
            "beside_high_us": round(1000 * work.all_reduces_beside(on_high, high, one_gemm_ms, alone_ms) / OPERATIONS, 2),
        }
        if rank == 0:
            results.put(row)
    dist.barrier()
    dist.destroy_process_group()


def measure(options, library):
    """The rows of one library. The loader reads LD_PRELOAD when a process starts, so each library has its own processes."""
    context = multiprocessing.get_context("spawn")
    saved = os.environ.get("LD_PRELOAD")
    if library == "dime":
        os.environ["LD_PRELOAD"] = options.dime
    else:
        os.environ.pop("LD_PRELOAD", None)
    results = context.Queue()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        arguments = (options.ranks, os.path.join(folder, "rendezvous"), options.bytes, results)
        workers = [context.Process(target=worker, args=(rank, *arguments)) for rank in range(options.ranks)]
        for process in workers:
            process.start()
        while any(process.is_alive() for process in workers) or not results.empty():
            while not results.empty():
                rows.append(results.get())
            # One rank that dies would leave the others waiting for it.
            if any(process.exitcode not in (None, 0) for process in workers):
                for process in workers:
                    process.kill()
            time.sleep(0.05)
    if saved is None:
        os.environ.pop("LD_PRELOAD", None)
    else:
        os.environ["LD_PRELOAD"] = saved
    codes = [process.exitcode for process in workers]
    if any(codes) or len(rows) != len(options.bytes):
        sys.exit(f"FAIL: {library}: exit codes {codes}, {len(rows)} of {len(options.bytes)} sizes")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, required=True)
    parser.add_argument("--dime", required=True, help="libdime.so to preload")
    parser.add_argument("--bytes", type=lambda text: [parse_size(size) for size in text.split(",")],
                        default="16K,64K,256K,1M,4M,8M,16M")
    parser.add_argument("--json", help="file to append a line to for each size and library")
    options = parser.parse_args()
    if not os.path.isfile(options.dime):
        parser.error(f"--dime {options.dime}: no such file; build it with make")
    options.dime = os.path.abspath(options.dime)

    import torch

    facts = {"gpus": options.ranks, "gpu": torch.cuda.get_device_name(), "torch": torch.__version__,
             "nccl_version": ".".join(map(str, torch.cuda.nccl.version())),
             "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "command": " ".join(sys.argv)}
    of_library = {library: measure(options, library) for library in ("nccl", "dime")}
    print("| bytes | GEMM slower: NCCL | Dime | alone, us: NCCL | Dime | beside: NCCL | Dime | high priority: NCCL | Dime |")
    print("| " + " | ".join(["---"] * 9) + " |")
    for nccl, dime in zip(of_library["nccl"], of_library["dime"]):
        cells = [str(nccl["bytes"]), f"{nccl['gemm_percent']} %", f"{dime['gemm_percent']} %"]
        for key in ("alone_us", "beside_us", "beside_high_us"):
            cells += [f"{nccl[key]}", f"{dime[key]}"]
        print("| " + " | ".join(cells) + " |")
    if options.json:
        with open(options.json, "a") as file:
            for library, rows in of_library.items():
                for row in rows:
                    file.write(json.dumps({"lib": library, **row, **facts}) + "\n")
    print(f"PASS: {options.ranks} ranks, {len(options.bytes)} sizes")


if __name__ == "__main__":
    main()
