"""A script that keeps what it computed, in files, until its next run."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from beaker.cache import cache_region, cache_regions

cache_regions["day"] = {"type": "file", "data_dir": str(Path(__file__).with_name("data")), "expire": 86400}


@cache_region("day")
def longest_chain(limit: int) -> tuple[int, int]:
    """The start below ``limit`` with the longest Collatz sequence, and the length of that."""
    lengths = {1: 1}
    for start in range(2, limit):
        number, steps = start, 0
        while number not in lengths:
            number = number // 2 if number % 2 == 0 else 3 * number + 1
            steps += 1
        lengths[start] = lengths[number] + steps
    best = max(range(1, limit), key=lengths.__getitem__)
    return best, lengths[best]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("limit", type=int, nargs="?", default=200_000)
    parser.add_argument("--forget", action="store_true", help="compute it again next time")
    asked = parser.parse_args()
    if asked.limit < 2:
        parser.error("limit must be at least 2")
    if asked.forget:
        longest_chain.invalidate(asked.limit)
        print(f"Forgot {asked.limit}.")
        return
    started = time.perf_counter()
    start, length = longest_chain(asked.limit)
    print(f"{start}: {length} steps, found in {time.perf_counter() - started:.3f} s")


if __name__ == "__main__":
    main()
