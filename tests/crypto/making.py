"""Tokens to test with, and ways to look into them."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from typing import Any

import pytest

from beaker.crypto.keyring import KeyRing
from beaker.crypto.tokens import (
    BadToken,
    DataTokens,
)
from tests.crypto import golden

# How many mutated tokens of each type; a nightly run sets more (BEAKER_FUZZ=10000000).
FUZZ = int(os.environ.get("BEAKER_FUZZ", "20000"))
RING = KeyRing.from_option(golden.SECRET)
NOW = golden.ISSUED + 1
KINDS: dict[str, dict[str, Any]] = {
    "signed": {"encrypt": False},
    "signed deflating": {"encrypt": False, "compress": True},
    "encrypted": {"encrypt": True},
    "encrypted deflating": {"encrypt": True, "compress": True},
}


def data_tokens(ring: KeyRing = RING, name: str = golden.COOKIE, now: float = NOW, **options: Any) -> DataTokens:
    return DataTokens(ring, name, **{"encrypt": False, **options}, clock=lambda: now)


def sealed(tokens: DataTokens, payload: bytes = golden.SHORT, **stamps: Any) -> str:
    return tokens.seal(
        payload, **{"created": golden.CREATED, "issued": golden.ISSUED, "expires": golden.EXPIRES, **stamps}
    )


def reason(call: Callable[[], object]) -> str:
    with pytest.raises(BadToken) as caught:
        call()
    return caught.value.reason


def raw(token: str) -> bytes:
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
