"""The figures in the README and the pages are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from beaker.config.options import ACCEPTED, BUILTIN_TYPES, BackendOptions, CacheOptions, SessionOptions, describe
from beaker.crypto.tokens import ID_BYTES
from beaker.operations.effective import LARGEST_VALUE
from beaker.session import defaults

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
OPTIONS = {**describe(SessionOptions), **describe(CacheOptions), **describe(BackendOptions)}


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text("utf-8")


def test_the_readme_s_figures() -> None:
    """Bits of an id, seconds of a lease, limits of values, Python versions."""
    assert f"ids are {ID_BYTES * 8} random bits" in README
    assert f"taken over after {CacheOptions.lease_ttl:.0f} s" in README
    google, memcached = LARGEST_VALUE["ext:google"] // 1_000_000, LARGEST_VALUE["ext:memcached"] // 1_000_000
    assert f"Values over {google} MB do not go into Datastore, over {memcached} MB into memcached" in README
    supported = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    if supported:
        assert f"Runs on Python {supported[0]}–{supported[-1]}" in README


def test_every_file_the_readme_names_is_there() -> None:
    """Links and commands of the README lead somewhere."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    scripts = re.findall(r"^(scripts/\w+)", README, re.MULTILINE)
    assert links
    assert scripts
    assert [name for name in (*links, *scripts) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(
    "name", ["operations", "security", "serverless", "sessions", "caching", "backends", "migrating"]
)
def test_options_that_pages_name_exist(name: str) -> None:
    """`session.x`, `cache.x` and BEAKER_ variables in running text are options."""
    text = re.sub(r"```.*?```", "", page(name), flags=re.DOTALL)
    named = set(re.findall(r"`(?:session|cache)\.([a-z_]+)(?: ?=[^`]*)?`", text))
    attributes = {"domain", "path", "created", "unavailable"}
    assert sorted(named - OPTIONS.keys() - ACCEPTED.keys() - attributes) == []


def test_types_that_pages_name_exist() -> None:
    """`ext:x` is a type that comes with Beaker, wherever it stands, but for two that migrating.md calls absent."""
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        named = set(re.findall(r"`(ext:[a-z]+)`", path.read_text("utf-8")))
        assert named - BUILTIN_TYPES - {"ext:mongodb", "ext:rediscluster"} == set(), path.name


def test_the_days_of_a_cookie_session() -> None:
    """The reference's 14 days are the engine's."""
    assert "Cookie sessions: 14 days unless set." in page("configuration")
    assert defaults.COOKIE_LIFETIME == 14 * 86400
