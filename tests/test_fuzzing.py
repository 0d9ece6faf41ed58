"""The targets of fuzzing read their own seeds, and what fuzzing has found is read as promised."""

from __future__ import annotations

import pytest

from benchmarks.fuzzing import __main__ as command
from benchmarks.fuzzing.targets import TARGETS, Target


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_seeds_are_read(target: Target) -> None:
    """Valid samples, none at all, and each cut in half raise nothing."""
    seeds = target.seeds()
    assert seeds
    for seed in (*seeds, *(seed[: len(seed) // 2] for seed in seeds), b"", b"\x00", b"\xff" * 64):
        target.read(seed)


def test_the_command_knows_the_targets() -> None:
    """The command does not import what it fuzzes, so that its list is its own."""
    assert tuple(target.name for target in TARGETS) == command.TARGETS
