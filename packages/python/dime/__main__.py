"""Becomes the tool `dime` of this package."""

import os
import pathlib
import sys


def main() -> None:
    tool = str(pathlib.Path(__file__).resolve().parent / "bin" / "dime")
    try:
        os.execv(tool, ["dime", *sys.argv[1:]])
    except OSError as error:
        sys.exit(f"dime: {tool}: {error.strerror}; install the package dime-nccl again")


if __name__ == "__main__":
    main()
