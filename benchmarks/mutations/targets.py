"""What is mutated, and the tests that must notice."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True)
class Target:
    """``modules`` are mutated one change at a time; ``tests`` are the files that are run, as far as they reach it.

    ``late``: parts of names of expensive tests, run for what has survived the others.
    """

    name: str
    modules: tuple[str, ...]
    tests: tuple[str, ...]
    late: tuple[str, ...] = ()


_CACHED = (
    "tests/test_dogpile.py",
    "tests/test_cached_errors.py",
    "tests/test_cached_freshness.py",
    "tests/test_freshness.py",
    "tests/caching/test_coroutines.py",
    "tests/caching/test_coroutine_functions.py",
    "tests/caching/test_event_loops.py",
    "tests/caching/test_hung_creators.py",
    "tests/caching/test_shared_locks.py",
    "tests/caching/test_voiding.py",
)

TARGETS = (
    Target(
        "signing",
        ("beaker/crypto/keyring.py", "beaker/crypto/tokens.py"),
        (
            "tests/crypto/test_remembered.py",
            "tests/crypto/test_keyring.py",
            "tests/crypto/test_tokens.py",
            "tests/crypto/test_token_forgeries.py",
            "tests/crypto/test_sealing.py",
            "tests/session/test_key_rollout.py",
            "tests/session/test_key_rotation.py",
            "tests/gae/test_keys.py",
        ),
    ),
    Target(
        "sealing",
        ("beaker/crypto/sealing.py", "beaker/crypto/envelope.py", "beaker/crypto/deflate.py", "beaker/crypto/place.py"),
        (
            "tests/crypto/test_remembered.py",
            "tests/crypto/test_deflate.py",
            "tests/crypto/test_sealing.py",
            "tests/crypto/test_tokens.py",
            "tests/test_envelope.py",
            "tests/storage/test_place_key.py",
            "tests/storage/test_first_pickle.py",
            "tests/storage/test_supplied_files.py",
            "tests/session/test_key_rollout.py",
            "tests/test_cache_key_rollout.py",
            "tests/test_looking.py",
        ),
    ),
    Target(
        "merge",
        ("beaker/session/merge.py",),
        ("tests/session/test_merge_laws.py", "tests/session/test_policies.py"),
    ),
    Target(
        "dogpile",
        ("beaker/caching/dogpile.py", "beaker/locking/creation.py"),
        (
            *_CACHED,
            "tests/caching/test_turns.py",
            "tests/test_creation_locks.py",
            "tests/test_layered_locks.py",
            "tests/test_locks.py",
            "tests/faults/test_aborted_locks.py",
        ),
    ),
    Target(
        "voiding",
        ("beaker/caching/mark.py", "beaker/caching/marks.py", "beaker/caching/stored_marks.py"),
        (
            "tests/caching/test_marks.py",
            "tests/caching/test_sliding.py",
            "tests/caching/test_voiding.py",
            "tests/caching/test_hung_creators.py",
            "tests/test_dogpile.py",
        ),
    ),
    Target(
        "outage",
        ("beaker/caching/outage.py",),
        ("tests/caching/test_flights.py", "tests/faults/test_without_store.py", "tests/caching/test_coroutines.py"),
    ),
)
