"""Frameworks' responses on real servers, bare and behind each of our middlewares: the same, byte for byte."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from tests.frameworks.conftest import SERVERS
from tests.frameworks.exchange import Client, Exchange
from tests.servers import Server

COOKIE = "beaker.session.id"
TYPES = ("memory", "file", "cookie", "hybrid")
UNTOUCHED = ("untouched", "cache")

STREAMS = (
    "stream", "stream-empty-first", "stream-only-empty", "stream-nothing", "raise-first", "raise-second",
    "raise-after-empty",
)  # fmt: skip
COMMON = ("page", "empty", "no-content", "not-modified", "redirect", "file", *STREAMS)
CASES: dict[str, tuple[str, ...]] = {
    "flask": (*COMMON, "empty-response", "abort", "raise", "stream-with-context"),
    "django": (*COMMON, "not-found", "raise"),
    "pyramid": (*COMMON, "raise"),
    "bottle": (*COMMON, "none", "raise"),
    "webob": (*COMMON, "empty-iter", "empty-chunk", "conditional"),
    "functions": (*(name for name in COMMON if name != "stream-only-empty"), "empty-response", "abort", "raise"),
    "wsgi": (
        "page", "list-empty", "list-of-empty", "tuple", "no-content", "no-content-chunk", "not-modified", "length",
        "length-empty-first", "length-zero", "length-wrong", "sized", "sized-empty", "sized-two", "not-iterable",
        "own-headers", "bad-header", "hop-by-hop", "late", "late-and-empty", "late-in-iter", "too-late", "never",
        "write", "write-and-body", "write-and-stream", "write-empty", "write-late", "write-and-raise", "again",
        "again-in-body", "again-after-empty", "again-after-chunk", "twice", "file", "file-with-length",
        "file-in-memory", "file-empty", *STREAMS,
    ),
}  # fmt: skip
VARIANTS = dict.fromkeys(CASES, (*TYPES, *UNTOUCHED, "compose")) | {"functions": TYPES}

# Sent without start_response: no header can be added to these, and servers treat them in their own ways.
UNSTARTED = ("too-late", "never")


class Seen(NamedTuple):
    """One response, and what the visitor's next request found in the session when the response had a cookie."""

    response: Exchange
    cookies: list[str]
    visits: str | None


def visits(client: Client, site: str, cookies: list[str]) -> str:
    told = client.ask("GET", f"{site}/count", "; ".join(line.partition(";")[0] for line in cookies))
    # The body of a page may come in one chunk.
    return re.sub(r"\A1\r\n(.)\r\n0\r\n\r\n\Z", r"\1", told.body.decode())


def ask(client: Client, site: str, case: str, method: str) -> Seen:
    # A server waits for the rest of a body that is too short, unless it may close.
    response = client.ask(method, f"{site}/{case}", last=case == "length-wrong")
    cookies = [line for line in response.all("set-cookie") if line.startswith(f"{COOKIE}=")]
    return Seen(response, cookies, visits(client, site, cookies) if cookies and method == "GET" else None)


def visit(port: int, framework: str, variant: str) -> dict[tuple[str, str], Seen]:
    """Every case by one client, so that each response shows what the one before it has left of the connection."""
    methods = ("GET", "HEAD") if variant in ("bare", "memory", "cookie") else ("GET",)
    with contextlib.closing(Client(port)) as client:
        return {
            (method, case): ask(client, f"/{variant}/{framework}", case, method)
            for case in CASES[framework]
            for method in methods
        }


def headers(response: Exchange, variant: str) -> list[tuple[str, str]]:
    """The headers without the date, and without what a session adds or completes."""
    ours = () if variant in UNTOUCHED else ("vary", "cache-control")
    return [
        (name, value)
        for name, value in response.headers
        if name.lower() not in ("date", *ours) and not value.startswith(f"{COOKIE}=")
    ]


def differences(bare: Seen, wrapped: Seen, variant: str, case: str) -> Iterator[str]:
    expected, got = bare.response, wrapped.response
    pairs = {
        "headers": (headers(expected, variant), headers(got, variant)),
        **{name: (getattr(expected, name), getattr(got, name)) for name in ("status", "body", "complete")},
    }
    for name, (was, became) in pairs.items():
        if was != became:
            yield f"{name}: {was!r:.300} became {became!r:.300}"
    started = re.match(r"HTTP/1\.\d [234]\d\d", expected.status) and case not in UNSTARTED
    if variant in UNTOUCHED:
        if wrapped.cookies:
            yield "a session cookie"
    elif started and len(wrapped.cookies) != 1:
        yield f"{len(wrapped.cookies)} session cookies"
    if wrapped.visits not in (None, "1"):
        yield f"the cookie leads to a session with {wrapped.visits} visits"


@pytest.mark.parametrize("framework", CASES)
@pytest.mark.parametrize("server", SERVERS)
def test_the_same_with_and_without_us(served: Callable[[str], Server], server: str, framework: str) -> None:
    """Status, headers, body and framing are those of the bare application; a cookie sent leads to what was saved."""
    port = served(server).port
    with ThreadPoolExecutor(max_workers=4) as pool:
        variants = ("bare", *VARIANTS[framework])
        seen = dict(zip(variants, pool.map(lambda variant: visit(port, framework, variant), variants), strict=True))
    bare = seen.pop("bare")
    wrong = [
        f"{method} {case} behind {variant}: {text}"
        for variant, responses in seen.items()
        for (method, case), response in responses.items()
        for text in differences(bare[method, case], response, variant, case)
    ]
    assert not wrong, "\n".join(wrong)
