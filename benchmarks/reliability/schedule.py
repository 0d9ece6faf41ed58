"""How long each part of a run works, so that all of them together take the time that was given."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.reliability.faults import Scenario

__all__ = ["Part", "Schedule"]

LEAST_SECONDS = 0.5
SOAK_WEIGHT = 15.0
"""A soak works for as long as so many scenarios."""


@dataclass(frozen=True)
class Part:
    """One scenario of one Beaker on one store, or the soak of the store (``scenario`` None)."""

    beaker: str
    kind: str
    scenario: Scenario | None

    @property
    def name(self) -> str:
        return self.scenario.name if self.scenario is not None else "soak"

    @property
    def weight(self) -> float:
        return 1.0 if self.scenario is not None else SOAK_WEIGHT

    @property
    def beside(self) -> float:
        """Seconds that starting and reading back take beside the work, guessed rather too high: what is left over goes
        to later parts, what is missing would cost them."""
        emulator = self.kind.startswith("google")
        if self.scenario is None:
            return 35.0 if emulator else 18.0
        # Eight processes each, twice.
        if self.scenario.races:
            return 40.0 if emulator else 10.0
        return 10.0 if emulator else 4.0


class Schedule:
    """Shares ``minutes`` among ``parts``, to be run in that order.

    What parts took beside their work corrects the guesses of those that remain, so that the work becomes less where
    the machine is slow, and the end stays where it is. With ``fixed`` each part works for so many seconds instead.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        minutes: float,
        *,
        fixed: float | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.parts, self.minutes = parts, minutes
        self._fixed, self._timer = fixed, timer
        self._begun = timer()
        self._done = 0
        self._guessed = self._took = 20.0
        """What has been taken beside the work, as guessed and in truth; begins as if some of it were known."""

    @property
    def passed(self) -> float:
        """Minutes since the beginning."""
        return (self._timer() - self._begun) / 60

    def seconds(self) -> float:
        """How long the next part works; 0 when no time is left for it."""
        if self._fixed is not None:
            return self._fixed
        left = (self.minutes - self.passed) * 60
        remaining = self.parts[self._done :]
        beside = sum(part.beside for part in remaining) * self._took / self._guessed
        share = (left - beside) / sum(part.weight for part in remaining) * remaining[0].weight
        return max(LEAST_SECONDS, share) if left > 0 else 0.0

    def over(self, took: float | None) -> None:
        """The next part is over; it took so many seconds beside its work (``None``: it did not run)."""
        part = self.parts[self._done]
        self._done += 1
        if took is not None:
            self._guessed += part.beside
            self._took += max(0.0, took)

    def __str__(self) -> str:
        limit = f" of {self.minutes:g}" if self._fixed is None else ""
        return f"{self._done}/{len(self.parts)}, {self.passed:.1f}{limit} min"
