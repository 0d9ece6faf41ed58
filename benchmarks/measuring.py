"""Rows measured: implementations take turns, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.row import Row
from benchmarks.samplers import CallSampler, Failed, FigureSampler, LoadSampler, ProcessSampler, Sampler, Workers, who


@dataclass(frozen=True)
class Effort:
    """How much is measured: rounds of each kind, and how long one measurement takes."""

    rounds: int = 21
    seconds: float = 0.1
    processes: int = 11
    loads: int = 5
    load_seconds: int = 5
    keys: int = 1_000_000
    """No row has more keys than that."""


GROWTH = Effort(rounds=5, seconds=0.03)
"""Of so many points that their curve shows what a single one does not."""
QUICK = Effort(rounds=3, seconds=0.003, processes=1, loads=1, load_seconds=1, keys=20)


@dataclass
class Result:
    """The figures of one row: by implementation, one value a round."""

    name: str
    unit: str
    values: dict[str, list[float]] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: str = ""
    """Why it did not run."""

    def median(self, implementation: str) -> float | None:
        values = self.values.get(implementation)
        return statistics.median(values) if values else None

    def spread(self, implementation: str) -> float:
        """Half of the distance between the quartiles, as a part of the median."""
        values = self.values[implementation]
        if len(values) < 2:
            return 0.0
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        return (high - low) / 2 / middle if middle else 0.0

    def cost_of(self, implementation: str, other: str) -> float | None:
        """How many times ``implementation`` costs what ``other`` costs: the median of the rounds' ratios."""
        ours, theirs = self.values.get(implementation), self.values.get(other)
        if not ours or not theirs:
            return None
        if self.unit == "requests/s":
            ours, theirs = theirs, ours
        return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Result:
        return cls(**kept)


def measure(row: Row, workers: Workers, effort: Effort, chosen: Callable[[str], bool]) -> Result:
    """Set up the row for every chosen implementation, then measure them in turn, round after round.

    An implementation that fails is left out and named in ``failed``; the rest go on.
    """
    result = Result(row.name, row.unit)
    row = dataclasses.replace(row, keys=min(row.keys, effort.keys))
    ready: dict[str, Sampler] = {}
    try:
        for name in filter(chosen, who(row)):
            try:
                ready[name] = _sampler(row, name, workers, effort)
            except Failed as failure:
                result.failed[name] = str(failure)
        rounds = {"call": effort.rounds, "figure": effort.processes, "process": effort.processes, "load": effort.loads}[
            row.kind
        ]
        for number in range(rounds):
            # There and back again: a steady drift is the same for the first and for the last.
            for name in list(ready) if number % 2 == 0 else list(ready)[::-1]:
                try:
                    result.values.setdefault(name, []).append(ready[name].sample())
                except Failed as failure:
                    result.failed[name] = str(failure)
                    del result.values[name]
                    ready.pop(name).close()
        result.remarks = {name: sampler.remark() for name, sampler in ready.items() if sampler.remark()}
    finally:
        for sampler in ready.values():
            sampler.close()
    return result


def _sampler(row: Row, name: str, workers: Workers, effort: Effort) -> Sampler:
    if row.kind == "call":
        return CallSampler(row, name, workers, effort.seconds)
    if row.kind == "figure":
        return FigureSampler(row, name, workers, effort.seconds)
    if row.kind == "process":
        return ProcessSampler(row, name, workers.services, warm=effort.processes > 1)
    return LoadSampler(row, name, workers.services, effort.load_seconds)
