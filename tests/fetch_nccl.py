#!/usr/bin/env python3
"""Fills a cache with NCCL releases to test against.

A release is one directory, <cache>/nccl/<version>/, that holds the library `libnccl.so.2`, the header `nccl.h` and,
where the release has them, the headers under `nccl_device/`. Nothing else of the wheel is kept. wheel_cache.py says
where the cache is.

Usage: fetch_nccl.py [--print-cache] [VERSION ...]     without a version: the default set, which `make test` uses
The last lines on standard output are the directories of the releases, in the order asked for; what is being
downloaded is said on standard error.
"""

import sys

import wheel_cache

# The default set: each release between 2.18 and 2.32 that changed what the library exports or how it calls itself,
# and 2.21.5 and 2.26.5, which widely used PyTorch builds ship. 13 wheels, 3.3 GB to download once.
DEFAULT_RELEASES = [
    "2.18.3", "2.19.3", "2.21.5", "2.22.3", "2.23.4", "2.24.3", "2.26.5",
    "2.27.7", "2.28.9", "2.29.7", "2.30.7", "2.31.2", "2.32.3",
]

PACKAGE = "nvidia-nccl-cu12"
INCLUDE_PREFIX = "nvidia/nccl/include/"
LIBRARY_IN_WHEEL = "nvidia/nccl/lib/libnccl.so.2"


def place_of(name):
    """Where in the release's directory a member of the wheel goes, or None when it is not kept."""
    if name == LIBRARY_IN_WHEEL:
        return "libnccl.so.2"
    if name == INCLUDE_PREFIX + "nccl.h":
        return "nccl.h"
    if name.startswith(INCLUDE_PREFIX + "nccl_device") and name.endswith(".h"):
        return name[len(INCLUDE_PREFIX):]
    return None


def fetch(version, root):
    return wheel_cache.keep(root / version, f"{PACKAGE}=={version}", place_of, ["libnccl.so.2", "nccl.h"],
                            note=" (150 to 350 MB)")


def main(arguments):
    root = wheel_cache.cache_directory() / "nccl"
    if arguments[:1] == ["--print-cache"]:
        print(root)
        arguments = arguments[1:]
        if not arguments:
            return
    if any(argument.startswith("-") for argument in arguments):
        raise SystemExit(__doc__)
    directories = [fetch(version, root) for version in arguments or DEFAULT_RELEASES]
    for directory in directories:
        print(directory)


if __name__ == "__main__":
    main(sys.argv[1:])
