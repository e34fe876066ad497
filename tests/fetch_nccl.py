#!/usr/bin/env python3
"""Fills a cache with NCCL releases to test against.

A release is one directory, <cache>/nccl/<version>/, that holds the library `libnccl.so.2`, the header `nccl.h` and,
where the release has them, the headers under `nccl_device/`. Nothing else of the wheel is kept. The cache is
$DIME_CACHE_DIR, or else dime/ under $XDG_CACHE_HOME or ~/.cache: outside the source tree, so that the next clean
clone finds it.

A release appears in the cache whole or not at all: it is unpacked beside its place and renamed. Several copies of
this script may run at once; each release is fetched under a lock of its own.

Usage: fetch_nccl.py [--print-cache] [VERSION ...]     without a version: the default set, which `make test` uses
The last lines on standard output are the directories of the releases, in the order asked for; what is being
downloaded is said on standard error.
"""

import fcntl
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

# The default set: each release between 2.18 and 2.32 that changed what the library exports or how it calls itself,
# and 2.21.5 and 2.26.5, which widely used PyTorch builds ship. 13 wheels, 3.3 GB to download once.
DEFAULT_RELEASES = [
    "2.18.3", "2.19.3", "2.21.5", "2.22.3", "2.23.4", "2.24.3", "2.26.5",
    "2.27.7", "2.28.9", "2.29.7", "2.30.7", "2.31.2", "2.32.3",
]

PACKAGE = "nvidia-nccl-cu12"
INCLUDE_PREFIX = "nvidia/nccl/include/"
LIBRARY_IN_WHEEL = "nvidia/nccl/lib/libnccl.so.2"


def cache_directory():
    if os.environ.get("DIME_CACHE_DIR"):
        return pathlib.Path(os.environ["DIME_CACHE_DIR"])
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(base) / "dime"


def say(text):
    print(f"fetch_nccl: {text}", file=sys.stderr, flush=True)


def wanted_from_wheel(name):
    """Where in the release's directory a member of the wheel goes, or None when it is not kept."""
    if name == LIBRARY_IN_WHEEL:
        return "libnccl.so.2"
    if name == INCLUDE_PREFIX + "nccl.h":
        return "nccl.h"
    if name.startswith(INCLUDE_PREFIX + "nccl_device") and name.endswith(".h"):
        return name[len(INCLUDE_PREFIX):]
    return None


def unpack(wheel, directory):
    kept = set()
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            target = wanted_from_wheel(member.filename)
            if target is None:
                continue
            path = directory / target
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, open(path, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            kept.add(target)
    for needed in ("libnccl.so.2", "nccl.h"):
        if needed not in kept:
            raise SystemExit(f"fetch_nccl: {wheel.name} holds no {needed}")


def is_complete(directory):
    return (directory / "libnccl.so.2").is_file() and (directory / "nccl.h").is_file()


def fetch(version, root):
    directory = root / version
    if is_complete(directory):
        return directory
    root.mkdir(parents=True, exist_ok=True)
    with open(root / f".{version}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_complete(directory):  # another process was faster
            return directory
        with tempfile.TemporaryDirectory(prefix=f".{version}.", dir=root) as scratch:
            scratch = pathlib.Path(scratch)
            say(f"downloading {PACKAGE} {version} from PyPI (150 to 350 MB) for {directory}")
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                 "--no-cache-dir", "--only-binary=:all:", "--dest", str(scratch / "wheel"), f"{PACKAGE}=={version}"],
                check=True, stdout=sys.stderr,
            )
            (wheel,) = (scratch / "wheel").glob("*.whl")
            unpack(wheel, scratch / "release")
            if directory.exists():  # left by something else, and not whole
                shutil.rmtree(directory)
            (scratch / "release").rename(directory)
    return directory


def main(arguments):
    root = cache_directory() / "nccl"
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
