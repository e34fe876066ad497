#!/usr/bin/env python3
"""Runs a torch program twice, with and without libdime.so in front of NCCL, and compares what it wrote.

Fails when a result differs, when the program itself calls a result wrong, when ranks that must agree do not, or when the
log of libdime.so does not name a kernel for every process.
"""

import argparse
import ctypes
import glob
import itertools
import json
import os
import re
import subprocess
import sys


def kernels_of(dime):
    """Names of the kernels of a libdime.so: its counters that count no forwarded calls."""
    name_of = ctypes.CDLL(dime).dimeCounterName
    name_of.restype = ctypes.c_char_p
    names = [name.decode() for name in itertools.takewhile(bool, map(name_of, itertools.count()))]
    kernels = [name for name in names if not name.startswith("forward_")]
    assert kernels, f"{dime} names no kernel"
    return kernels


def run(command, out, env, limit_s):
    os.makedirs(out, exist_ok=True)
    for old in glob.glob(os.path.join(out, "*")):
        os.remove(old)
    with open(os.path.join(out, "output.txt"), "w") as log:
        # A group of its own, so that a time limit ends the ranks too.
        process = subprocess.Popen(command + ["--out", out], env=env, stdout=log, stderr=subprocess.STDOUT,
                                   start_new_session=True)
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            code = f"stopped after {limit_s} s"
    if code != 0:
        print(f"FAIL  {' '.join(command)}: {code}; the end of its output:")
        with open(os.path.join(out, "output.txt")) as log:
            print("".join(log.readlines()[-25:]))
        return None
    ranks = {}
    for path in glob.glob(os.path.join(out, "rank*.json")):
        with open(path) as file:
            ranks[int(re.search(r"rank(\d+)", path).group(1))] = json.load(file)
    return ranks


def compare(plain, ours):
    """Sentences about what differs."""
    trouble = []
    for rank in sorted(plain.keys() | ours.keys()):
        if rank not in plain or rank not in ours:
            trouble.append(f"rank {rank} wrote only one of two results")
            continue
        for label, result in (("without", plain[rank]), ("with", ours[rank])):
            trouble += [f"rank {rank}, {label} libdime.so: wrong: {name}" for name in result["wrong"]]
        before, after = plain[rank]["hashes"], ours[rank]["hashes"]
        if before.keys() != after.keys():
            trouble.append(f"rank {rank}: not the same cases")
        trouble += [f"rank {rank}: {name}: {before[name]} without, {after[name]} with"
                    for name in before if name in after and before[name] != after[name]]
    if not plain:
        trouble.append("no results")
    return trouble


def kernels_in_logs(folder, kernels):
    """Kernels named, with how often, for each log file of a process that set up a communicator."""
    found = {}
    for path in glob.glob(os.path.join(folder, "dime.*.log")):
        with open(path, errors="replace") as file:
            text = file.read()
        if "all-reduces are" in text or any(kernel in text for kernel in kernels):
            found[os.path.basename(path)] = {kernel: len(re.findall(rf"\b{kernel}\b", text)) for kernel in kernels
                                             if kernel in text}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dime", required=True, help="libdime.so")
    parser.add_argument("--out", required=True, help="folder for results and logs")
    parser.add_argument("--limit", type=int, default=150, help="seconds for each of the two runs")
    parser.add_argument("program", nargs=argparse.REMAINDER, help="script and its options, without --out")
    options = parser.parse_args()
    dime, out = os.path.abspath(options.dime), os.path.abspath(options.out)
    command = [sys.executable] + [part for part in options.program if part != "--"]
    ranks_wanted = int(command[command.index("--ranks") + 1])

    env = {name: value for name, value in os.environ.items() if not name.startswith("DIME_") and name != "LD_PRELOAD"}
    env.setdefault("NCCL_NVLS_ENABLE", "0")
    with_dime = dict(env, LD_PRELOAD=dime, DIME_DEBUG="TRACE",
                     DIME_DEBUG_FILE=os.path.join(out, "with", "dime.%h.%p.log"))
    kept = ("DIME_NCCL_LIB", "DIME_ALLOW_SHARED_GPU")
    with_dime.update((name, os.environ[name]) for name in kept if name in os.environ)
    # Where torch's own NCCL is found by libdime.so itself, as for any user; an explicit path wins, and is for both runs.
    if "DIME_NCCL_LIB" in os.environ:
        env["LD_PRELOAD"] = os.environ["DIME_NCCL_LIB"]
    plain = run(command, os.path.join(out, "without"), env, options.limit)
    ours = run(command, os.path.join(out, "with"), with_dime, options.limit)
    if plain is None or ours is None:
        sys.exit(1)
    trouble = compare(plain, ours)
    kernels = kernels_of(dime)
    logs = kernels_in_logs(os.path.join(out, "with"), kernels)
    named = {name: counts for name, counts in logs.items() if counts}
    if len(named) < ranks_wanted:
        trouble.append(f"the logs of {len(named)} processes name a kernel, not of {ranks_wanted}; see {out}/with")
    totals = {kernel: sum(counts.get(kernel, 0) for counts in named.values()) for kernel in kernels}
    cases = len(next(iter(ours.values()))["hashes"]) if ours else 0
    facts = next(iter(ours.values()), {})
    print(f"torch {facts.get('torch')}, NCCL {facts.get('nccl')}, {len(ours)} ranks, {cases} results a rank")
    print("kernels named in the logs:", ", ".join(f"{kernel} {count}" for kernel, count in totals.items() if count))
    for line in trouble[:20]:
        print("FAIL ", line)
    if len(trouble) > 20:
        print(f"FAIL  and {len(trouble) - 20} more")
    print("FAIL" if trouble else "PASS: every result is equal with and without libdime.so")
    sys.exit(1 if trouble else 0)


if __name__ == "__main__":
    main()
