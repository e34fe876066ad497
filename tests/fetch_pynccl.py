#!/usr/bin/env python3
"""Fetches the Python files by which vLLM and SGLang call NCCL, for tests/gpu/pynccl.py.

Of a released wheel only these files are kept, under their paths in it, in <cache>/pynccl/<name>-<version>/
(wheel_cache.py says where the cache is). They are not ours and never become part of the source tree.

Usage: fetch_pynccl.py [vllm | sglang ...]     without a name: both
The last lines on standard output are the folders, in the order asked for.
"""

import sys

import wheel_cache

# Of each framework: the release, what its wheel weighs, and the files. The wheels also hold compiled code, which is not
# kept, so those for one platform and Python serve all.
FRAMEWORKS = {
    "vllm": ("0.33.0", "340 MB", [
        "vllm/distributed/device_communicators/pynccl.py",
        "vllm/distributed/device_communicators/pynccl_wrapper.py",
        "vllm/utils/nccl.py",
    ]),
    "sglang": ("0.5.23", "40 MB", [
        "sglang/srt/distributed/device_communicators/pynccl.py",
        "sglang/srt/distributed/device_communicators/pynccl_wrapper.py",
    ]),
}
ONE_PLATFORM = ["--python-version=3.12", "--implementation=cp", "--abi=cp312", "--abi=abi3",
                "--platform=manylinux_2_34_x86_64", "--platform=manylinux_2_28_x86_64"]


def fetch(name):
    version, weight, files = FRAMEWORKS[name]
    folder = wheel_cache.cache_directory() / "pynccl" / f"{name}-{version}"
    return wheel_cache.keep(folder, f"{name}=={version}", lambda member: member if member in files else None, files,
                            note=f" ({weight})", pip_options=ONE_PLATFORM)


def main(names):
    unknown = [name for name in names if name not in FRAMEWORKS]
    if unknown:
        raise SystemExit(f"fetch_pynccl: {unknown[0]} is not one of {', '.join(FRAMEWORKS)}")
    for folder in [fetch(name) for name in names or FRAMEWORKS]:
        print(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
