"""Each way to void a creation, as a function, and a process that runs one on request."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from beaker.cache import Cache
from beaker.caching.entry import Entry
from beaker.caching.value import Value

__all__ = ["LEAVES", "VOIDING", "Rival", "rival"]

ROOT = Path(__file__).parents[2]

VOIDING: dict[str, Callable[[Cache, str], object]] = {
    "put": lambda cache, key: cache.put(key, "put"),
    "put_many": lambda cache, key: cache.put_many({key: "put", "other": 1}),
    "item set": lambda cache, key: cache.__setitem__(key, "put"),
    "entry written": lambda cache, key: cache.namespace.write(key, Entry("put", time.time(), 60.0)),
    "refresh": lambda cache, key: Value(key, cache.namespace, None, cache.expiretime).refresh(lambda: "put"),
    "remove_value": lambda cache, key: cache.remove_value(key),
    "remove_many": lambda cache, key: cache.remove_many([key, "other"]),
    "item deleted": lambda cache, key: cache.__delitem__(key),
    "clear": lambda cache, key: cache.clear(),
    "put and removed": lambda cache, key: put_and_remove(cache, key),
}

LEAVES = {"put": "put", "put_many": "put", "item set": "put", "entry written": "put", "refresh": "put"}
"""The value that is there afterwards; after the rest there is none."""


def put_and_remove(cache: Cache, key: str) -> None:
    cache.put(key, "gone")
    cache.remove_value(key)


class Rival:
    """Another process with the same cache."""

    def __init__(self, process: subprocess.Popen[str], options: Mapping[str, Any]) -> None:
        self._process = process
        self._options = options

    def do(self, act: str, namespace: str, key: str) -> None:
        """Do it there, and return when it is done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([act, namespace, key, self._options]) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"


@contextmanager
def rival(options: Mapping[str, Any]) -> Iterator[Rival]:
    """A process of its own, which ends with the block."""
    command = [sys.executable, "-m", "tests.caching.rival"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        yield Rival(process, options)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0


def main() -> None:
    for line in sys.stdin:
        act, namespace, key, options = json.loads(line)
        VOIDING[act](Cache(namespace, **options), key)
        print("done", flush=True)


if __name__ == "__main__":
    main()
