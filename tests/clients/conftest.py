"""What the tests of this folder share: the wheel of this checkout, built and installed once, and the environments."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.environments import Client, environment
from tests.test_packaging import ROOT, run


@pytest.fixture(scope="session")
def wheel_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory into which the wheel of this checkout is installed, and nothing else."""
    folder = tmp_path_factory.mktemp("clients")
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder / "dist", ROOT, cwd=folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    site = folder / "site"
    pip = (sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "install", "--quiet")
    subprocess.run([*pip, "--no-index", "--no-deps", "--target", site, wheel], check=True)
    return site


@pytest.fixture(scope="session")
def client(wheel_site: Path) -> Callable[[str], Client]:
    """``client("pyramid")`` is the environment of requirements/pyramid.txt."""
    return lambda name: environment(name, wheel_site)
