"""Prints the tables of docs/performance.md from files of measurements: perf/tables.py perf/results/h200-x4.jsonl ...

A line of a file is one measurement, as `dime bench --json` writes it; of repeats the median counts.
"""

import json
import sys


def size(count):
    for unit in ("", " KiB", " MiB"):
        if count < 1024:
            return f"{count}{unit or ' B'}"
        count //= 1024
    raise ValueError("a size of a gibibyte or more")


def table(rows, mode):
    repeats = {}
    for row in rows:
        if row["mode"] == mode:
            assert row["check"] == "ok"
            repeats.setdefault((row["bytes"], row["lib"]), []).append(row)
    by_size = {}
    for (count, library), of_one in repeats.items():
        of_one.sort(key=lambda row: row["us"])
        by_size.setdefault(count, {})[library] = of_one[len(of_one) // 2]
    eager = mode == "eager"
    head = ["bytes", "kernel", "Dime", "NCCL", "NCCL / Dime"] + (["host Dime", "host NCCL"] if eager else [])
    print("| " + " | ".join(head) + " |")
    print("| " + " | ".join("---" for _ in head) + " |")
    for count, libraries in sorted(by_size.items()):
        dime, nccl = libraries["dime"], libraries["nccl"]
        cells = [size(count), f"`{dime['kernel']}`", f"{dime['us']:.2f}", f"{nccl['us']:.2f}", f"{nccl['us'] / dime['us']:.2f}"]
        if eager:
            cells += [f"{dime['host_us']:.2f}", f"{nccl['host_us']:.2f}"]
        print("| " + " | ".join(cells) + " |")
    print()


for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    first = rows[0]
    print(f"### {first['gpus']} GPUs\n")
    for mode in ("graph", "eager"):
        if any(row["mode"] == mode for row in rows):
            print(f"{first['dtype']} {first['op']}, {mode}, us per all-reduce:\n")
            table(rows, mode)
