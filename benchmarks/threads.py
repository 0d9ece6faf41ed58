"""Threads that really run side by side: operations on stores, values, copies and counts, and an oracle for each.

``python3.13t -m benchmarks.threads`` runs 1,000,000 operations by 8 threads, on any build of Python and without
anything installed; a free-threaded build runs it without the GIL. The exit status is 1 where a value was lost or
foreign, a creation ran twice, or a count is not exact.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from beaker import counters
from beaker.cache import CacheManager
from beaker.storage.dbm import DbmStore
from beaker.storage.files import FileStore
from beaker.storage.memory import MemoryStore

KEYS = 16
EVERY = 500
"""Operations between two invalidations of a decorated function's value."""
SHARES = {"memory": 0.4, "file": 0.05, "dbm": 0.05, "decorated": 0.3, "near": 0.2}
"""Which part of all operations each work has: those on disks take longer."""

Report = Callable[[str], None]


def side_by_side(threads: int, work: Callable[[int], None]) -> None:
    """Call ``work`` with the number of each thread, all of which begin together. What one raises is raised."""
    start = threading.Barrier(threads)
    failures: list[BaseException] = []

    def run(number: int) -> None:
        start.wait()
        try:
            work(number)
        except BaseException as err:
            failures.append(err)

    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if failures:
        raise failures[0]


def store(kind: str, folder: str, threads: int, operations: int, wrong: Report) -> None:
    """Each thread writes keys of its own, reads those of others, and all add to one number by versions."""
    makers: dict[str, Callable[[], Any]] = {
        "memory": MemoryStore,
        "file": lambda: FileStore(folder),
        "dbm": lambda: DbmStore(folder),
    }
    made = makers[kind]()
    written = [[0] * KEYS for _ in range(threads)]
    added = [0] * threads
    made.set("n", "sum", b"0", ttl=None)

    def work(me: int) -> None:
        for number in range(1, operations // threads // 4 + 1):
            slot, other = number % KEYS, (me + number) % threads
            made.set("n", f"{me}.{slot}", b"%d.%d.%d" % (me, slot, number), ttl=None)
            written[me][slot] = number
            own = made.get("n", f"{me}.{slot}")
            if own != b"%d.%d.%d" % (me, slot, number):
                wrong(f"{kind}: its own value is another")
            least = written[other][slot]
            seen = made.get("n", f"{other}.{slot}")
            whose, which, found = (int(part) for part in (seen or b"%d.%d.0" % (other, slot)).split(b"."))
            if (whose, which) != (other, slot):
                wrong(f"{kind}: a foreign value")
            if found < least:
                wrong(f"{kind}: an older value than the one that was written")
            data, version = made.read("n", "sum")
            added[me] += bool(made.replace("n", "sum", b"%d" % (int(data) + 1), version, ttl=None))

    side_by_side(threads, work)
    if int(made.get("n", "sum")) != sum(added):
        wrong(f"{kind}: of {sum(added)} numbers that were added {int(made.get('n', 'sum'))} are there")
    for me, numbers in enumerate(written):
        for slot, number in enumerate(numbers):
            if number and made.get("n", f"{me}.{slot}") != b"%d.%d.%d" % (me, slot, number):
                wrong(f"{kind}: a lost value")
    getattr(made, "close", lambda: None)()


def decorated(threads: int, operations: int, wrong: Report) -> None:
    """Calls of one function; after each invalidation its value is created once."""
    counters.reset()
    manager = CacheManager(cache_regions={"threads": {"type": "memory", "expire": 3600}})
    created: list[list[int]] = [[] for _ in range(KEYS)]
    calls = [0] * threads
    invalidated = [0] * KEYS

    @manager.region("threads", "decorated")
    def value(key: int) -> tuple[int, int]:
        created[key].append(1)
        return key, len(created[key])

    def work(me: int) -> None:
        for number in range(operations // threads):
            key = (me + number) % KEYS
            if me == 0 and number % EVERY == 0:
                manager.region_invalidate(value, "threads", "decorated", key)
                invalidated[key] += 1
            found, _ = value(key)
            calls[me] += 1
            if found != key:
                wrong("decorated: a foreign value")

    side_by_side(threads, work)
    for key in range(KEYS):
        if len(created[key]) > invalidated[key] + 1:
            wrong(f"decorated: {len(created[key])} creations after {invalidated[key]} invalidations")
    (stats,) = counters.snapshot().regions()
    if stats.hits + stats.misses != sum(calls):
        wrong(f"counters: {stats.hits + stats.misses} hits and misses of {sum(calls)} calls")
    if stats.creations != sum(map(len, created)):
        wrong(f"counters: {stats.creations} creations of {sum(map(len, created))}")


def near(folder: str, threads: int, operations: int, wrong: Report) -> None:
    """Copies in the process of a store on disk: who has put a value reads it or a later one."""
    options = {"type": "file", "data_dir": folder, "expire": 3600, "near": 60}
    cache = CacheManager(cache_regions={"near": options}).get_cache_region("near", "near")
    written = [[0] * KEYS for _ in range(threads)]

    def work(me: int) -> None:
        for number in range(1, operations // threads + 1):
            slot, other = number // 50 % KEYS, (me + number) % threads
            if number % 50 == 1:
                cache.put(f"{me}.{slot}", (me, slot, number))
                written[me][slot] = number
            least = written[other][slot]
            if least:
                whose, which, found = cache.get(f"{other}.{slot}")
                if (whose, which) != (other, slot):
                    wrong("near: a foreign value")
                if found < least:
                    wrong("near: an older value than the one that was put")

    side_by_side(threads, work)
    for me, numbers in enumerate(written):
        for slot, number in enumerate(numbers):
            if number and cache.get(f"{me}.{slot}")[2] != number:
                wrong("near: a lost value")


def run(threads: int, operations: int, wrong: Report) -> Iterator[tuple[str, int, float]]:
    """Name, number of operations and seconds of each work; what ``wrong`` is told is a defect."""
    with tempfile.TemporaryDirectory() as folder:
        works: dict[str, Callable[[int], None]] = {
            kind: lambda count, kind=kind: store(kind, f"{folder}/{kind}", threads, count, wrong)  # type: ignore[misc]
            for kind in ("memory", "file", "dbm")
        }
        works["decorated"] = lambda count: decorated(threads, count, wrong)
        works["near"] = lambda count: near(f"{folder}/near", threads, count, wrong)
        for name, work in works.items():
            count = int(operations * SHARES[name])
            begun = time.monotonic()
            work(count)
            yield name, count, time.monotonic() - begun


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.threads", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--operations", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--threads", type=int, default=8, metavar="N")
    given = parser.parse_args(arguments)
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(f"Python {sys.version.split()[0]}, {'with' if has_gil else 'without'} the GIL, {given.threads} threads")
    found: list[str] = []
    for name, count, seconds in run(given.threads, given.operations, found.append):
        print(f"{name}: {count:,} operations in {seconds:.1f} s, {len(found)} wrong so far", flush=True)
    for text in sorted(set(found)):
        print(f"{text}: {found.count(text)} times")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
