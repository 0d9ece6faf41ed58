"""encrypt_key introduced in a running fleet: instances of two stages side by side, and no visitor is logged out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker.crypto.keyring import new_key
from beaker.exceptions import ConfigError
from beaker.middleware import SessionMiddleware
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import COOKIE, SessionHarness, Tab
from tests.session.places import opened

put = SessionHarness.put
SIGNING, ENCRYPTING = new_key(), new_key()
STAGES: dict[str, dict[str, Any]] = {
    "before": {},
    "prepare": {"encrypt_key": ENCRYPTING, "key_rollout": "prepare"},
    "accept": {"encrypt_key": ENCRYPTING, "key_rollout": "accept"},
    "done": {"encrypt_key": ENCRYPTING},
}
ORDER = [("before", "before"), ("before", "prepare"), ("prepare", "prepare"), ("prepare", "accept"),
         ("accept", "accept"), ("accept", "done"), ("done", "done")]  # fmt: skip
"""The stages of two instances of a fleet, as the rollout goes from one to the next."""
PLACES = ("file", "sqlite", "revocable cookie", "hybrid in cookie", "hybrid in store")


@pytest.fixture
def fleet(tmp_path: Path, clock: FakeClock) -> Callable[[str], dict[str, Tab]]:
    def fleet(place: str) -> dict[str, Tab]:
        shared = {"validate_key": SIGNING, "secret": None, "timeout": 10_000, "clock": clock}
        if place == "hybrid in store":
            shared["cookie_max"] = 210
        return {stage: opened(place, tmp_path, **{**shared, **own}) for stage, own in STAGES.items()}

    return fleet


def at(tab: Tab, jar: dict[str, str], handler: Callable[[Any], Any]) -> Any:
    """A request at this instance with these cookies, which its response updates."""
    tab.cookies = dict(jar)
    found = tab.do(handler)
    jar.clear()
    jar.update(tab.cookies)
    return found


def grow(session: Any) -> Any:
    session["n"] = session.get("n", 0) + 1
    session["text"] = "x" * 100
    session.save()
    return session["n"]


@pytest.mark.parametrize("place", PLACES)
def test_nobody_is_logged_out(fleet: Callable[[str], dict[str, Tab]], place: str, clock: FakeClock) -> None:
    """At each stage earlier visitors and new ones alternate between the two instances, reading and writing."""
    instances = fleet(place)
    jars: list[dict[str, str]] = [{}]
    counts = [at(instances["before"], jars[0], grow)]
    for pair in ORDER:
        jars += [{}, {}]
        counts += [at(instances[stage], jars[-1 - i], grow) for i, stage in enumerate(pair)][::-1]
        for stage in (*pair, *reversed(pair)):
            clock.advance(20)
            for i, jar in enumerate(jars):
                assert at(instances[stage], jar, lambda s: s.get("n")) == counts[i], (pair, stage, i)
                counts[i] += 1
                assert at(instances[stage], jar, grow) == counts[i]


@pytest.mark.parametrize("place", PLACES)
def test_what_is_ended_stays_ended(fleet: Callable[[str], dict[str, Tab]], place: str, clock: FakeClock) -> None:
    """A logout and a revocation at either instance hold at both, at each stage and the next."""
    instances = fleet(place)
    dead: list[dict[str, str]] = []
    for pair in ORDER:
        for stage, other in (pair, pair[::-1]):
            for end in ("logout", "revoke"):
                jar: dict[str, str] = {}
                at(instances[stage], jar, lambda s: (s.login("ann"), s.save()))
                assert at(instances[other], jar, lambda s: s.user) == "ann"
                kept = dict(jar)
                if end == "logout":
                    at(instances[other], jar, lambda s: s.logout())
                else:
                    instances[other].middleware.revoke(user="ann")
                dead.append(kept)
                clock.advance(70)
        for stage in pair:
            for jar in dead:
                assert at(instances[stage], dict(jar), lambda s: s.user) is None


@pytest.mark.parametrize("place", ["revocable cookie", "hybrid in cookie"])
def test_what_each_stage_writes(fleet: Callable[[str], dict[str, Tab]], place: str) -> None:
    """Signed before and while it is prepared, encrypted from then on; when it is done nothing signed is opened."""
    instances = fleet(place)
    for stage, encrypted in (("before", False), ("prepare", False), ("accept", True), ("done", True)):
        jar: dict[str, str] = {}
        at(instances[stage], jar, grow)
        assert (jar[COOKIE][:1], "g" <= jar[COOKIE][1] <= "v") == ("A", encrypted)
        reading = {other for other in STAGES if at(instances[other], dict(jar), lambda s: s.get("n")) == 1}
        assert reading == ({"prepare", "accept", "done"} if encrypted else {"before", "prepare", "accept"})


def test_records_of_each_stage(fleet: Callable[[str], dict[str, Tab]], tmp_path: Path) -> None:
    """The same for records in a store: their text can be read before, and not afterwards."""
    instances = fleet("file")
    for stage, readable in (("before", True), ("prepare", True), ("accept", False), ("done", False)):
        at(instances[stage], {}, put(text=f"plain-{stage}"))
        found = any(f"plain-{stage}".encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert found is readable


def test_a_rollout_of_nothing() -> None:
    """key_rollout without encrypt_key, or with another word, is an error."""
    wrong: list[dict[str, Any]] = [{"key_rollout": "accept"}, {"key_rollout": "later", "encrypt_key": ENCRYPTING}]
    for given in wrong:
        with pytest.raises(ConfigError, match=r"session\.key_rollout"):
            SessionMiddleware(lambda environ, start_response: [], type="memory", secret=SIGNING, **given)
