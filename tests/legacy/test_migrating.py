"""docs/migrating.md names only what exists in the policy and the counters, and its examples are taken."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from beaker.config.options import ACCEPTED, BackendOptions, SessionOptions, describe
from beaker.exceptions import ConfigError
from beaker.session.legacy.policy import LegacyPolicy

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "migrating.md").read_text()
NOW = 1_795_000_000.0
SOURCES = "".join(path.read_text() for path in (ROOT / "beaker").rglob("*.py"))


def table(heading: str) -> list[str]:
    """The first column's cells of the first table after a heading or text."""
    rows = re.search(r"\| ?--- .*\n((?:\|.*\n)+)", PAGE[PAGE.index(heading) :])
    assert rows is not None
    return [row.split("|")[1] for row in rows[1].splitlines()]


def names(cells: list[str]) -> list[str]:
    return [name for cell in cells for name in re.findall(r"`([a-z_]+)", cell)]


def test_every_old_option_exists() -> None:
    """Those of the table of what changed are taken, or accepted without effect."""
    for name in names(table("These changed:")):
        assert name in {**describe(SessionOptions), **describe(BackendOptions), **ACCEPTED}


def test_every_name_of_the_policy_exists() -> None:
    """And none is left out."""
    listed = names(table("text:\n\n```python"))
    for name in listed:
        with pytest.raises(ConfigError) as refused:
            LegacyPolicy.from_option({"until": "2026-12-01", name: object()}, clock=lambda: NOW)
        assert "is no option" not in str(refused.value)
    source = (ROOT / "beaker" / "session" / "legacy" / "policy.py").read_text()
    assert set(re.findall(r'given\.(?:get|pop)\("([a-z_]+)"', source)) <= set(listed)


def test_every_counter_exists() -> None:
    """Each name and reason is one the code counts."""
    for cell in table("## Watching it"):
        for name, reason in re.findall(r"`(legacy_[a-z]+)(?:\{([a-z]+)\})?", cell):
            assert f'"{name}"' in SOURCES
            assert not reason or f'"{reason}"' in SOURCES


def test_the_examples_are_taken() -> None:
    """The JSON of the INI file and of the environment, and the dicts, in every phase."""
    texts = re.findall(r"(?:session\.legacy = |BEAKER_SESSION_LEGACY=')(\{.*\})", PAGE)
    assert len(texts) == 2
    module: dict[str, Any] = {}
    policies = [*texts]
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.S):
        exec(block, module)
        policies.append(dict(module["options"]["session.legacy"]))
    assert len(policies) == 5
    made = [LegacyPolicy.from_option(policy, clock=lambda: NOW) for policy in policies]
    assert [policy.keep for policy in made[-2:]] == [True, False]
    assert made[-1].since < made[-1].until
