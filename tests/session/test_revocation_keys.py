"""Revocation while the keys change: instances at the step before and after can read what one instance notes."""

from __future__ import annotations

from pathlib import Path

import pytest

from beaker.crypto.keyring import new_key
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import SessionHarness, Tab
from tests.session.places import opened

OLD, NEW = new_key(), new_key()


@pytest.mark.parametrize("place", ["file", "revocable cookie", "hybrid in cookie"])
@pytest.mark.parametrize("end", ["user", "everybody"])
def test_a_revocation_in_mid_rotation(tmp_path: Path, clock: FakeClock, place: str, end: str) -> None:
    """Revoked by an instance that still seals with the old key while another uses the new: it holds, and is read."""

    def instance(*keys: str) -> Tab:
        return opened(place, tmp_path, clock=clock, validate_key=list(keys), secret=None)

    accepting, promoted, done = instance(OLD, NEW), instance(NEW, OLD), instance(NEW)
    promoted.do(lambda s: s.login("ann"))
    stays = promoted.copy()
    clock.advance(70)
    if end == "user":
        accepting.middleware.revoke(user="ann")
    else:
        accepting.middleware.revoke(everybody=True)
    clock.advance(70)
    for tab in (accepting, promoted, done):
        tab.cookies = dict(stays.cookies)
        assert tab.do(lambda s: s.user) is None
        clock.advance(70)
        tab.do(SessionHarness.put(a=1))
        assert tab.do(lambda s: s["a"]) == 1
