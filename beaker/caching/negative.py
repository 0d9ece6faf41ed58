"""Results that say "there is nothing": ``None``, and exceptions that are kept and raised again.

Of an exception a store has its class's name and its arguments as tagged JSON. The class is looked up among those that
the option names, never imported from the record, so a record can raise nothing that the application did not list.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from beaker.caching.entry import Entry, FailedEntry, Failure
from beaker.exceptions import ConfigError, CorruptRecord, UnserializableValue
from beaker.serialization.tagged_json import TaggedJson

__all__ = ["Failed", "Negative", "negative_of"]

_json = TaggedJson()


class Failed:
    """An exception that is a result: ``error`` for this call, ``failure`` to be kept."""

    __slots__ = ("error", "failure")

    def __init__(self, error: BaseException, failure: Failure) -> None:
        self.error = error
        self.failure = failure


class Negative(NamedTuple):
    """Seconds for which ``None``, and exceptions of the ``errors`` by name, are kept."""

    seconds: float
    errors: Mapping[str, type[Exception]]

    def __repr__(self) -> str:
        return f"<negative for {self.seconds} s, {len(self.errors)} kinds of errors>"

    def hold(self, error: Exception) -> Failure | None:
        """What is kept of ``error``; ``None``: it is of no class in question, or would not come back unchanged."""
        kind = type(error)
        name = _name(kind)
        if self.errors.get(name) is not kind or not self.seconds:
            return None
        try:
            failure = Failure(name, _json.dumps(list(error.args), "args"))
        except UnserializableValue:
            return None
        again = self.rebuild(failure)
        try:
            same = again is not None and (again.args, vars(again)) == (error.args, vars(error))
        except Exception:  # comparing what applications put there may raise anything
            same = False
        return failure if same else None

    def rebuild(self, failure: Failure) -> Exception | None:
        """A new exception from what was kept; ``None`` where its class is not listed here, or does not take that."""
        kind = self.errors.get(failure.name)
        if kind is None:
            return None
        try:
            return kind(*_json.loads(failure.args))
        except CorruptRecord:
            return None
        except Exception:  # the constructor is the application's
            return None

    def catching(self, create: Callable[[], Any], *, loops: bool) -> Callable[[], Any]:
        """``create``, which returns a :class:`Failed` in place of raising what is kept."""
        kinds = tuple(self.errors.values())

        def kept(error: Exception) -> Failed:
            failure = self.hold(error)
            if failure is None:
                raise error
            return Failed(error, failure)

        def attempt() -> Any:
            try:
                value = create()
            except kinds as err:
                return kept(err)
            return later(value) if loops and inspect.isawaitable(value) else value

        async def later(value: Awaitable[Any]) -> Any:
            try:
                return await value
            except kinds as err:
                return kept(err)

        return attempt

    def entry(self, failed: Failed, now: float, life: float, cost: float) -> FailedEntry:
        """What is stored of it."""
        entry = FailedEntry(failed.failure, now, -math.inf, cost)
        entry.life = life
        return entry

    def seen(self, entry: FailedEntry, now: float) -> Entry | None:
        """``entry`` as a creation left it, its value a :class:`Failed`; ``None`` when it has expired or is not ours."""
        error = self.rebuild(entry.value) if entry.lives(now) else None
        return None if error is None else Entry(Failed(error, entry.value), entry.stored, entry.life, entry.cost)


def negative_of(options: Mapping[str, Any]) -> Negative | None:
    """What the options ``negative`` and ``negative_errors`` amount to; ``None``: ``None`` is a value like others."""
    seconds, kinds = options.get("negative"), options.get("negative_errors") or ()
    if seconds is None:
        if kinds:
            raise ConfigError(
                "negative_errors are kept for as long as negative says, and it says nothing",
                option="negative",
                expected="seconds",
                code="config.missing-option",
            )
        return None
    return Negative(float(seconds), {_name(kind): kind for kind in kinds})


def _name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"
