"""Judges a history: what was acknowledged must be there, and nothing may be there that belongs elsewhere.

A *register* is one key of one session, or one key of a cache. One actor writes it, with numbers that grow, so that
every value read has exactly one origin.
"""

from __future__ import annotations

import dataclasses
import threading
from bisect import bisect_right
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

ACKNOWLEDGED, FAILED, UNKNOWN = "acknowledged", "failed", "unknown"
TORN = -1
"""The number of a value whose parts do not belong together."""


@dataclass
class Write:
    """One write of a register; ``UNKNOWN`` until an end is reported, for ever when its process was killed."""

    slot: str
    number: int
    begun: float
    erases: bool
    outcome: str = UNKNOWN
    ended: float | None = None

    def seen(self) -> int | None:
        """What a reader sees once the write has taken effect."""
        return None if self.erases else self.number


@dataclass(frozen=True)
class Read:
    """What was read between two times of the machine's monotonic clock; ``number`` None: nothing was there."""

    register: str
    owner: str | None
    number: int | None
    begun: float
    ended: float


@dataclass(frozen=True)
class Fault:
    """Something that was done to the store or to a worker. ``forgets``: what had been kept may be gone after it."""

    name: str
    begun: float
    ended: float
    forgets: bool = False
    only: str = ""
    """Registers whose name starts so are concerned."""

    def excuses(self, register: str, written: float, read: float) -> bool:
        concerned = self.forgets and register.startswith(self.only)
        return concerned and self.begun <= read and self.ended >= written


@dataclass
class Verdict:
    """Counts of one history, or of several added up. ``evidence`` names the first of what should not be."""

    acknowledged: int = 0
    failed: int = 0
    indeterminate: int = 0
    reads: int = 0
    failed_reads: int = 0
    lost: int = 0
    foreign: int = 0
    forgotten: int = 0
    damaged: int = 0
    late: int = 0
    hung: int = 0
    recovery: float = 0.0
    took: list[float] = field(default_factory=list, repr=False)
    evidence: list[str] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)

    def add(self, other: Verdict) -> None:
        for each in dataclasses.fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            if each.name == "recovery":
                self.recovery = max(mine, theirs)
            elif each.name == "errors":
                self.errors = {name: mine.get(name, 0) + theirs.get(name, 0) for name in {**mine, **theirs}}
            else:
                setattr(self, each.name, mine + theirs)

    def p99(self) -> float:
        """Seconds; 0 when nothing was acknowledged."""
        took = sorted(self.took)
        return took[int(len(took) * 0.99)] if took else 0.0

    def sound(self) -> bool:
        return not (self.lost or self.foreign or self.hung)


class History:
    """What actors report, line by line, from any number of threads; :meth:`judge` when they are done."""

    def __init__(self) -> None:
        self.cookies: dict[str, str] = {}
        self.writes: dict[str, dict[int, Write]] = {}
        self.reads: list[Read] = []
        self.faults: list[Fault] = []
        self.creations: dict[str, dict[int, float]] = {}
        self.voids: dict[str, list[tuple[float, float]]] = {}
        self.creation_reads: list[tuple[str, int, float, float]] = []
        self.errors: dict[str, int] = {}
        self.failed_reads = 0
        self.hung = 0
        self.hangs: list[str] = []
        """Where processes hung, innermost frame first."""
        self.unreadable: set[str] = set()
        self.forged: list[str] = []
        self.notes: dict[str, float] = {}
        self.damage: int | None = None
        """How many records were damaged on purpose; ``None``: the run damages none."""
        self.damaged_at = 0.0
        self._mutex = threading.Lock()

    def add(self, line: list[Any]) -> None:
        """Take one report: its kind, then the arguments of the method of that name."""
        with self._mutex:
            getattr(self, f"_add_{line[0]}")(*line[1:])

    def _add_cookie(self, session: str, cookie: str) -> None:
        self.cookies[session] = cookie

    def _add_begin(self, slot: str, register: str, number: int, begun: float, erases: bool) -> None:
        self.writes.setdefault(register, {})[number] = Write(slot, number, begun, erases)

    def _add_end(self, register: str, number: int, ended: float, outcome: str, error: str) -> None:
        write = self.writes[register][number]
        write.outcome, write.ended = outcome, ended
        self._add_error(error)

    def _add_read(self, register: str, owner: str | None, number: int | None, begun: float, ended: float) -> None:
        self.reads.append(Read(register, owner, number, begun, ended))

    def _add_failed(self, error: str) -> None:
        self.failed_reads += 1
        self._add_error(error)

    def _add_unreadable(self, register: str, error: str) -> None:
        self.unreadable.add(register)
        self._add_error(error)

    def _add_forged(self, what: str) -> None:
        self.forged.append(what)

    def _add_creation(self, key: str, number: int, begun: float) -> None:
        self.creations.setdefault(key, {})[number] = begun

    def _add_void(self, key: str, begun: float, ended: float) -> None:
        self.voids.setdefault(key, []).append((begun, ended))

    def _add_created(self, key: str, number: int, begun: float, ended: float) -> None:
        self.creation_reads.append((key, number, begun, ended))

    def _add_note(self, name: str, value: float) -> None:
        self.notes[name] = max(value, self.notes.get(name, value))

    def _add_error(self, error: str) -> None:
        if error:
            self.errors[error] = self.errors.get(error, 0) + 1

    def judge(self) -> Verdict:
        """The verdict on everything reported so far."""
        with self._mutex:
            return _Judge(self).verdict()


class _Judge:
    def __init__(self, history: History) -> None:
        self.history = history
        self.found = Verdict(errors=dict(history.errors), hung=history.hung, failed_reads=history.failed_reads)
        self.kinds: dict[str, set[str]] = {"lost": set(), "forgotten": set(), "damaged": set()}
        """A register is lost once, however often that is seen."""
        # One actor writes a register, so its writes begin in the order of their numbers.
        self.ordered = {
            register: sorted(writes.values(), key=attrgetter("number")) for register, writes in history.writes.items()
        }

    def verdict(self) -> Verdict:
        found, history = self.found, self.history
        for register, writes in history.writes.items():
            self._count(register, list(writes.values()))
        found.reads = len(history.reads) + len(history.creation_reads)
        for read in history.reads:
            self._judge(read)
        for register in sorted(history.unreadable):
            self._gone(register, "cannot be read after the fault", 0.0, float("inf"))
        for what in history.forged:
            self._foreign(what)
        self._judge_creations()
        self._spend_damage()
        for where in history.hangs:
            self._note(f"hung in {where}")
        found.lost += len(self.kinds["lost"])
        found.forgotten = len(self.kinds["forgotten"] - self.kinds["lost"])
        found.damaged = len(self.kinds["damaged"])
        found.recovery = max([found.recovery, *(self._recovery(fault) for fault in history.faults)])
        return found

    def _count(self, register: str, writes: list[Write]) -> None:
        for write in writes:
            if write.outcome == ACKNOWLEDGED and write.ended is not None:
                self.found.acknowledged += 1
                self.found.took.append(write.ended - write.begun)
            elif write.outcome == FAILED:
                self.found.failed += 1
            else:
                self.found.indeterminate += 1

    def _judge(self, read: Read) -> None:
        writes = self.history.writes.get(read.register, {})
        owner = read.register.rpartition(" ")[0]
        if read.owner is not None and read.owner != owner:
            self._foreign(f"{read.register} held a value of {read.owner}")
            return
        # What was the last acknowledged write before the read began, and what may have come on top of it?
        floor, possible = None, []
        in_cache = read.register.startswith("cache ")
        ordered = self.ordered.get(read.register, [])
        for index in reversed(range(bisect_right(ordered, read.ended, key=attrgetter("begun")))):
            write = ordered[index]
            if write.outcome == ACKNOWLEDGED and write.ended is not None and write.ended <= read.begun:
                floor = write
                break
            if write.outcome != FAILED:
                possible.append(write.seen())
                if in_cache and write.outcome == UNKNOWN:
                    # The next read of it first removes what is left: the value of before must not be served.
                    possible.append(None)
        possible.append(None if floor is None else floor.seen())
        if read.number in possible:
            return
        if read.number is None:
            why = f"number {floor and floor.number} is gone"
            self._gone(read.register, why, floor.begun if floor else 0.0, read.ended)
        elif read.number == TORN:
            self._foreign(f"{read.register} held a value whose parts do not belong together")
        elif read.number not in writes or writes[read.number].begun > read.ended:
            self._foreign(f"{read.register} held {read.number}, which was never written")
        else:
            self._outdated(read, writes[read.number], floor)

    def _outdated(self, read: Read, origin: Write, floor: Write | None) -> None:
        # A plain write that was sent and not acknowledged may still arrive at its server; a session's is conditional.
        if origin.outcome == UNKNOWN and read.register.startswith("cache "):
            self.found.late += 1
            return
        ended = floor is not None and floor.erases
        why = "failed" if origin.outcome == FAILED else "came back after its end" if ended else "is older than the last"
        self.kinds["lost"].add(read.register)
        self._note(f"{read.register} held {read.number}, which {why}")

    def _gone(self, register: str, why: str, written: float, read: float) -> None:
        if any(fault.excuses(register, written, read) for fault in self.history.faults):
            self.kinds["forgotten"].add(register)
        elif self.history.damage is not None:
            self.kinds["damaged"].add(register.rpartition(" ")[0])
        else:
            self.kinds["lost"].add(register)
            self._note(f"{register}: {why}")

    def _judge_creations(self) -> None:
        for key, number, begun, ended in self.history.creation_reads:
            self.found.acknowledged += 1
            self.found.took.append(ended - begun)
            if any(fault.begun <= ended for fault in self.history.faults):
                self.found.recovery = max(self.found.recovery, ended - begun)
            created = self.history.creations.get(key, {}).get(number)
            if created is None:
                self._foreign(f"{key} held {number}, which was never created for it")
            elif any(void[1] <= begun and created < void[0] for void in self.history.voids.get(key, ())):
                self.found.lost += 1
                self._note(f"{key} held {number}, created before an invalidation that had returned")

    def _spend_damage(self) -> None:
        gone = self.kinds["damaged"]
        # The record that ends of sessions go by was among them: without it no session opens.
        if not any(self._survived(read) for read in self.history.reads):
            gone = {name for name in gone if not name.startswith("session ")}
        excess = len(gone) - (self.history.damage or 0)
        if excess > 0:
            self.found.lost += excess
            self._note(f"{excess} more records are gone than were damaged")

    def _survived(self, read: Read) -> bool:
        later = read.begun >= self.history.damaged_at
        return later and read.number is not None and read.register.startswith("session ")

    def _recovery(self, fault: Fault) -> float:
        """Seconds from the end of the fault until every actor that still worked had written again."""
        first: dict[str, float] = {}
        for writes in self.history.writes.values():
            for write in writes.values():
                if write.outcome == ACKNOWLEDGED and write.ended is not None and write.begun >= fault.ended:
                    first[write.slot] = min(first.get(write.slot, write.ended), write.ended)
        return max(first.values(), default=fault.ended) - fault.ended

    def _foreign(self, what: str) -> None:
        self.found.foreign += 1
        self._note(what)

    def _note(self, what: str) -> None:
        if len(self.found.evidence) < 10:
            self.found.evidence.append(what)
