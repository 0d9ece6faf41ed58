"""Directories that cannot be used: every store, cache, session and lock says which, why, and what to do about it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("out_of_bounds.py")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")


@pytest.fixture
def shown() -> Iterator[Path]:
    """A directory that everybody may read and only its owner may write, whatever is above it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)
        os.chmod(name, 0o755)


def use(place: Path | str, watched: Path | str = "") -> dict[str, tuple[str, str]]:
    """What each user of a directory in ``place`` reports: the error's class and message."""
    with tempfile.TemporaryDirectory(dir="/tmp") as data:
        os.chmod(data, 0o777)
        done = subprocess.run(
            [sys.executable, str(PROGRAM), str(place), str(watched), data],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd="/",
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return {name: (kind, message) for name, (kind, message) in json.loads(done.stdout).items()}


def options_of(name: str) -> tuple[str, ...]:
    """The options one of which the advice for this user of a directory must name."""
    if "creating" in name:
        return ("lock_dir", "data_dir", "url")
    if "lock" in name or name in ("reader", "writer", "writer that does not wait"):
        return ("lock_dir",)
    return ("url",) if "sqlite" in name else ("data_dir",)


def check(said: dict[str, tuple[str, str]], kind: str, place: str) -> None:
    wrong = []
    for name, (found, message) in said.items():
        advice = any(f"set {option}" in message for option in options_of(name))
        if found != kind or place not in message or not advice:
            wrong.append(f"{name}: {found}: {message}")
    assert wrong == []


def test_a_directory_that_may_be_read_only(shown: Path) -> None:
    """A directory without permission to write is StoreUnavailable with its name and the option, never an OSError."""
    check(use(shown, shown), "StoreUnavailable", str(shown))


def test_a_directory_that_cannot_be_created(shown: Path) -> None:
    """The same for a directory that would have to be created below one."""
    check(use(shown / "below" / "it", shown), "StoreUnavailable", str(shown / "below" / "it"))


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="/proc is Linux's")
def test_a_file_system_that_has_no_room_for_directories() -> None:
    """/proc creates no directories; the message says so, and not that one keeps disappearing."""
    said = use("/proc/nope")
    check(said, "StoreUnavailable", "/proc/nope")
    assert not any("disappear" in message for _, message in said.values())


def test_a_file_in_the_way(shown: Path) -> None:
    """A path that leads through a file is a ConfigError when the store, the locks or the middleware are built."""
    (shown / "file").write_bytes(b"")
    said = use(shown / "file" / "below")
    # SQLAlchemy's url is SQLAlchemy's to interpret, so that the database's own words come at the first statement.
    check({name: told for name, told in said.items() if "sqlite" not in name}, "ConfigError", str(shown / "file"))
    ours = {name: told for name, told in said.items() if "sqlite" in name and "lock" not in name}
    check(ours, "StoreUnavailable", str(shown / "file"))
