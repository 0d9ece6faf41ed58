"""The names of records, remembered."""

from __future__ import annotations

from beaker.keys import digest, namespace_digest
from beaker.storage.names import namespace_name, record_name


def test_remembered_names_are_the_same() -> None:
    """A name is that of its pair, the first time and the next, and what is remembered is bounded."""
    for _ in range(2):
        for number in range(2_000):
            pair = f"ns{number % 300}", str(number)
            assert record_name(*pair) == digest(*pair)
            assert namespace_name(pair[0]) == namespace_digest(pair[0])
    assert record_name.cache_info().currsize == 1024
    assert namespace_name.cache_info().currsize == 256
