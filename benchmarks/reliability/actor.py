"""One client: does operations through the public interface of any Beaker and reports each, before and after.

Imports the standard library, ``beaker`` and ``benchmarks.racing`` only, so that it runs on Beaker 1.14.1 too.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from typing import Any

from beaker import exceptions
from beaker.cache import CacheManager
from beaker.util import parse_cache_config_options
from benchmarks.racing import Browser

Report = Callable[[list[Any]], None]

CERTAIN = {"SessionTooLarge", "StoreRefused", "ValueTooLarge", "WriteConflict"}
"""Errors of this Beaker that promise that nothing was written. Any other one leaves it open."""
SHARED, BYSTANDER = "session shared", "session bystander"
PREPARING = 45.0
"""Seconds within which a store must have taken the first two sessions."""
PROMISES = hasattr(exceptions, "StoreUnavailable")


class Door:
    """The ways into one store: an application with sessions, and a cache."""

    def __init__(self, session: dict[str, Any], cache: dict[str, Any]) -> None:
        self.browser = Browser({f"session.{name}": value for name, value in session.items()})
        options = parse_cache_config_options({f"cache.{name}": value for name, value in cache.items()})
        self.cache = CacheManager(**options).get_cache("reliability")


def content(owner: str, number: int) -> dict[str, Any]:
    """The value of a register: between 30 and 2,000 bytes of which each part can be checked."""
    return {"owner": owner, "number": number, "text": f"{owner}:{number};" * (1 + number * 7 % 60)}


def origin(value: Any) -> tuple[str | None, int | None]:
    """Whose the value is, and which of its owner's; the number is -1 when its parts do not belong together."""
    if value is None:
        return None, None
    try:
        owner, number = value["owner"], value["number"]
        return owner, (number if value == content(owner, number) else -1)
    except (KeyError, TypeError):
        return None, -1


class Actor:
    """``step`` does one operation. ``name`` is its own among all actors of a run, restarted ones too.

    - ``slot``: the name of its place in the run, kept when it is restarted.
    - ``cookies``: of the sessions that all actors share.
    - ``sessions``: how many live sessions of its own it keeps.
    - ``shares``: whether it writes to the session that all share. What lives in cookies has one writer.
    """

    def __init__(
        self,
        slot: str,
        name: str,
        door: Door,
        report: Report,
        cookies: dict[str, str],
        sessions: int = 30,
        *,
        shares: bool = True,
    ) -> None:
        self.slot, self.name, self.door, self.report = slot, name, door, report
        self.cookies = cookies
        self.limit = sessions
        self.shares = shares
        self.random = random.Random(name)
        self.own: dict[str, str] = {}
        self.written: set[str] = set()
        self._names = itertools.count()
        self._numbers = itertools.count(1)

    def prepare(self) -> None:
        """Create the sessions that all share. Raises RuntimeError when the store does not take them."""
        end = time.monotonic() + PREPARING
        for name in (SHARED, BYSTANDER):
            # An emulator that has just started may need longer than a call may take, for several calls.
            while not (cookie := self._write_session(name, "", "first")):
                if time.monotonic() >= end:
                    raise RuntimeError(f"the store takes no session: {self.door.browser.error!r}")
                time.sleep(0.2)
            self.cookies[name] = cookie

    def step(self) -> None:
        """One operation on a session or on the cache, drawn at random."""
        draw = self.random.random()
        if draw < 0.5:
            self._session_step(draw * 2)
        else:
            self._cache_step(draw * 2 - 1)

    def _session_step(self, draw: float) -> None:
        if draw < 0.2 or not self.own:
            self.login()
        elif draw < (0.55 if self.shares else 0.7):
            name = self.random.choice(list(self.own))
            self._write_session(name, self.own[name], "value")
        elif draw < 0.7:
            self._write_session(SHARED, self.cookies[SHARED], self.name)
        elif draw < 0.8 or (not self.shares and 0.85 <= draw < 0.9):
            self.read_session(*self.random.choice(list(self.own.items())), "value")
        elif draw < 0.85:
            self.read_session(BYSTANDER, self.cookies[BYSTANDER], "first")
        elif draw < 0.9:
            self.read_session(SHARED, self.cookies[SHARED], self.name)
        else:
            self.logout(self.random.choice(list(self.own)))

    def _cache_step(self, draw: float) -> None:
        key = f"{self.name}.{self.random.randrange(16)}"
        if draw < 0.5:
            self.write_cache(key)
        elif draw < 0.9:
            self.read_cache(key)
        else:
            self.write_cache(key, erases=True)

    def login(self) -> None:
        """A session of this actor's own, in the place of its oldest when it has enough."""
        if len(self.own) >= self.limit:
            self.logout(next(iter(self.own)))
        name = f"session {self.name}-{next(self._names)}"
        cookie = self._write_session(name, "", "value")
        if cookie:
            self.own[name] = cookie

    def logout(self, name: str) -> None:
        """End the session, then see whether its cookie still opens it."""
        cookie = self.own.pop(name)
        number = next(self._numbers)
        self.report(["begin", self.slot, f"{name} value", number, time.monotonic(), True])

        def end(session: Any) -> bool:
            session.get("value")
            session.delete()
            return True

        _, done = self.door.browser.request(cookie, end)
        self._end(f"{name} value", number, self.door.browser.error, done)
        self.read_session(name, cookie, "value")

    def _write_session(self, name: str, cookie: str, key: str) -> str | None:
        """Write one key of the session; the cookie to send from now on, ``None`` when it was not written."""
        register, number = f"{name} {key}", next(self._numbers)
        begun = time.monotonic()
        self.report(["begin", self.slot, register, number, begun, False])
        found: list[Any] = []

        def write(session: Any) -> bool:
            if cookie:
                found.append(session.get(key))
                owner = session.get("owner")
                if owner is None:
                    return False
            session["owner"] = name
            session[key] = content(name, number)
            session.save()
            return True

        sent, done = self.door.browser.request(cookie, write)
        error = self.door.browser.error
        if done and sent:
            # Known before the write is: a client that is killed in between may send the new cookie.
            self.report(["cookie", name, sent])
            if name in self.own:
                self.own[name] = sent
        self._end(register, number, error, done and bool(cookie or sent))
        if found and error is None:
            self.report(["read", register, *origin(found[0]), begun, time.monotonic()])
        if done is False:
            # The store has forgotten the session, and so does its browser.
            self.own.pop(name, None)
        return (sent or cookie) if done else None

    def read_session(self, name: str, cookie: str, key: str) -> Exception | None:
        """Read one key with that cookie, from whatever session it opens."""
        begun = time.monotonic()

        def read(session: Any) -> Any:
            return session.get("owner"), session.get(key)

        _, found = self.door.browser.request(cookie, read)
        error = self.door.browser.error
        if error is not None:
            self.report(["failed", type(error).__name__])
            return error
        owner, value = found
        whose, number = origin(value)
        self.report(["read", f"{name} {key}", owner if whose is None else whose, number, begun, time.monotonic()])
        return None

    def write_cache(self, key: str, *, erases: bool = False) -> None:
        """Put a value, or remove it."""
        owner, number = f"cache {key}", next(self._numbers)
        self.report(["begin", self.slot, f"{owner} value", number, time.monotonic(), erases])
        error: Exception | None = None
        try:
            if erases:
                self.door.cache.remove_value(key)
            else:
                self.door.cache.put(key, content(owner, number))
        except Exception as failure:
            error = failure
        self._end(f"{owner} value", number, error, True)

    def read_cache(self, key: str) -> Exception | None:
        """Read a value; a miss is one."""
        begun = time.monotonic()
        try:
            value = self.door.cache.get_value(key)
        except KeyError:
            value = None
        except Exception as error:
            self.report(["failed", type(error).__name__])
            return error
        self.report(["read", f"cache {key} value", *origin(value), begun, time.monotonic()])
        return None

    def create(self, name: str, pause: float) -> None:
        """Get a value that the cache creates when it has none, or void it; all actors share three keys."""
        key = f"{name} {self.random.randrange(3)}"
        begun = time.monotonic()
        if self.random.random() < 0.3:
            try:
                self.door.cache.remove_value(key)
            except Exception as error:
                self.report(["failed", type(error).__name__])
            else:
                self.report(["void", key, begun, time.monotonic()])
            return

        def create() -> dict[str, Any]:
            # A number that no other actor has.
            number = self.random.getrandbits(60)
            self.report(["creation", key, number, time.monotonic()])
            time.sleep(self.random.random() * pause)
            return {"owner": key, "number": number}

        try:
            value = self.door.cache.get(key, createfunc=create)
        except Exception as error:
            self.report(["failed", type(error).__name__])
        else:
            number = value["number"] if value.get("owner") == key else -1
            self.report(["created", key, number, begun, time.monotonic()])

    def flood(self, count: int) -> None:
        """Requests with ids that were never given out."""
        name, _, value = self.cookies[BYSTANDER].partition("=")
        for turn in range(count):
            forged = f"{self.random.getrandbits(256):064x}" if turn % 2 else _changed(value, self.random)
            _, found = self.door.browser.request(f"{name}={forged}", lambda session: session.get("owner"))
            if found is not None:
                self.report(["forged", f"a forged id opened {found}"])

    def _end(self, register: str, number: int, error: Exception | None, done: Any) -> None:
        name = type(error).__name__ if error is not None else ""
        if error is None:
            outcome = "acknowledged" if done else "failed"
        else:
            outcome = "failed" if PROMISES and name in CERTAIN else "unknown"
        self.report(["end", register, number, time.monotonic(), outcome, name])


def _changed(value: str, source: random.Random) -> str:
    # Not near the end, where the last bits of base64 may mean nothing.
    place = source.randrange(len(value) - 4)
    return value[:place] + ("A" if value[place] != "A" else "B") + value[place + 1 :]
