"""Environments of pinned packages, installed from PyPI once and kept between runs.

Each lies in the user's cache directory (``$XDG_CACHE_HOME/beaker-gae``) under a name that changes with its pins and
with the Python; remove it whenever you like. Without PyPI the calling test is skipped on a laptop and fails in CI.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import missing

_DONE = "complete"


def environment(name: str, requirements: Path) -> Path:
    """The Python of an environment that holds ``requirements``, a file of pins. It never holds a Beaker."""
    key = "\0".join((requirements.read_text("utf-8"), sys.version, sys.executable))
    folder = _cache() / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if not (folder / _DONE).exists():
            _install(folder, requirements)
            (folder / _DONE).touch()
    return folder / "venv" / "bin" / "python"


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "beaker-gae"


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    # Two runs may want one environment at the same moment; the lock ends with the process.
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(folder: Path, requirements: Path) -> None:
    # Cleared first: an earlier attempt may have ended half-way.
    subprocess.run(
        [sys.executable, "-m", "venv", "--clear", "--without-pip", folder / "venv"], check=True, capture_output=True
    )
    target = ("--python", folder / "venv" / "bin" / "python")
    done = _pip(*target, "install", "--requirement", requirements)
    if done.returncode == 0:
        return
    if _pip("index", "versions", "pip").returncode:
        missing("PyPI", f"the packages of {requirements.parent.name}/{requirements.name} come from there")
    pytest.fail(f"{requirements} cannot be installed:\n{done.stdout[-2000:]}{done.stderr[-3000:]}", pytrace=False)


def _pip(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments)
    return subprocess.run(command, capture_output=True, text=True)
