"""One implementation's process: builds rows and times them, as the lines on its standard input ask.

Run as a script by the interpreter of that implementation. The package ``benchmarks`` is loaded by its path and not by
the folder it lies in, where this Beaker would hide the one that is to be measured.
"""

from __future__ import annotations

import gc
import importlib.util
import itertools
import json
import os
import sys
import threading
import time
import timeit
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def load_package() -> None:
    if "benchmarks" not in sys.modules:
        path = HERE / "__init__.py"
        spec = importlib.util.spec_from_file_location("benchmarks", path, submodule_search_locations=[str(HERE)])
        assert spec is not None
        sys.modules["benchmarks"] = importlib.util.module_from_spec(spec)


class Worker:
    """Holds one row's call at a time."""

    def __init__(self) -> None:
        from benchmarks import growth, rows

        self.rows = {row.name: row for row in (*rows.ROWS, *growth.ROWS)}
        self.call: Callable[[], object] = lambda: None

    def build(self, row: str, place: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Set the row up, do its work once, and find how often it must be done to take that long."""
        from benchmarks.row import Place

        self.call = lambda: None
        gc.collect()
        given = Place(**place)
        self.call = self.rows[row].work[given.implementation](given)
        self.call()
        loops = 1
        while True:
            took = self.time(loops, 1)["seconds"] * loops
            if took >= seconds:
                return {"loops": loops}
            loops = min(loops * 10, max(loops + 1, int(loops * seconds / max(took, 1e-9) * 1.1)))

    def time(self, loops: int, threads: int) -> dict[str, Any]:
        """Seconds that the work takes once. The garbage collector runs, as it does in an application."""
        if threads == 1:
            return {"seconds": timeit.Timer(self.call, "import gc; gc.enable()").timeit(loops) / loops}
        return {"seconds": self._in_threads(loops, threads)}

    def figure(self) -> dict[str, Any]:
        """The seconds that the work returns."""
        return {"seconds": self.call()}

    def _in_threads(self, loops: int, threads: int) -> float:
        # Seconds of the clock by pieces of work: it falls by half when twice as much gets done.
        each, gate = max(1, loops // threads), threading.Barrier(threads)
        call, clock = self.call, time.perf_counter
        times: list[tuple[float, float]] = []

        def run() -> None:
            gate.wait()
            started = clock()
            for _ in itertools.repeat(None, each):
                call()
            times.append((started, clock()))

        running = [threading.Thread(target=run) for _ in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        if len(times) < threads:
            raise RuntimeError(f"{threads - len(times)} of {threads} threads failed")
        first, last = min(started for started, _ in times), max(ended for _, ended in times)
        return (last - first) / (each * threads)


def serve() -> None:
    # What a library prints must not be taken for a result.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    load_package()
    worker = Worker()
    for line in sys.stdin:
        question = json.loads(line)
        try:
            reply = getattr(worker, question.pop("do"))(**question)
        except Exception as error:
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"[:200]}
        print(json.dumps(reply), file=answers)


if __name__ == "__main__":
    # The folder of this script, which holds modules with everyday names.
    del sys.path[0]
    serve()
