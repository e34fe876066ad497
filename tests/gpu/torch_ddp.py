#!/usr/bin/env python3
"""Training steps of a small DistributedDataParallel model: the same losses and weights, bit for bit, on any NCCL?

It knows nothing of Dime; compare_torch.py runs it with and without libdime.so and compares the output to the last digit.

An f32 sum depends on the order of its terms, and NCCL's order for more than two ranks differs from rank order, so an
arbitrary model may differ in the last bit between two correct libraries. Two cases are free of that:
- "plain", for two ranks: a + b = b + a in every bit, whatever the order. Any model will do; this one has GELU, layer
  norm and random data.
- "exact", for any power of two of ranks: inputs, weights and targets are small integers, the learning rate, the batch
  size and the number of ranks are powers of two, and there are few steps, so every product and partial sum is a multiple
  of a power of two that fits the 24 bits of f32 and nothing is ever rounded. Every order then gives the same bits. The
  program checks that: it repeats each step's arithmetic in f64 and fails if a single weight differs.
"""

import argparse
import ctypes
import hashlib
import json
import os
import sys
import tempfile
import time


def digest(tensors):
    state = hashlib.sha256()
    for tensor in tensors:
        host = tensor.detach().contiguous().cpu()  # numpy need not be installed
        state.update(ctypes.string_at(host.data_ptr(), host.numel() * host.element_size()))
    return state.hexdigest()[:16]


def plain(torch, dist, rank, device):
    torch.manual_seed(7)
    model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.GELU(), torch.nn.LayerNorm(256),
                                torch.nn.Linear(256, 128), torch.nn.GELU(), torch.nn.Linear(128, 10)).to(device)
    model = torch.nn.parallel.DistributedDataParallel(model, device_ids=[device])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    source = torch.Generator(device="cpu").manual_seed(100 + rank)
    lines = []
    for _ in range(8):
        inputs = torch.randn(32, 64, generator=source).to(device)
        labels = torch.randint(0, 10, (32,), generator=source).to(device)
        loss = torch.nn.functional.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total = loss.detach().clone()
        dist.all_reduce(total)
        lines.append(total.item().hex())
    return lines, digest(model.parameters())


def exact(torch, dist, rank, world_size, device):
    features, outputs, batch, steps, rate = 32, 8, 8, 2, 0.25

    def integers(shape, low, high, seed):
        source = torch.Generator(device="cpu").manual_seed(seed)
        return torch.randint(low, high + 1, shape, generator=source)

    weight = integers((outputs, features), -2, 2, 1).double()
    model = torch.nn.Linear(features, outputs, bias=False)
    with torch.no_grad():
        model.weight.copy_(weight)
    model = torch.nn.parallel.DistributedDataParallel(model.to(device), device_ids=[device])
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    lines = []
    for step in range(steps):
        def data(of):
            return (integers((batch, features), -1, 1, 1000 * step + of).double(),
                    integers((batch, outputs), -4, 4, 1000 * step + 500 + of).double())

        inputs, targets = (part.float().to(device) for part in data(rank))
        difference = model(inputs) - targets
        loss = (difference * difference).sum() / batch
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total = loss.detach().double()  # the sum of a few f32 values is exact in f64
        dist.all_reduce(total)
        lines.append(total.item().hex())
        # The same step in f64, where all of this is exact beyond doubt.
        gradient = torch.zeros_like(weight)
        for of in range(world_size):
            theirs, wanted = data(of)
            gradient += 2 * (theirs @ weight.T - wanted).T @ theirs / batch
        weight = weight - rate * gradient / world_size
        if not torch.equal(model.module.weight.detach().cpu().double(), weight):
            raise SystemExit(f"rank {rank}, step {step}: the weights are not the exact ones")
    return lines, digest(model.parameters())


def worker(rank, world_size, init_file, out_dir):
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch
    import torch.distributed as dist

    torch.use_deterministic_algorithms(True)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    device = torch.device("cuda", rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    dist.init_process_group("nccl", init_method=f"file://{init_file}", rank=rank, world_size=world_size, device_id=device)
    result = {}
    if world_size == 2:
        result["plain"] = plain(torch, dist, rank, device)
    if world_size & (world_size - 1) == 0:
        result["exact"] = exact(torch, dist, rank, world_size, device)
    hashes = {}
    for name, (losses, weights) in result.items():
        hashes.update({f"{name} loss of step {step}": loss for step, loss in enumerate(losses)})
        hashes[f"{name} weights"] = weights
    with open(os.path.join(out_dir, f"rank{rank}.json"), "w") as file:
        json.dump({"hashes": hashes, "wrong": [], "nccl": list(torch.cuda.nccl.version()),
                   "torch": torch.__version__}, file)
    if rank == 0:
        for name, (losses, weights) in result.items():
            print(f"{name}: losses {[float.fromhex(loss) for loss in losses]}, weights {weights}", flush=True)
    dist.barrier()
    dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, required=True)
    parser.add_argument("--out", required=True, help="folder for rank*.json")
    options = parser.parse_args()
    if options.ranks & (options.ranks - 1):
        parser.error("--ranks must be a power of two")
    import multiprocessing

    os.makedirs(options.out, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        init_file = os.path.join(folder, "rendezvous")
        start = time.time()
        workers = [context.Process(target=worker, args=(rank, options.ranks, init_file, options.out))
                   for rank in range(options.ranks)]
        for process in workers:
            process.start()
        while any(process.is_alive() for process in workers):
            if any(process.exitcode not in (None, 0) for process in workers):
                for process in workers:
                    process.kill()
            time.sleep(0.05)
    codes = [process.exitcode for process in workers]
    print(f"torch_ddp: {options.ranks} ranks, exit codes {codes}, {time.time() - start:.1f} s")
    sys.exit(0 if not any(codes) else 1)


if __name__ == "__main__":
    main()
