"""Times all-reduces of one library other than Dime and NCCL, for `dime bench --peers`.

The only argument is a JSON object: peer, gpus, dtype, sizes (pairs of bytes and all-reduces in a graph), replays and warmup.
Prints one JSON object for each size that the library takes: bytes, us, check. A process drives each GPU.
"""

import json
import os
import statistics
import sys


def symmetric_memory(operation, dtype, world):
    """torch symmetric memory, whose buffers the application allocates through it."""
    import torch
    import torch.distributed as dist
    import torch.distributed._symmetric_memory as symm

    def prepare(elems):
        buffer = symm.empty(elems, dtype=dtype, device="cuda")
        symm.rendezvous(buffer, dist.group.WORLD.group_name)
        reduce = getattr(torch.ops.symm_mem, operation)
        # One-shot returns its result, two-shot works in place.
        return buffer, lambda: reduce(buffer, "sum", dist.group.WORLD.group_name)

    return prepare


def nccl_windows(dtype, world):
    """NCCL on buffers in symmetric windows."""
    import torch
    import torch.distributed as dist

    backend = dist.group.WORLD._get_backend(torch.device("cuda"))
    pool = torch.cuda.MemPool(backend.mem_allocator)
    # The pool is registered once, with all that will be taken from it.
    with torch.cuda.use_mem_pool(pool):
        whole = torch.empty(max(world["bytes"]), dtype=torch.uint8, device="cuda")
    backend.register_mem_pool(pool, symm=True)

    def prepare(elems):
        buffer = whole.view(dtype)[:elems]
        return buffer, lambda: dist.all_reduce(buffer)

    return prepare


def flashinfer(dtype, world):
    """FlashInfer's all-reduce without a fused operation."""
    import torch
    import flashinfer.comm as comm

    def prepare(elems):
        hidden = min(elems, 4096)
        tokens = elems // hidden
        workspace = comm.create_allreduce_fusion_workspace(
            backend="trtllm", world_size=world["gpus"], rank=world["rank"], max_token_num=tokens, hidden_dim=hidden, dtype=dtype
        )
        buffer = torch.empty(tokens, hidden, dtype=dtype, device="cuda")
        output = torch.empty_like(buffer)

        def reduce():
            comm.allreduce_fusion(input=buffer, workspace=workspace, pattern=comm.AllReduceFusionPattern.kAllReduce, output=output)
            return output

        return buffer, reduce

    return prepare


def plain(dtype, world):
    """Whatever answers NCCL's calls: MSCCL++ is preloaded."""
    import torch
    import torch.distributed as dist

    def prepare(elems):
        buffer = torch.empty(elems, dtype=dtype, device="cuda")
        return buffer, lambda: dist.all_reduce(buffer)

    return prepare


def check(buffer, reduce, world):
    """Whether the sum of the ranks' numbers comes out."""
    buffer.fill_(world["rank"] + 1)
    result = reduce()
    result = buffer if result is None or not hasattr(result, "dtype") else result
    expected = world["gpus"] * (world["gpus"] + 1) // 2
    return "ok" if bool((result == expected).all()) else "WRONG"


def measure(buffer, reduce, operations, task):
    """The smallest rank's median of the replays, for one operation."""
    import torch
    import torch.distributed as dist

    buffer.zero_()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(operations):
            reduce()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    samples = []
    for _ in range(task["warmup"] + task["replays"]):
        torch.cuda.synchronize()
        dist.barrier()
        torch.cuda.synchronize()
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        samples.append(start.elapsed_time(end) * 1000 / operations)
    median = torch.tensor(statistics.median(samples[task["warmup"] :]), device="cuda", dtype=torch.float64)
    dist.all_reduce(median, op=dist.ReduceOp.MIN)
    return median.item()


def work(rank, task):
    import torch
    import torch.distributed as dist

    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", rank=rank, world_size=task["gpus"], device_id=torch.device("cuda", rank))
    dtype = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}[task["dtype"]]
    world = {"rank": rank, "gpus": task["gpus"], "bytes": [size for size, _ in task["sizes"]]}
    prepare = {
        "symm_one_shot": lambda: symmetric_memory("one_shot_all_reduce", dtype, world),
        "symm_two_shot": lambda: symmetric_memory("two_shot_all_reduce_", dtype, world),
        "nccl_windows": lambda: nccl_windows(dtype, world),
        "flashinfer": lambda: flashinfer(dtype, world),
        "mscclpp": lambda: plain(dtype, world),
    }[task["peer"]]()
    for size, operations in task["sizes"]:
        buffer, reduce = prepare(max(size // dtype.itemsize, 1))
        verdict = check(buffer, reduce, world)
        us = measure(buffer, reduce, operations, task)
        if rank == 0:
            print(json.dumps({"bytes": size, "us": us, "check": verdict}), flush=True)
    dist.destroy_process_group()


def main():
    task = json.loads(sys.argv[1])
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29477")
    if task["peer"] == "mscclpp":
        import mscclpp

        os.environ["LD_PRELOAD"] = os.path.join(os.path.dirname(mscclpp.__file__), "lib", "libmscclpp_nccl.so")
    import torch.multiprocessing

    torch.multiprocessing.spawn(work, args=(task,), nprocs=task["gpus"])


if __name__ == "__main__":
    main()
