"""Entries, and what may become one again: the trust policy of pickles."""

from __future__ import annotations

import logging
import pickle
from decimal import Decimal
from typing import Any

import pytest

from beaker import counters
from beaker.caching.entry import Entry, EntryCodec
from beaker.caching.factory import codec_for
from beaker.crypto.envelope import Envelope
from beaker.exceptions import ConfigError, UnserializableValue
from beaker.storage.memory import MemoryStore

KEY = "k3J8vQz1mN5pR7tX9wB2cD4fG6hL0sYa"
OTHER = "Zq8wE2rT6yU0iO4pA1sD3fG5hJ7kL9xC"


class Shared(MemoryStore):
    """A store that other users can write."""

    backend = "shared"
    trusted = False


class Evil:
    """Its pickle would run code."""

    ran = False

    def __reduce__(self) -> Any:
        return _mark, ()


def _mark() -> None:
    Evil.ran = True


def plain(store: Any, serializer: Any) -> EntryCodec:
    return EntryCodec(Envelope(backend=store.backend), serializer, store)


def test_freshness() -> None:
    """An entry is fresh before its end, for ever without one, and never when stored before starttime."""
    entry = Entry("v", 100.0, 10.0)
    assert entry.is_fresh(109.9)
    assert not entry.is_fresh(110.0)
    assert entry.expires == 110.0
    assert Entry("v", 100.0).is_fresh(1e12)
    assert Entry("v", 100.0).expires is None
    assert not entry.is_fresh(101.0, starttime=100.5)
    assert entry.is_fresh(101.0, starttime=100.0)


@pytest.mark.parametrize("options", [{}, {"secret": KEY}, {"encrypt_key": KEY}, {"secret": OTHER, "encrypt_key": KEY}])
@pytest.mark.parametrize("store", [MemoryStore(), Shared()])
def test_round_trip(options: dict[str, Any], store: MemoryStore) -> None:
    """Value, stamps and cost come back, with any configuration of keys, trusted store or not."""
    codec = codec_for(store, options)
    entry = Entry({"a": (1, Decimal("2.5"), None)}, 1_700_000_000.25, 60.0, 0.5)
    assert codec.decode("ns", "k", codec.encode("ns", "k", entry)) == entry
    assert codec.decode("ns", "k", codec.encode("ns", "k", Entry(None, 5.0))) == Entry(None, 5.0)


def test_auto_pickles_where_the_record_is_trusted() -> None:
    """A value only pickle can hold is stored on a trusted store or under a key, and refused elsewhere."""
    value = Entry(Entry, 1.0)
    for store, options in ((MemoryStore(), {}), (Shared(), {"secret": KEY})):
        codec = codec_for(store, options)
        assert codec.decode("ns", "k", codec.encode("ns", "k", value)) == value
    with pytest.raises(UnserializableValue):
        codec_for(Shared(), {}).encode("ns", "k", Entry({"a": [Entry]}, 1.0))


def test_error_names_the_path() -> None:
    """The error of a value that cannot be stored leads to it."""
    with pytest.raises(UnserializableValue) as caught:
        codec_for(Shared(), {}).encode("ns", "k", Entry({"cart": [1, Entry]}, 1.0))
    assert "cart" in caught.value.path


@pytest.mark.parametrize("serializer", ["auto", "json"])
def test_planted_pickle_is_never_executed(serializer: str, caplog: pytest.LogCaptureFixture) -> None:
    """A pickle with a valid checksum on a store other users can write is a miss and a counter, not an execution."""
    store = Shared()
    data = Envelope(backend="shared").seal(
        "ns", "secret-key", bytes(4) + pickle.dumps(Evil()), stored=1.0, expires=None, kind=2
    )
    counters.reset()
    with caplog.at_level(logging.WARNING):
        assert plain(store, serializer).decode("ns", "secret-key", data) is None
    assert not Evil.ran
    assert counters.snapshot().events["cache_rejected{shared}"] == 1
    assert "secret-key" not in caplog.text


def test_unsigned_record_is_a_miss_under_a_key() -> None:
    """Once a key is configured, records written without one, or signed by another key, are misses."""
    store = Shared()
    unsigned = codec_for(store, {}).encode("ns", "k", Entry(1, 1.0))
    foreign = codec_for(store, {"secret": OTHER}).encode("ns", "k", Entry(1, 1.0))
    mine = codec_for(store, {"secret": KEY})
    assert mine.decode("ns", "k", unsigned) is None
    assert mine.decode("ns", "k", foreign) is None


def test_record_is_good_for_one_place_only() -> None:
    """A record copied to another key or namespace is a miss; so is one with a bit flipped, and a session's."""
    store = Shared()
    codec = codec_for(store, {"secret": KEY})
    data = codec.encode("ns", "k", Entry(1, 1.0))
    assert codec.decode("ns", "other", data) is None
    assert codec.decode("other", "k", data) is None
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        assert codec.decode("ns", "k", bytes(changed)) is None
    session = Envelope(backend="shared").seal("ns", "k", b"\0\0\0\0" + b"1", stored=1.0, expires=None, kind=0)
    assert codec_for(store, {}).decode("ns", "k", session) is None


def test_trust_is_asked_at_read_time() -> None:
    """A pickle is refused as soon as the store's directory may be written by other users."""

    class Directory(MemoryStore):
        private = True

        @property
        def trusted(self) -> bool:  # type: ignore[override]
            return self.private

    store = Directory()
    codec = codec_for(store, {})
    data = codec.encode("ns", "k", Entry(Entry, 1.0))
    assert codec.decode("ns", "k", data) is not None
    store.private = False
    assert codec.decode("ns", "k", data) is None
    with pytest.raises(UnserializableValue):
        codec_for(store, {"serializer": "pickle"}).encode("ns", "k", Entry(1, 1.0))


@pytest.mark.parametrize("serializer", ["pickle", pickle])
def test_pickle_on_a_shared_store_needs_a_key(serializer: Any) -> None:
    """Asking for pickle where nothing could be read back is an error at once; passing the module is too."""
    with pytest.raises(ConfigError, match="needs a key"):
        plain(Shared(), serializer)


def test_json_does_not_open_even_a_signed_pickle() -> None:
    """serializer = json means that nothing is ever executed."""
    store = Shared()
    data = codec_for(store, {"secret": KEY, "serializer": "pickle"}).encode("ns", "k", Entry(1, 1.0))
    assert codec_for(store, {"secret": KEY, "serializer": "json"}).decode("ns", "k", data) is None


def test_own_serializer() -> None:
    """An object with dumps and loads is used; one without is refused by name of the option."""
    import json

    codec = plain(Shared(), json)
    assert codec.decode("ns", "k", codec.encode("ns", "k", Entry([1], 1.0))) == Entry([1], 1.0)
    with pytest.raises(ConfigError, match="serializer"):
        plain(Shared(), 5)
    with pytest.raises(ConfigError, match="serializer"):
        plain(Shared(), "yaml")


def test_codecs_are_shared() -> None:
    """Equal options of one store give one codec: keys are derived once."""
    store = Shared()
    assert codec_for(store, {"secret": KEY}) is codec_for(store, {"secret": KEY, "expire": 5})
    assert codec_for(store, {"secret": KEY}) is not codec_for(store, {"secret": OTHER})


class Thing:
    """What pickle can hold and JSON cannot."""


def test_what_only_a_key_would_keep_names_the_line_that_helps() -> None:
    """On a shared store without a key the error says which option to set; with it the value is kept."""
    with pytest.raises(UnserializableValue, match=r"value\['a'\]\[0\] holds Thing.*cache\.secret = ") as caught:
        codec_for(Shared(), {}).encode("ns", "k", Entry({"a": [Thing()]}, 1.0))
    assert (caught.value.path, caught.value.kind) == ("value['a'][0]", "Thing")
    codec = codec_for(Shared(), {"secret": KEY})
    found = codec.decode("ns", "k", codec.encode("ns", "k", Entry({"a": [Thing()]}, 1.0)))
    assert found is not None
    assert isinstance(found.value["a"][0], Thing)


def test_what_nothing_keeps_is_not_promised_by_a_key() -> None:
    """A value that pickle refuses too is said to be hopeless: no key is promised to help."""
    with pytest.raises(UnserializableValue, match="keep plain data") as caught:
        codec_for(Shared(), {}).encode("ns", "k", Entry(lambda: 1, 1.0))
    assert "secret" not in str(caught.value)
