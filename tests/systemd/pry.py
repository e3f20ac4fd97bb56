"""Ends well if it cannot do what no producer has to do: python -m tests.systemd.pry SECRET DATASET-FILE"""

from __future__ import annotations

import os
import sys


def main(secret: str, dataset: str) -> int:
    """0 if every try was refused; what was reached is said otherwise."""
    reached = []
    tries = [(secret, os.O_RDONLY), (dataset, os.O_WRONLY), ("/etc/x", os.O_WRONLY | os.O_CREAT)]
    for path, flags in tries:
        try:
            os.close(os.open(path, flags))
            reached.append(path)
        except OSError as error:
            sys.stderr.write(f"{error}\n")
    sys.stderr.write(f"reached: {reached}\n")
    return len(reached)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
