"""A JSON service for Cloud Run: a slow computation in the cache, each client's count in its session."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import Any

from beaker.cache import cache_region
from gae.app import compose

LARGEST = 2_000_000


@cache_region("numbers")
def primes_below(limit: int) -> int:
    """How many primes there are below ``limit``."""
    sieve = bytearray([1]) * limit
    sieve[:2] = bytes(min(limit, 2))
    for number in range(2, int(limit**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, limit, number)))
    return sum(sieve)


def service(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """``GET /primes/1000``; ``environ["beaker.session"]`` is the client's session."""
    status, result = respond(environ)
    body = json.dumps(result).encode() + b"\n"
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def respond(environ: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The status and what to say."""
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        return "405 Method Not Allowed", {"error": "this service takes GET"}
    path, _, text = environ.get("PATH_INFO", "/").rpartition("/")
    if path != "/primes" or not (text.isascii() and text.isdecimal()) or len(text) > 9 or int(text) > LARGEST:
        return "404 Not Found", {"error": f"ask for /primes/N with N up to {LARGEST}"}
    session = environ["beaker.session"]
    asked = session.increment("asked")
    session.save()
    started = time.perf_counter()
    count = primes_below(int(text))
    took = round(time.perf_counter() - started, 4)
    return "200 OK", {"below": int(text), "primes": count, "seconds": took, "asked": asked}


app = compose(service, regions={"numbers": {"expire": 86400}})
