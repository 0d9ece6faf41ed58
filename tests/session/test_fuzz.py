"""Cookies that were never issued: mutated, swapped, misplaced, in headers of any bytes. None opens, none raises.

``BEAKER_FUZZ`` is the number of mutated cookies per type (100,000; a nightly run sets more).
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from beaker.config.parse import parse_session
from beaker.crypto.tokens import store_key
from beaker.session.base import BaseSession
from beaker.session.context import SessionContext
from beaker.session.cookies import CANDIDATES, HEADER_MAX, read_cookie
from beaker.session.opening import opener
from beaker.session.proxy import SessionObject
from beaker.session.records import NAMESPACE
from beaker.testing.session_harness import COOKIE, OTHER_SECRET, SECRET, SessionHarness
from tests.crypto.test_token_forgeries import mutate
from tests.session.places import tab_of

FUZZ = int(os.environ.get("BEAKER_FUZZ", "100000"))
KEYED = {"validate_key": SECRET, "encrypt_key": OTHER_SECRET}
TYPES: dict[str, dict[str, Any]] = {
    "id": {"type": "file", "secret": SECRET},
    "signed": {"type": "cookie", "validate_key": SECRET},
    "encrypted": {"type": "cookie", **KEYED},
    "compressed": {"type": "cookie", "validate_key": SECRET, "compress": True},
    "chunks": {"type": "cookie", "validate_key": SECRET, "chunks": 3, "cookie_max": 300},
    "hybrid small": {"type": "hybrid", "store": "file", **KEYED},
    "hybrid pointer": {"type": "hybrid", "store": "file", "cookie_max": 220, "validate_key": SECRET},
}


class Place:
    """One configuration, used without WSGI."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.context = SessionContext(parse_session(kwargs={"data_dir": str(directory), **options}))
        self.open_ = opener(self.context)

    def open(self, header: str) -> BaseSession:
        return self.open_({"HTTP_COOKIE": header}, None)

    def make(self, **values: Any) -> dict[str, str]:
        """The cookies of a new session."""
        session = SessionObject({}, context=self.context, opener=self.open_)
        session.update(values)
        session.save()
        lines = [value.partition(";")[0] for name, value in session.commit() if name == "Set-Cookie"]
        return dict(line.split("=", 1) for line in lines)


def header(cookies: dict[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in cookies.items())


@pytest.mark.parametrize("kind", TYPES)
def test_mutated_cookies_open_nothing(kind: str, tmp_path: Path) -> None:
    """A hundred thousand mutations of a good cookie of each type: none accepted, no exception."""
    place = Place(tmp_path, **TYPES[kind])
    cookies = place.make(secret="s" * 400 if kind in ("chunks", "hybrid pointer") else "s")
    assert place.open(header(cookies)).get("secret"), "the cookie itself must open"
    assert kind != "chunks" or len(cookies) == 3
    seed = random.randrange(2**32)
    draw, names = random.Random(seed), list(cookies)
    for _ in range(FUZZ):
        name = draw.choice(names)
        changed = {**cookies, name: mutate(cookies[name], draw)}
        # A reader of cookies does not see what was cut off behind a semicolon or trimmed.
        if read_cookie(header(changed), name)[:1] == [cookies[name]]:
            continue
        session = place.open(header(changed))
        assert session.is_new, f"accepted, seed {seed}"
        assert session.get("secret") is None


@pytest.mark.parametrize("kind", TYPES)
def test_mutated_cookies_are_no_trouble_to_the_middleware(kind: str, tmp_path: Path) -> None:
    """The same through WSGI, a hundredth as many: a response each time, no header but Vary, and the good one works."""
    tab = tab_of({"data_dir": str(tmp_path), **TYPES[kind]})
    tab.do(SessionHarness.put(secret="s" * 400 if kind in ("chunks", "hybrid pointer") else "s"))
    cookies = dict(tab.cookies)
    seed = random.randrange(2**32)
    draw, names = random.Random(seed), list(cookies)
    for _ in range(FUZZ // 100):
        name = draw.choice(names)
        changed = {**cookies, name: mutate(cookies[name], draw)}
        if read_cookie(header(changed), name)[:1] == [cookies[name]]:
            continue
        assert tab.do_with_header(header(changed), lambda s: (s.is_new, s.get("secret"))) == (True, None), seed
        assert [name for name, _ in tab.last.headers] == ["Content-Type", "Vary"], seed
    assert tab.do_with_header(header(cookies), lambda s: s.get("secret"))


@pytest.mark.parametrize("one", TYPES)
@pytest.mark.parametrize("two", TYPES)
def test_no_cookie_is_good_for_another_type(one: str, two: str, tmp_path: Path) -> None:
    """Cookies of one type under the name and keys of another open nothing."""
    exempt = {frozenset({"signed", "compressed"}), frozenset({"signed", "chunks"}), frozenset({"compressed", "chunks"})}
    if one == two or frozenset({one, two}) in exempt:
        return
    cookies = Place(tmp_path, **TYPES[one]).make(secret="s" * 400 if one == "hybrid pointer" else "s")
    assert Place(tmp_path, **TYPES[two]).open(header(cookies)).is_new


@pytest.mark.parametrize("kind", TYPES)
def test_no_cookie_is_good_under_another_name_or_key(kind: str, tmp_path: Path) -> None:
    """A cookie of one application is refused by another that has the same key, and by its own with other keys."""
    mine, named = Place(tmp_path, **TYPES[kind]), Place(tmp_path, **TYPES[kind], key="other")
    cookies = mine.make(secret="s")
    renamed = {name.replace(COOKIE, "other"): value for name, value in cookies.items()}
    assert named.open(header(renamed)).is_new
    strange = {"secret" if "secret" in TYPES[kind] else "validate_key": OTHER_SECRET[::-1]}
    assert Place(tmp_path, **{**TYPES[kind], **strange}).open(header(cookies)).is_new
    assert not mine.open(header(cookies)).is_new


def test_parts_of_two_sessions_do_not_mix(tmp_path: Path) -> None:
    """The further cookies of one session are refused behind the first of another."""
    place = Place(tmp_path, **TYPES["chunks"])
    one, two = place.make(a="1" * 400), place.make(a="2" * 400)
    for name in one:
        assert place.open(header({**one, name: two[name]})).is_new
    swapped = dict(zip(one, [*list(one.values())[1:], one[COOKIE]], strict=True))
    assert place.open(header(swapped)).is_new


@pytest.mark.parametrize("kind", ["id", "hybrid pointer", "no key", "encrypted record"])
def test_a_record_is_good_for_one_session_only(kind: str, tmp_path: Path) -> None:
    """The stored bytes of one session over those of another: refused, with a key, encrypted, and with a checksum."""
    options = {**TYPES, "no key": {"type": "file"}, "encrypted record": {"type": "file", **KEYED}}[kind]
    place = Place(tmp_path, **options)
    ann, bob = (place.make(user=name, big="x" * 400) for name in ("ann", "bob"))
    keys = [store_key(place.open(header(cookies))._snapshot.id) for cookies in (ann, bob)]
    store = place.context.records.store
    store.set(NAMESPACE, keys[1], store.get(NAMESPACE, keys[0]), ttl=None)
    assert place.open(header(bob)).is_new
    assert place.open(header(ann))["user"] == "ann"


CHARACTERS = [chr(number) for number in range(256) if chr(number) not in "\r\n"] + ["é", "\u2028", "💥"]


def test_headers_of_any_bytes_raise_nothing_and_hide_nothing(tmp_path: Path) -> None:
    """Random headers up to 64 kB: no exception; with our cookie in them as its own pair, the session opens."""
    place = Place(tmp_path, **TYPES["signed"])
    good = header(place.make(a=1))
    draw = random.Random(7)
    for turn in range(400):
        size = draw.choice([0, 1, 10, 100, 1000]) if turn % 40 else HEADER_MAX // 2 - len(good)
        noise = ["".join(draw.choices(CHARACTERS, k=size)) for _ in range(2)]
        assert place.open(noise[0]).is_new
        assert place.open(f"{noise[0]};{good};{noise[1]}").get("a") == 1


@pytest.mark.parametrize("kind", TYPES)
def test_a_thousand_odd_neighbours_hide_nothing(kind: str, tmp_path: Path) -> None:
    """A header of a thousand cookies and more, odd ones and latin-1 ones, with ours in any place."""
    place = Place(tmp_path, **TYPES[kind])
    good = place.make(secret="s" * 400 if kind in ("chunks", "hybrid pointer") else "s")
    draw = random.Random(3)
    odd = [
        "a=b c",
        'json={"a":1}',
        "foo",
        "a[b]=1",
        "=",
        "",
        'q="open',
        "é=\xe9",
        f"x{COOKIE}=1",
        f"{COOKIE}x=1",
        "Path=/",
    ]
    for _ in range(20):
        pairs = draw.choices(odd, k=1000)
        for name, value in good.items():
            pairs.insert(draw.randrange(len(pairs)), f"{name}={value}")
        assert place.open(draw.choice([";", "; "]).join(pairs)).get("secret")


ADVERSARIES = {
    "many pairs": lambda n: "a=b;" * (n // 4),
    "our name": lambda n: f"{COOKIE}=x;" * (n // (len(COOKIE) + 3)),
    "semicolons": lambda n: ";" * n,
    "spaces": lambda n: " " * n,
    "one long": lambda n: f"{COOKIE}=" + "A" * n,
    "quotes": lambda n: f'{COOKIE}="' + '\\"' * (n // 2),
    "escapes": lambda n: f"{COOKIE}=" + "\\134" * (n // 4),
    "equals": lambda n: "=" * n,
}


@pytest.mark.parametrize("kind", ADVERSARIES)
def test_reading_a_header_is_linear(kind: str) -> None:
    """A header twice as long takes at most twice the steps, also where other parsers slow down (CVE-2024-7592)."""

    def steps(size: int) -> int:
        made, counted = ADVERSARIES[kind](size), 0

        def trace(frame: Any, event: str, argument: Any) -> Any:
            nonlocal counted
            counted += 1
            return trace

        sys.settrace(trace)
        sys.setprofile(trace)
        try:
            read_cookie(made, COOKIE)
        finally:
            sys.settrace(None)
            sys.setprofile(None)
        return counted

    small, large = steps(8_000), steps(32_000)
    assert large <= 4 * small + 50
    # What is longer than any server lets through is cut, not read.
    assert steps(10 * HEADER_MAX) <= steps(HEADER_MAX) + 50


@pytest.mark.parametrize(("kind", "sealer"), [("id", "ids"), ("signed", "data")])
def test_macs_a_request(kind: str, sealer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five hundred foreign cookies cost no MAC, ours one, and a thousand of our name four."""
    place = Place(tmp_path, **TYPES[kind])
    good = header(place.make(a=1))
    tokens: Any = getattr(place.context, sealer)
    calls: list[str] = []
    real = type(tokens).open

    def counted(self: Any, text: str) -> Any:
        calls.append(text)
        return real(self, text)

    monkeypatch.setattr(type(tokens), "open", counted)
    foreign = "; ".join(f"c{number}={good.partition('=')[2][:90]}" for number in range(500))
    assert place.open(f"{foreign}; {good}").get("a") == 1
    assert len(calls) == 1
    calls.clear()
    assert place.open(f"{COOKIE}=x;" * 1000).is_new
    assert len(calls) == CANDIDATES
