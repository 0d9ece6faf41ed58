"""How large a cookie may become: name and value together, one by one and all parts together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from beaker.exceptions import SessionTooLarge
from beaker.session.backends.cookie import HEADER_LIMIT
from beaker.session.cookies import part_name
from beaker.testing.session_harness import COOKIE, OTHER_SECRET, SessionHarness, Tab
from tests.session.places import opened

BROWSERS = 4096
"""Bytes of name and value a browser keeps (RFC 6265bis 5.6)."""
KINDS: dict[str, dict[str, Any]] = {
    "signed": {},
    "encrypted": {"encrypt_key": OTHER_SECRET},
    "long name": {"key": "n" * 200},
}


def sizes(tab: Tab) -> list[int]:
    return [len(name) + len(value) for name, value in tab.cookies.items()]


@pytest.mark.parametrize("kind", KINDS)
def test_a_cookie_is_as_large_as_browsers_keep_and_no_larger(kind: str, tmp_path: Path) -> None:
    """One byte more at a time: up to 4,096 bytes it is sent whole, then SessionTooLarge and no header at all."""
    tab = opened("revocable cookie", tmp_path, **KINDS[kind])
    largest, refused = 0, 0
    over: list[tuple[int, int]] = []
    for length in range(2600, 3050):
        tab.cookies.clear()
        try:
            tab.do(SessionHarness.put(a="x" * length))
        except SessionTooLarge as error:
            refused += 1
            assert not tab.cookies
            over.append((error.size, error.limit))
        else:
            assert not refused, "a smaller one was refused"
            (size,) = sizes(tab)
            assert size <= BROWSERS
            largest = max(largest, size)
    assert refused
    assert {limit for _, limit in over} == {BROWSERS}
    assert min(size for size, _ in over) > BROWSERS
    # Three bytes are four characters.
    assert largest >= BROWSERS - 3


def test_the_error_names_the_largest_keys(tmp_path: Path) -> None:
    """Five keys with their sizes, the largest first, and what to do."""
    tab = opened("revocable cookie", tmp_path)
    with pytest.raises(SessionTooLarge, match=r"\"k6\" 80\d, \"k5\" .*\"k2\" 40\d; keep less") as caught:
        tab.do(SessionHarness.put(**{f"k{number}": "x" * (number + 2) * 100 for number in range(7)}))
    assert "k1" not in str(caught.value)


def test_parts_stay_below_what_servers_accept(tmp_path: Path) -> None:
    """Each part is a cookie browsers keep, and all of them fit in one header line of usual servers."""
    tab = opened("revocable cookie", tmp_path, chunks=3)
    sent = 0
    for length in range(500, 7000, 100):
        tab.cookies.clear()
        try:
            tab.do(SessionHarness.put(a="x" * length))
        except SessionTooLarge:
            assert not tab.cookies
            continue
        sent = length
        assert max(sizes(tab)) <= BROWSERS
        assert sum(sizes(tab)) <= HEADER_LIMIT
        assert tab.do(lambda s: len(s["a"])) == length
        assert COOKIE in tab.cookies
    assert sent > 5000


@pytest.mark.parametrize("lost", [(), (0,), (1,), (2,), (0, 1)])
@pytest.mark.parametrize("ends", [True, False])
def test_every_part_that_came_is_dropped(tmp_path: Path, lost: tuple[int, ...], ends: bool) -> None:
    """A browser may have dropped some by itself; none of the others stays behind with what was in the session."""
    tab = opened("revocable cookie", tmp_path, chunks=3, cookie_max=2600)
    tab.do(SessionHarness.put(a="x" * 5000))
    assert len(tab.cookies) == 3
    for index in lost:
        del tab.cookies[part_name(COOKIE, index)]
    tab.do((lambda s: s.logout()) if ends else SessionHarness.put(a="small"))
    assert list(tab.cookies) == ([] if ends else [COOKIE])
