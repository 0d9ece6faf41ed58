"""What a process remembers of tokens while its keys are being replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from beaker.crypto.keyring import KeyRing
from beaker.crypto.tokens import DataTokens
from beaker.testing import FakeClock

FIRST, SECOND = "u7Jm2pVqX0cYw9LrTz4KbN8sEoHdGfAi3MkQ1xWvPyU", "pR5tZ8wC1nB4vX7qM0kL3jH6gF9dS2aYeUoIiTrEwQm"


def test_what_is_sealed_while_keys_change_is_not_taken_for_sealed_by_the_new_one(tmp_path: Path) -> None:
    """A thread may seal at any step of it; such a cookie is sealed again as soon as it comes back."""
    clock, sealed = FakeClock(), list[str]()

    class Observed(KeyRing):
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            if watching:
                sealed.append(tokens.seal(b"%d" % len(sealed), created=1.0, issued=1.0, expires=None))

    watching = False
    path = tmp_path / "keys"
    path.write_text(f"{FIRST}\n{SECOND}\n")
    path.chmod(0o600)
    ring = Observed.from_option(f"file:{path}", option="secret", clock=clock)
    tokens = DataTokens(ring, "s", encrypt=False, clock=clock)
    assert tokens.open(tokens.seal(b"", created=1.0, issued=1.0, expires=None)).current
    path.write_text(f"{SECOND}\n{FIRST}\n")
    watching = True
    ring._install(warning=False)
    watching = False
    fresh = DataTokens(ring, "s", encrypt=False, clock=clock)
    assert [tokens.open(text).current for text in sealed] == [fresh.open(text).current for text in sealed]
    assert {tokens.open(text).current for text in sealed} == {False, True}
