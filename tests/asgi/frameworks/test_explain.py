"""``beaker explain`` of applications that real frameworks made."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

APPLICATIONS = """
from fastapi import FastAPI
from litestar import Litestar, get
from litestar.middleware import DefineMiddleware
from quart import Quart
from starlette.applications import Starlette
from starlette.middleware import Middleware

from beaker.asgi import SessionMiddleware

OPTIONS = {"session.type": "memory", "session.timeout": "60"}

@get("/")
async def page() -> str:
    raise AssertionError("nothing is called")

starlette = Starlette(middleware=[Middleware(SessionMiddleware, config=OPTIONS)])
fastapi = FastAPI()
fastapi.add_middleware(SessionMiddleware, config=OPTIONS)
quart = Quart(__name__)
quart.asgi_app = SessionMiddleware(quart.asgi_app, OPTIONS)
litestar = Litestar([page], middleware=[DefineMiddleware(SessionMiddleware, config=OPTIONS)])
litestar_callable = Litestar([page], middleware=[lambda app: SessionMiddleware(app, OPTIONS)])
litestar_around = SessionMiddleware(Litestar([page]), OPTIONS)
litestar_without = Litestar([page])
"""


def explained(python: Path, directory: Path, name: str) -> tuple[int, str, str]:
    (directory / "applications.py").write_text(APPLICATIONS)
    done = subprocess.run(
        [python, "-m", "beaker", "explain", f"applications:{name}", "--json"],
        capture_output=True,
        text=True,
        cwd=directory,
        env={"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": "/usr/bin:/bin"},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", ["starlette", "fastapi", "quart", "litestar", "litestar_callable", "litestar_around"])
def test_the_middleware_in_a_framework_is_found(name: str, asgi_frameworks: Path, tmp_path: Path) -> None:
    status, told, errors = explained(asgi_frameworks, tmp_path, name)
    assert status == 0, errors
    assert [row["value"] for row in json.loads(told)["options"] if row["option"] == "timeout"] == ["60 s"]


def test_a_framework_without_a_middleware_is_told_so(asgi_frameworks: Path, tmp_path: Path) -> None:
    status, told, errors = explained(asgi_frameworks, tmp_path, "litestar_without")
    assert (status, told) == (2, "")
    assert "explain.no-application" in errors
