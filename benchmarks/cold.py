"""What a script costs in a fresh process: prints milliseconds, and MiB that the resident set grew by."""

from __future__ import annotations

import os
import sys
import time


def resident() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main(script: str) -> None:
    del sys.path[0]
    code = compile(script, "cold", "exec")
    before, started = resident(), time.perf_counter()
    exec(code, {"__name__": "cold"})
    took = time.perf_counter() - started
    print(took * 1000, resident() - before)


if __name__ == "__main__":
    main(sys.argv[1])
