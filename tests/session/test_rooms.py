"""The walk of docs/architecture.md: a save goes from room to room, and through each door once."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import beaker
from beaker.middleware import SessionMiddleware
from beaker.testing import Browser

SECRET = "a-key-of-this-test-7b1f02c9e4d85a63f1"
PACKAGE = Path(beaker.__file__).parent
DOORS = [
    ("session/base.py", "session/backends/server.py", "save"),
    ("session/backends/server.py", "session/records.py", "replace"),
    ("session/records.py", "storage/memory.py", "replace"),
]


def counting(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
    session = environ["beaker.session"]
    session["visits"] = session.get("visits", 0) + 1
    session.save()
    start("200 OK", [("Content-Type", "text/plain")])
    return [str(session["visits"]).encode()]


def room(frame: FrameType | None) -> str:
    path = Path(frame.f_code.co_filename) if frame is not None else Path("/")
    return str(path.relative_to(PACKAGE)) if path.is_relative_to(PACKAGE) else ""


def test_a_save_enters_each_room_once() -> None:
    """Session, backend, records, store: one call leads from each to the next, and none leads back up."""
    browser = Browser(SessionMiddleware(counting, type="memory", secret=SECRET))
    assert browser.get("/").text == "1"
    entered: Counter[tuple[str, str, str]] = Counter()

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            here, there = room(frame.f_back), room(frame)
            if here != there and here and there:
                entered[here, there, frame.f_code.co_name] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        assert browser.get("/").text == "2"
    finally:
        sys.setprofile(before)
    assert {door: entered[door] for door in DOORS} == dict.fromkeys(DOORS, 1)
    order = [there for _, there, _ in DOORS]
    back = [door for door in entered if door[0] in order and door[1] == "session/base.py"]
    assert back == [], "a backend, the records or the store call the session"
