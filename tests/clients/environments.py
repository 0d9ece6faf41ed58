"""Environments of their own for programs that use Beaker: pinned packages from PyPI, and the wheel of this checkout.

An environment is built once and kept between runs in the user's cache directory (``$XDG_CACHE_HOME/beaker-gae``), by a
hash of its requirements and of the Python; remove it whenever you like. It never holds a Beaker: each run puts the
wheel it has built in front of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.servers import missing

HERE = Path(__file__).resolve().parent
APPS = HERE / "apps"
SDISTS = {"turbogears": "TurboGears2==2.5.1", "mako": "Mako==1.4.1", "web": "bottle-cork==0.12.0"}
"""Whose source archive, by environment, holds the tests that its wheel leaves out."""
_DONE = "complete"


class Client(NamedTuple):
    """One environment: its Python, and the unpacked source archive if it has one."""

    python: Path
    source: Path | None
    site: Path
    """Where the wheel of this checkout is installed."""

    def run(self, *arguments: str | Path, cwd: Path, fails: bool = False) -> str:
        """What ``python ARGUMENTS`` prints with our wheel importable; its failure fails the test with its output."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "BEAKER_"))}
        environ |= {"PYTHONPATH": os.pathsep.join((str(self.site), str(cwd))), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [self.python, *arguments], cwd=cwd, env=environ, capture_output=True, text=True, timeout=150
        )
        if done.returncode and not fails:
            pytest.fail(f"{arguments} ended with {done.returncode}:\n{done.stdout[-8000:]}{done.stderr[-4000:]}")
        return done.stdout + done.stderr

    def pytest(self, *arguments: str | Path, cwd: Path) -> str:
        """The last line of ``pytest ARGUMENTS`` in this environment; a failed test fails the calling one."""
        plain = ("-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", cwd, "--import-mode=importlib")
        return self.run("-m", "pytest", *plain, *arguments, cwd=cwd).strip().splitlines()[-1]


def environment(name: str, wheel_site: Path) -> Client:
    """The environment of ``requirements/NAME.txt``. Without PyPI the test is skipped, or with ``CI`` set fails."""
    pins = (HERE / "requirements" / f"{name}.txt").read_text("utf-8")
    sdist = SDISTS.get(name)
    digest = hashlib.sha256("\0".join((pins, sdist or "", sys.version, sys.executable)).encode()).hexdigest()[:16]
    folder = _cache() / f"{name}-{sys.version_info[0]}.{sys.version_info[1]}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if not (folder / _DONE).exists():
            _build(name, folder, sdist)
    sources = [path for path in (folder / "source").glob("*") if path.is_dir()] if sdist else [None]
    return Client(folder / "venv" / "bin" / "python", sources[0], wheel_site)


def _cache() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "beaker-gae" / "clients"


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    # Two runs may want one environment at the same moment; the lock ends with the process.
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(name: str, folder: Path, sdist: str | None) -> None:
    python = folder / "venv" / "bin" / "python"
    # Cleared first: an earlier build may have ended half-way.
    _call(sys.executable, "-m", "venv", "--clear", "--without-pip", folder / "venv")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")
    pins = HERE / "requirements" / f"{name}.txt"
    # Nothing but the pins: pyramid_beaker's own requirement would bring the other Beaker in.
    _fetch(*pip, "--python", python, "install", "--no-deps", "-r", pins)
    if sdist is not None:
        archives = folder / "sdist"
        _fetch(*pip, "download", "--no-deps", "--no-binary", ":all:", "--dest", archives, sdist)
        (archive,) = archives.glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(folder / "source", filter="data")
    (folder / _DONE).touch()


def _fetch(*command: str | Path) -> None:
    done = _call(*command, fails=True)
    if done.returncode == 0:
        return
    told = f"{done.stdout[-2000:]}{done.stderr[-3000:]}"
    if _call(sys.executable, "-m", "pip", "--no-input", "index", "versions", "pip", fails=True).returncode:
        missing("PyPI", "the packages of tests/clients come from there")
    pytest.fail(f"a client's packages cannot be installed:\n{told}", pytrace=False)


def _call(*command: str | Path, fails: bool = False) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(command, env=kept, capture_output=True, text=True)
    assert fails or done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stderr[-3000:]}"
    return done
