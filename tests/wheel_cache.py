"""Files out of wheels from PyPI, kept in a cache outside the source tree, so that the next clean clone finds them.

The cache is $DIME_CACHE_DIR, or else dime/ under $XDG_CACHE_HOME or ~/.cache. What is in it is used without a network.
"""

import fcntl
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile


def cache_directory():
    if os.environ.get("DIME_CACHE_DIR"):
        return pathlib.Path(os.environ["DIME_CACHE_DIR"])
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(base) / "dime"


def keep(directory, requirement, place_of, needed, note="", pip_options=()):
    """The directory with files of a wheel; downloads the wheel when the directory lacks one of `needed`.

    `place_of` says where in the directory a member of the wheel goes; None: it is not kept. The directory appears whole
    or not at all: it is unpacked beside its place and renamed, under a lock, so several processes may ask at once.
    """
    def is_complete():
        return all((directory / name).is_file() for name in needed)

    if is_complete():
        return directory
    root = directory.parent
    root.mkdir(parents=True, exist_ok=True)
    with open(root / f".{directory.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_complete():  # another process was faster
            return directory
        with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=root) as scratch:
            scratch = pathlib.Path(scratch)
            print(f"downloading {requirement} from PyPI{note} for {directory}", file=sys.stderr, flush=True)
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                 "--no-cache-dir", "--only-binary=:all:", *pip_options, "--dest", str(scratch / "wheel"), requirement],
                check=True, stdout=sys.stderr,
            )
            (wheel,) = (scratch / "wheel").glob("*.whl")
            unpack(wheel, scratch / "unpacked", place_of)
            missing = [name for name in needed if not (scratch / "unpacked" / name).is_file()]
            if missing:
                raise SystemExit(f"{wheel.name} has no {', '.join(missing)}")
            if directory.exists():  # left by something else, and not whole
                shutil.rmtree(directory)
            (scratch / "unpacked").rename(directory)
    return directory


def unpack(wheel, directory, place_of):
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            place = place_of(member.filename)
            if place is None:
                continue
            path = directory / place
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, open(path, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
