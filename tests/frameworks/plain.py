"""What WSGI lets an application do, and what it does not, one case each; and the words all applications here share."""

from __future__ import annotations

import functools
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

# More than one block of any server.
FILE = Path(__file__)

Environ = dict[str, Any]


def visit(environ: Environ) -> None:
    """What an application does with its session, where it has one."""
    session = environ.get("beaker.session")
    if session is not None and not environ.get("frameworks.untouched") and environ["PATH_INFO"] != "/count":
        session["visits"] = session.get("visits", 0) + 1
        session.save()


def count(environ: Environ) -> str:
    session = environ.get("beaker.session")
    return "none" if session is None else str(session.get("visits", 0))


class Broken(Exception):
    """What an application of this module raises on purpose."""


def chunks(*items: bytes | None) -> Iterator[bytes]:
    """A body that yields the items and raises at a ``None``."""
    for item in items:
        if item is None:
            raise Broken("the body fails")
        yield item


STREAMS: dict[str, tuple[bytes | None, ...]] = {
    "stream": (b"one", b"two", b"three"),
    "stream-empty-first": (b"", b"one", b"", b"two"),
    "stream-only-empty": (b"", b""),
    "stream-nothing": (),
    "raise-first": (None,),
    "raise-second": (b"one", None),
    "raise-after-empty": (b"", None),
}


PLAIN = [("Content-Type", "text/plain")]
Start = Callable[..., Callable[[bytes], object]]
Case = Callable[[Environ, Start], Iterable[bytes]]


class Sized:
    """A body of our own that knows its length."""

    def __init__(self, *items: bytes) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.items)


class StartsInIter:
    """A body that starts its response when the server begins to iterate."""

    def __init__(self, start: Start) -> None:
        self.start = start

    def __iter__(self) -> Iterator[bytes]:
        self.start("200 OK", PLAIN)
        return iter([b"late"])


def started(body: Callable[[], Any], status: str = "200 OK", headers: Any = PLAIN) -> Case:
    def case(environ: Environ, start: Start) -> Iterable[bytes]:
        start(status, list(headers))
        result: Iterable[bytes] = body()
        return result

    return case


def late(environ: Environ, start: Start) -> Iterator[bytes]:
    start("200 OK", list(PLAIN))
    yield b"late"


def late_and_empty(environ: Environ, start: Start) -> Iterator[bytes]:
    start("200 OK", list(PLAIN))
    yield b""
    yield b"late"


def too_late(environ: Environ, start: Start) -> Iterator[bytes]:
    yield b"too late"
    start("200 OK", list(PLAIN))


def never(environ: Environ, start: Start) -> Iterable[bytes]:
    return [b"no response was started"]


def write(*items: bytes, body: Iterable[bytes] = ()) -> Case:
    def case(environ: Environ, start: Start) -> Iterable[bytes]:
        writer = start("200 OK", list(PLAIN))
        for item in items:
            writer(item)
        return body

    return case


def write_and_raise(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", list(PLAIN))(b"one")
    raise Broken("after write()")


def write_late(environ: Environ, start: Start) -> Iterator[bytes]:
    start("200 OK", list(PLAIN))(b"one")
    yield b"two"


# The first calls have no headers, because gunicorn sends those of both.
def again(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [])
    try:
        raise Broken("before anything was sent")
    except Broken:
        start("503 Sorry", [("Content-Type", "text/html")], sys.exc_info())
    return [b"sorry"]


def again_in_body(environ: Environ, start: Start) -> Iterator[bytes]:
    start("200 OK", [])
    try:
        raise Broken("before anything was sent")
    except Broken:
        start("503 Sorry", [("Content-Type", "text/html")], sys.exc_info())
    yield b"sorry"


def again_after(*items: bytes) -> Case:
    def case(environ: Environ, start: Start) -> Iterator[bytes]:
        start("200 OK", list(PLAIN))
        yield from items
        try:
            raise Broken("after chunks")
        except Broken:
            start("503 Sorry", [("Content-Type", "text/html")], sys.exc_info())
        yield b"sorry"

    return case


def twice(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", list(PLAIN))
    start("503 Sorry", list(PLAIN))
    return [b"never"]


def wrapped_file(source: Callable[[], Any], *headers: tuple[str, str]) -> Case:
    def case(environ: Environ, start: Start) -> Iterable[bytes]:
        start("200 OK", [*PLAIN, *headers])
        wrapper = environ.get("wsgi.file_wrapper", lambda file: iter(lambda: file.read(8192), b""))
        body: Iterable[bytes] = wrapper(source())
        return body

    return case


CASES: dict[str, Case] = {
    "page": started(lambda: [b"hello"]),
    "count": lambda environ, start: (start("200 OK", list(PLAIN)), [count(environ).encode()])[1],
    "list-empty": started(list),
    "list-of-empty": started(lambda: [b""]),
    "tuple": started(lambda: (b"one", b"two")),
    "no-content": started(list, "204 No Content", []),
    "no-content-chunk": started(lambda: iter([b""]), "204 No Content", []),
    "not-modified": started(lambda: iter([b""]), "304 Not Modified", [("ETag", '"x"')]),
    "length": started(lambda: chunks(b"one", b"two"), headers=[*PLAIN, ("Content-Length", "6")]),
    "length-empty-first": started(lambda: chunks(b"", b"one"), headers=[*PLAIN, ("Content-Length", "3")]),
    "length-zero": started(lambda: chunks(b""), headers=[*PLAIN, ("Content-Length", "0")]),
    "length-wrong": started(lambda: chunks(b"one"), headers=[*PLAIN, ("Content-Length", "6")]),
    "sized": started(lambda: Sized(b"one")),
    "sized-empty": started(lambda: Sized(b"")),
    "sized-two": started(lambda: Sized(b"one", b"two")),
    "not-iterable": started(lambda: None),
    "own-headers": started(
        lambda: [b"x"], headers=[*PLAIN, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Last", "1")]
    ),
    "bad-header": started(lambda: [b"x"], headers=[("X-Bad", "a\nb")]),
    "hop-by-hop": started(lambda: [b"x"], headers=[*PLAIN, ("Keep-Alive", "timeout=1")]),
    "late": late,
    "late-and-empty": late_and_empty,
    "late-in-iter": lambda environ, start: StartsInIter(start),
    "too-late": too_late,
    "never": never,
    "write": write(b"one", b"two"),
    "write-and-body": write(b"one", body=[b"two"]),
    "write-and-stream": lambda environ, start: write(b"one", body=chunks(b"", b"two"))(environ, start),
    "write-empty": write(b"", body=[b"one"]),
    "write-late": write_late,
    "write-and-raise": write_and_raise,
    "again": again,
    "again-in-body": again_in_body,
    "again-after-empty": again_after(b""),
    "again-after-chunk": again_after(b"one"),
    "twice": twice,
    "file": wrapped_file(lambda: FILE.open("rb")),
    "file-with-length": wrapped_file(lambda: FILE.open("rb"), ("Content-Length", str(FILE.stat().st_size))),
    "file-in-memory": wrapped_file(lambda: io.BytesIO(b"in memory")),
    "file-empty": wrapped_file(io.BytesIO),
}
for _name, _items in STREAMS.items():
    CASES[_name] = started(functools.partial(chunks, *_items))


def wsgi() -> Any:
    """PEP 3333 itself."""

    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        visit(environ)
        return CASES[environ["PATH_INFO"].strip("/")](environ, start)

    return app
