"""Every interleaving of a few actors that share a store, by running the code itself.

An actor is a function. It is run from its beginning for each of its steps: what it did before is played back from its
history, it does one more thing to the world, and is stopped before the next. So no thread is needed, a state can be
continued in several ways, and states that are equal are looked at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

__all__ = ["Actor", "World", "explore"]


@dataclass(frozen=True)
class World:
    """What the actors share, and what has happened so far, in order."""

    record: tuple[bytes, Hashable, float] | None = None
    """The one record of the store: data, version, end."""
    now: float = 1_000.0
    events: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class State:
    world: World
    histories: tuple[tuple[Any, ...], ...]
    results: tuple[Any, ...]


class _Pause(BaseException):
    """Stops an actor before its next step."""


_RUNNING = object()
_DEAD = "dead"


@dataclass
class Actor:
    """``run`` does all it does to the world through :meth:`step` and :meth:`beside`."""

    name: str
    run: Callable[[Actor], Any] = lambda actor: None
    mortal: bool = False
    """It may stop for good before any of its steps."""
    world: World = field(default_factory=World)
    _history: list[Any] = field(default_factory=list)
    _position: int = 0
    _stepped: bool = False

    def step(self, act: Callable[[World], tuple[World, Any]]) -> Any:
        """Do ``act`` to the world and return its result. Another actor may act before it."""
        if self._position == len(self._history):
            if self._stepped:
                raise _Pause
            self._stepped = True
        return self._record(act)

    def beside(self, act: Callable[[World], tuple[World, Any]]) -> Any:
        """The same, at once: no step comes between this and the step before."""
        return self._record(act)

    def note(self, *event: str) -> None:
        """Record an event, at once."""
        self.beside(lambda world: (replace(world, events=(*world.events, (*event, self.name))), None))

    def _record(self, act: Callable[[World], tuple[World, Any]]) -> Any:
        if self._position == len(self._history):
            self.world, result = act(self.world)
            self._history.append(result)
        self._position += 1
        return self._history[self._position - 1]

    def advance(self, world: World, history: tuple[Any, ...]) -> tuple[World, tuple[Any, ...], Any]:
        """One step further from there: the world, the history, and what the actor returned, if it ended."""
        self.world, self._history, self._position, self._stepped = world, list(history), 0, False
        try:
            result = self.run(self)
        except _Pause:
            result = _RUNNING
        return self.world, tuple(self._history), result


def explore(world: World, actors: list[Actor]) -> Iterator[tuple[World, tuple[Any, ...]]]:
    """Every world in which all actors have ended, with what they returned (``"dead"``: it was stopped)."""
    first = State(world, ((),) * len(actors), (_RUNNING,) * len(actors))
    pending, seen = [first], {first}
    while pending:
        state = pending.pop()
        if _RUNNING not in state.results:
            yield state.world, state.results
        for after in _successors(state, actors):
            if after not in seen:
                seen.add(after)
                pending.append(after)


def _successors(state: State, actors: list[Actor]) -> Iterator[State]:
    for index, actor in enumerate(actors):
        if state.results[index] is not _RUNNING:
            continue
        world, history, result = actor.advance(state.world, state.histories[index])
        # Of an actor that has ended only the result matters.
        yield _with(state, world, index, history if result is _RUNNING else (), result)
        if actor.mortal and state.histories[index]:
            yield _with(state, state.world, index, (), _DEAD)


def _with(state: State, world: World, index: int, history: tuple[Any, ...], result: Any) -> State:
    histories, results = list(state.histories), list(state.results)
    histories[index], results[index] = history, result
    return State(world, tuple(histories), tuple(results))
