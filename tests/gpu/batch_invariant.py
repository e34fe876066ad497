#!/usr/bin/env python3
"""Whether the bits of a row depend on the batch: one row of 8192 bf16 elements in all-reduces of 1 to 16384 rows.

    batch_invariant.py --ranks N [--dime LIBDIME] [--most-rows 16384]

With --dime, libdime.so is in front of NCCL with DIME_BATCH_INVARIANT=1, and every row must have the bits that the row
alone has: at the first, the middle and the last place, eager and in a graph. Without it, it says from how many rows on
NCCL's bits change, and passes. The rows around it hold other data, and the contributions are random, so the order of the
sum shows. One process for each GPU; needs PyTorch.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time

COLUMNS = 8192


def row_counts(most_rows):
    """Powers of two up to the most, with a row more and less."""
    powers = [1 << shift for shift in range(most_rows.bit_length()) if 1 << shift <= most_rows]
    return sorted({count for power in powers for count in (power - 1, power, power + 1) if 0 < count <= most_rows})


def worker(rank, world_size, init_file, most_rows, differing):
    import torch
    import torch.distributed as dist

    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    dist.init_process_group("nccl", init_method=f"file://{init_file}", rank=rank, world_size=world_size, device_id=device)
    generator = torch.Generator(device=device).manual_seed(1 + rank)
    row = torch.randn(COLUMNS, generator=generator, device=device).bfloat16() * 37
    others = torch.randn(most_rows, COLUMNS, generator=generator, device=device, dtype=torch.bfloat16)

    def batch(count, place):
        rows = others[:count].clone()
        rows[place] = row
        return rows

    # The first all-reduce is the largest: it must begin the setup.
    dist.all_reduce(batch(most_rows, 0))
    alone = row.clone()
    dist.all_reduce(alone)
    alone = alone.view(torch.int16)
    changed = {}
    for count in row_counts(most_rows):
        for place in sorted({0, count // 2, count - 1}):
            rows = batch(count, place)
            dist.all_reduce(rows)
            if not torch.equal(rows[place].view(torch.int16), alone):
                changed.setdefault(count, f"row {place}, eager")
        rows = batch(count, count - 1)
        if rows.numel() <= 1 << 27:
            static = torch.empty_like(rows)
            torch.cuda.synchronize()
            dist.barrier()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                dist.all_reduce(static)
            static.copy_(rows)
            graph.replay()
            torch.cuda.synchronize()
            if not torch.equal(static[count - 1].view(torch.int16), alone):
                changed.setdefault(count, f"row {count - 1}, in a graph")
            del graph
    for count in sorted(changed)[:5]:
        print(f"rank {rank}, {count} rows: {changed[count]}: other bits than alone", flush=True)
    if rank == 0:
        first = min(changed) if changed else None
        print(f"the bits of a row change from {first} rows on" if first else f"the same bits in 1 to {most_rows} rows", flush=True)
    with differing.get_lock():
        differing.value = max(differing.value, len(changed))
    dist.barrier()
    dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, required=True)
    parser.add_argument("--dime", help="libdime.so to preload")
    parser.add_argument("--most-rows", type=int, default=16384)
    options = parser.parse_args()
    if options.dime and os.environ.get("LD_PRELOAD") != options.dime:
        # The loader reads it when a process starts.
        environment = dict(os.environ, LD_PRELOAD=options.dime, DIME_BATCH_INVARIANT="1")
        environment.setdefault("DIME_DEBUG", "warn")
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    context = multiprocessing.get_context("spawn")
    differing = context.Value("i", -1)
    with tempfile.TemporaryDirectory() as folder:
        arguments = (options.ranks, os.path.join(folder, "rendezvous"), options.most_rows, differing)
        workers = [context.Process(target=worker, args=(rank, *arguments)) for rank in range(options.ranks)]
        for process in workers:
            process.start()
        # One rank that dies would leave the others waiting for it.
        while any(process.is_alive() for process in workers):
            if any(process.exitcode not in (None, 0) for process in workers):
                for process in workers:
                    process.kill()
            time.sleep(0.05)
    codes = [process.exitcode for process in workers]
    passed = not any(codes) and (differing.value == 0 or not options.dime)
    print(f"{'PASS' if passed else 'FAIL'}: {options.ranks} ranks, exit codes {codes}, {differing.value} sizes with other bits")
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
