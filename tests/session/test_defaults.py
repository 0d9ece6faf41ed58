"""What options mean where they leave something open; key rings built from several options."""

from __future__ import annotations

from typing import Any

import pytest

from beaker.config.parse import parse_session
from beaker.container import MemoryNamespaceManager
from beaker.crypto.keyring import KeyRing, new_key
from beaker.exceptions import ConfigError
from beaker.session import defaults
from beaker.session.context import SessionContext

OLD, OLDER, NEW, ENCRYPTING = new_key(), new_key(), new_key(), new_key()


def ring(**options: Any) -> KeyRing:
    made = defaults.key_ring(parse_session(kwargs=options), lambda: 0.0)
    assert made is not None
    return made


@pytest.mark.parametrize("encrypt_key", [None, ENCRYPTING], ids=["signed", "encrypted"])
@pytest.mark.parametrize(
    "fallbacks", [[OLD, OLDER], f"{OLD},{OLDER}", f"{OLD}\n{OLDER}"], ids=["list", "commas", "lines"]
)
@pytest.mark.parametrize("name", ["secret", "validate_key"])
def test_fallbacks_open_what_they_sealed(name: str, fallbacks: Any, encrypt_key: str | None) -> None:
    """Every key of secret_fallbacks opens, however several are written, and beside an encrypt_key too."""
    now = ring(**{name: NEW}, secret_fallbacks=fallbacks, encrypt_key=encrypt_key)
    once = [ring(**{name: key}, encrypt_key=encrypt_key).current.kid for key in (NEW, OLD, OLDER)]
    assert list(now.kids) == once


def test_commas_separate_keys_beside_fallbacks_too() -> None:
    """``secret`` is read the same way whether or not there are fallbacks."""
    assert ring(secret=f"{NEW},{OLD}", secret_fallbacks=OLDER).kids == ring(secret=[NEW, OLD, OLDER]).kids


def test_errors_of_pairs_name_both_options() -> None:
    """Equal keys and lists that cannot be paired are refused by the options' own names."""
    with pytest.raises(ConfigError, match=r"session\.secret and session\.encrypt_key are the same key"):
        ring(secret=NEW, encrypt_key=NEW)
    with pytest.raises(ConfigError, match=r"session\.secret and session\.encrypt_key hold different numbers"):
        ring(secret=[NEW, OLD, OLDER], encrypt_key=[ENCRYPTING, new_key()])
    with pytest.raises(ConfigError, match=r"session\.secret_fallbacks"):
        ring(secret=NEW, secret_fallbacks="short")


@pytest.mark.parametrize("option", ["true", True, "nothing", 5, {"url": "x"}])
def test_a_revocation_option_that_names_no_store_is_refused_at_start(option: Any) -> None:
    """Cookie sessions have no store of their own, and a misspelt one is found before the first revocation."""
    with pytest.raises(ConfigError):
        SessionContext(parse_session(kwargs={"type": "cookie", "secret": NEW, "revocation": option}))


@pytest.mark.parametrize(("option", "there"), [("true", True), ("False", False), (None, True), (False, False)])
def test_revocation_is_switched_by_words_too(option: Any, there: bool) -> None:
    """The words that an INI file uses switch it."""
    options = parse_session(kwargs={"type": "memory", "secret": NEW, "revocation": option})
    assert (SessionContext(options).revocations is not None) == there


def test_a_store_of_the_applications_own_is_not_private() -> None:
    """Whatever ``type`` says beside namespace_class, a store not known to be private gets no pickles without a key."""
    own = parse_session(kwargs={"type": "file", "namespace_class": MemoryNamespaceManager})
    assert not defaults.may_pickle(own, "file")
    assert defaults.may_pickle(parse_session(kwargs={"type": "file"}), "file")
