"""Races over one session, through any Beaker's SessionMiddleware: what benchmarks/concurrency.py runs for each.

Reads a spec from standard input as JSON and prints the outcome as JSON. Imports ``beaker`` and the standard library
only, so that the same races run on this Beaker and on Beaker 1.14.1, each in its own interpreter.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import queue
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from beaker.middleware import SessionMiddleware

RACERS = 8
SPAWN = multiprocessing.get_context("spawn")
Handler = Callable[[Any], Any]


class Browser:
    """Requests through the middleware with one cookie. An exception of a request is counted and ends only it."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.handler: Handler = lambda session: None
        self.answer: Any = None
        self.errors = 0
        self.error: Exception | None = None
        self.app = SessionMiddleware(self._application, config)
        # Clients are imported and connected before anything is timed.
        self.request("", put(warm=1))

    def _application(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.answer = self.handler(environ["beaker.session"])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"."]

    def request(self, cookie: str, handler: Handler) -> tuple[str | None, Any]:
        """The cookie the response sets (empty: dropped, ``None``: none), and what the handler returned."""
        environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SERVER_NAME": "x", "SERVER_PORT": "80"}
        environ |= {"wsgi.url_scheme": "http", "HTTP_COOKIE": cookie, "wsgi.multiprocess": True}
        sent: list[tuple[str, str]] = []

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
            sent[:] = headers
            return lambda data: None

        self.handler, self.answer, self.error = handler, None, None
        try:
            body = self.app(environ, start)
            for _ in body:
                pass
            close = getattr(body, "close", None)
            if close is not None:
                close()
        except Exception as error:
            self.errors += 1
            self.error = error
            print(f"{type(error).__name__}: {error}"[:200], file=sys.stderr)
            return None, None
        answer = self.answer
        for name, value in sent:
            if name.lower() == "set-cookie":
                head, _, attributes = value.partition(";")
                # Old Beakers drop a cookie by a date in the past, not by its age. A token may have 1970 in it, too.
                dropped = "max-age=0" in attributes.lower() or "1970" in attributes or head.endswith("=")
                return ("" if dropped else head), answer
        return None, answer


class Team:
    """The racers of one run: processes, or threads where the store is one process's memory."""

    def __init__(self, spec: dict[str, Any], gate: Any, cookie: Any, report: Any) -> None:
        self.spec, self.gate, self.cookie, self.report = spec, gate, cookie, report

    def run(self, target: Callable[[Team, int], None]) -> list[Any]:
        threads = self.spec["threads"]
        racers = [
            threading.Thread(target=target, args=(self, number))
            if threads
            else SPAWN.Process(target=target, args=(self, number))
            for number in range(RACERS)
        ]
        for racer in racers:
            racer.start()
        reports = [self.report.get(timeout=3000) for _ in racers]
        for racer in racers:
            racer.join(60)
        return reports


def increment(session: Any) -> None:
    """One addition, in the best way the Beaker at hand has."""
    if hasattr(session, "increment"):
        session.increment("n")
    else:
        session["n"] = session.get("n", 0) + 1


def put(**values: Any) -> Handler:
    def handler(session: Any) -> None:
        session.update(values)
        session.save()

    return handler


def saves(team: Team, number: int) -> None:
    """R2 and R4: many saves of one session, of distinct keys or of one counter."""
    browser, took = Browser(team.spec["config"]), []
    team.gate.wait(300)
    cookie = team.cookie.value
    for i in range(team.spec["count"]):

        def handler(session: Any, key: str = f"{number}-{i}") -> None:
            if team.spec["race"] == "R2":
                session[key] = key
            else:
                increment(session)
            session.save()

        started = time.perf_counter()
        browser.request(cookie, handler)
        took.append(time.perf_counter() - started)
    team.report.put({"took": took, "errors": browser.errors})


def visits(team: Team, number: int) -> None:
    """R5: sessions in which two to four requests collide, then as many without a collision."""
    browser, cookies = Browser(team.spec["config"]), team.spec["cookies"]
    took: dict[str, list[float]] = {"together": [], "alone": []}
    for way in took:
        for i, cookie in enumerate(cookies):
            place = (number - i) % RACERS
            team.gate.wait(300)
            if place >= 2 + i % 3:
                continue
            mine = cookie if way == "together" else team.spec["own"][number]

            def handler(session: Any, key: str = f"{way}-{place}") -> None:
                session[key] = key
                session.save()

            started = time.perf_counter()
            browser.request(mine, handler)
            took[way].append(time.perf_counter() - started)
    team.report.put({**took, "errors": browser.errors})


def endings(team: Team, number: int) -> None:
    """R6 and R7: one request ends the session, or renews its id, while 21 other requests are in flight.

    ``count`` times, or for the ``seconds`` of the spec if that is less.
    """
    config, regenerate = team.spec["config"], team.spec["race"] == "R7"
    browsers = [Browser(config) for _ in range(3)]
    found = dict.fromkeys(("turns", "alive", "cookies", "dropped", "errors"), 0)
    team.gate.wait(300)
    end = time.monotonic() + team.spec.get("seconds", math.inf)
    for turn in range(team.spec["count"]):
        leading = turn % RACERS == number
        old = ""
        if leading and turn and time.monotonic() >= end:
            # One ends it for all.
            team.cookie.value = None
        elif leading:
            old = browsers[0].request("", put(secret="s", turn=turn))[0] or ""
            team.cookie.value = old
        team.gate.wait(300)
        cookie = team.cookie.value
        if cookie is None:
            break
        found["turns"] += leading
        if leading:
            team.gate.wait(300)
            new = browsers[0].request(cookie, _renew if regenerate else _end)[0]
        else:
            found["cookies"] += _under_way(browsers, cookie, team.gate, turn)
        team.gate.wait(300)
        if leading:
            found["alive"] += browsers[0].request(old, lambda session: session.get("secret"))[1] is not None
            if regenerate:
                seen = browsers[0].request(new or "", lambda session: (session.get("secret"), session.get("user")))[1]
                found["dropped"] += seen != ("s", "ann")
    found["errors"] = sum(browser.errors for browser in browsers)
    team.report.put(found)


def _end(session: Any) -> None:
    session.get("secret")
    session.delete()


def _renew(session: Any) -> None:
    session.get("secret")
    session.regenerate_id()
    session["user"] = "ann"
    session.save()


def _under_way(browsers: list[Browser], cookie: str, gate: Any, turn: int) -> int:
    """Three nested requests, all of which have loaded the session before the gate opens; how many got a cookie."""
    sent: list[str | None] = []

    def enter(depth: int) -> None:
        def handler(session: Any) -> None:
            session.get("secret")
            if depth + 1 < len(browsers):
                enter(depth + 1)
            else:
                gate.wait(300)
            # Two of three write, the third only reads.
            if depth != turn % 3:
                session[f"late {depth}"] = turn
                session.save()

        sent.append(browsers[depth].request(cookie, handler)[0])

    enter(0)
    return sum(bool(cookie) for cookie in sent)


def summary(values: list[float]) -> dict[str, float]:
    values = sorted(values)
    return {"p50": values[len(values) // 2], "p99": values[int(len(values) * 0.99)], "max": values[-1]}


def race(spec: dict[str, Any]) -> dict[str, Any]:
    """Run one race; what it lost and how long it took."""
    threads = spec["threads"]
    cookie = SPAWN.Manager().Namespace()
    cookie.value = ""
    gate: Any = threading.Barrier(RACERS) if threads else SPAWN.Barrier(RACERS)
    report: Any = queue.Queue() if threads else SPAWN.Queue()
    team = Team(spec, gate, cookie, report)
    browser, kind, count = Browser(spec["config"]), spec["race"], spec["count"]
    started = time.perf_counter()
    if kind in ("R2", "R4"):
        cookie.value = browser.request("", put(first=1))[0]
        reports = team.run(saves)
        _, end = browser.request(cookie.value, dict)
        kept = sum(f"{r}-{i}" in end for r in range(RACERS) for i in range(count)) if kind == "R2" else end.get("n", 0)
        outcome = {"wanted": RACERS * count, "kept": kept, **summary([s for r in reports for s in r["took"]])}
    elif kind == "R5":
        spec["cookies"] = [browser.request("", put(first=1))[0] for _ in range(count)]
        spec["own"] = [browser.request("", put(first=1))[0] for _ in range(RACERS)]
        reports = team.run(visits)
        lost = 0
        for i, mine in enumerate(spec["cookies"]):
            _, end = browser.request(mine, dict)
            lost += sum(f"together-{place}" not in end for place in range(2 + i % 3))
        together = summary([s for r in reports for s in r["together"]])
        alone = summary([s for r in reports for s in r["alone"]])
        outcome = {"wanted": sum(2 + i % 3 for i in range(count)), "lost": lost, **together}
        outcome["overhead p99"] = together["p99"] - alone["p99"]
    else:
        reports = team.run(endings)
        outcome = {"wanted": sum(r["turns"] for r in reports)}
        outcome |= {name: sum(r[name] for r in reports) for name in ("alive", "cookies", "dropped")}
    outcome["errors"] = sum(r["errors"] for r in reports)
    outcome["seconds"] = time.perf_counter() - started
    return outcome


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(race(json.load(sys.stdin))))
