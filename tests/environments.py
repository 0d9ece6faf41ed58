"""Environments of pinned packages, installed from the registry once and kept between runs.

Each lies in the user's cache directory under a name that changes with the pins and with the Python, so that a change
of either installs anew. A registry that cannot be reached skips the asking test on a laptop and fails it in CI.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.servers import missing

_STAMP = ".complete"
_KEPT_SECONDS = 30 * 86400


def cache() -> Path:
    """Where the environments are kept: ``beaker-tests`` in the user's cache directory."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "beaker-tests"


def environment(name: str, requirements: Path) -> Path:
    """The Python of the environment that holds ``requirements`` (a file of pins), installed when there is none yet.

    Two runs may ask at once: the second waits for the first.
    """
    pins = f"{sys.implementation.cache_tag}\n{requirements.read_text('utf-8')}"
    folder = cache() / f"{name}-{hashlib.sha256(pins.encode()).hexdigest()[:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / _STAMP).exists():
            _remove_unused(name)
            _install(folder, requirements)
        (folder / _STAMP).touch()
    return folder / "bin" / "python"


def _install(folder: Path, requirements: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    done = subprocess.run([*pip, "install", "--requirement", requirements], capture_output=True, text=True)
    if done.returncode == 0:
        return
    told = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr[-300:]]
    if "ResolutionImpossible" in done.stderr:
        pytest.fail(f"{requirements} contradicts itself: {told[0]}", pytrace=False)
    missing("PyPI", f"pip could not install {requirements.parent.name}/{requirements.name}: {told[0]}")


def _remove_unused(name: str) -> None:
    """Remove the environments of this name that no run has asked for in a month."""
    for stamp in cache().glob(f"{name}-*/{_STAMP}"):
        if stamp.stat().st_mtime < time.time() - _KEPT_SECONDS:
            shutil.rmtree(stamp.parent, ignore_errors=True)
