"""Small applications on living clients of Beaker, on the installed wheel of this checkout and mostly a real server."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.environments import APPS, Client

ENVIRONMENTS = {
    "bottle_app": "web",
    "flask_app": "web",
    "mako_app": "mako",
    "managers_app": "web",
    "paste_app": "web",
    "progress_app": "web",
    "pyramid_app": "pyramid",
    "turbogears_app": "turbogears",
}


def test_every_application_is_run() -> None:
    """No file of the folder is forgotten."""
    assert {path.stem for path in APPS.glob("*_app.py")} == set(ENVIRONMENTS)


@pytest.mark.parametrize("app", sorted(ENVIRONMENTS))
def test_application(app: str, client: Callable[[str], Client], tmp_path: Path) -> None:
    """Its own tests pass, all of them, in the environment of its framework."""
    for path in APPS.glob("*.py"):
        shutil.copy(path, tmp_path)
    told = client(ENVIRONMENTS[app]).pytest(tmp_path / f"{app}.py", cwd=tmp_path)
    assert " passed" in told, told
    assert "skipped" not in told, told
