"""What the processes of tests/session/test_process_races.py run. Importable, so that spawned processes find it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from beaker.config.parse import parse_session
from beaker.session.context import SessionContext
from beaker.session.proxy import SessionObject

Options = Mapping[str, Any]
Handler = Callable[[SessionObject], Any]


class Client:
    """Requests with one cookie, as a middleware would serve them; keeps what Set-Cookie says."""

    def __init__(self, options: Options, cookie: str = "") -> None:
        self.context = SessionContext(parse_session(kwargs=options))
        self.cookie = cookie
        self.headers: list[tuple[str, str]] = []

    def request(self, handler: Handler) -> Any:
        session = SessionObject({"HTTP_COOKIE": self.cookie}, context=self.context)
        answer = handler(session)
        self.headers = session.commit()
        for name, value in self.headers:
            if name == "Set-Cookie":
                self.cookie = "" if "Max-Age=0" in value else value.partition(";")[0]
        return answer

    @property
    def got_cookie(self) -> bool:
        return any(name == "Set-Cookie" for name, _ in self.headers)


def save_keys(options: Options, cookie: str, process: int, count: int, gate: Any, report: Any) -> None:
    """``count`` saves, each of a key no other process writes, each with one addition to a common counter."""
    client = Client(options, cookie)
    gate.wait(60)
    took = []
    for number in range(count):

        def save(session: SessionObject, key: str = f"{process}-{number}") -> None:
            session[key] = key
            session.increment("n")
            session.save()

        started = time.perf_counter()
        client.request(save)
        took.append(time.perf_counter() - started)
    report.put(took)


def use(options: Options, cookie: str, rounds: int, gate: Any, report: Any) -> None:
    """Reads and writes until the session is gone, noting every cookie that was sent."""
    client = Client(options, cookie)
    gate.wait(60)
    sent = []
    for number in range(rounds):

        def touch(session: SessionObject, number: int = number) -> Any:
            seen = session.get("secret")
            session["from reader"] = number
            session.save()
            return seen

        client.request(touch)
        if client.got_cookie:
            sent.append(client.cookie)
        client.cookie = cookie
    report.put(sent)
