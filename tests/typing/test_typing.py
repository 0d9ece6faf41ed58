"""Type checkers see through the decorators and know the session: every mistake is found, and no other line."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker.exceptions import ConfigError
from beaker.middleware import SessionMiddleware
from beaker.session import AsyncWebSession, WebSession, get, get_async
from beaker.session.async_proxy import AsyncSessionObject
from beaker.session.base import BaseSession
from beaker.session.proxy import SessionObject
from beaker.testing import Browser
from tests.servers import missing

ROOT = Path(__file__).resolve().parents[2]
MISTAKEN = [Path(__file__).with_name(name) for name in ("cached.py", "sessions.py")]
SAMPLES = sorted(path for path in (ROOT / "samples").rglob("*.py") if ".venv" not in path.parts)

Found = dict[str, list[int]]
WRONG: Found = {
    path.name: [n for n, line in enumerate(path.read_text("utf-8").splitlines(), 1) if line.endswith("# wrong")]
    for path in MISTAKEN
}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=170)


def by_file(found: set[tuple[str, int]]) -> Found:
    return {name: sorted(line for path, line in found if path == name) for name in {path for path, _ in found}}


def by_mypy(tmp_path: Path) -> Found:
    config = tmp_path / "mypy.ini"
    # functions_framework's decorators, NDB and Pyramid have no types.
    config.write_text(
        "[mypy]\nstrict = true\nexplicit_package_bases = true\nnamespace_packages = true\n"
        "[mypy-samples.*]\ndisallow_untyped_decorators = false\n"
        "[mypy-functions_framework.*,google.*,pyramid.*]\nignore_missing_imports = true\n",
        "utf-8",
    )
    # scripts/check runs the same checker over the same samples and keeps what it has read.
    cache = ROOT / ".mypy_cache" / "typing"
    command = ["mypy", f"--config-file={config}", f"--cache-dir={cache}", "--show-error-codes"]
    done = run(*command, *map(str, MISTAKEN), *map(str, SAMPLES))
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = re.findall(r"^(.+?):(\d+): error: ", done.stdout, re.MULTILINE)
    return by_file({(_name(Path(ROOT, path)), int(line)) for path, line in found})


def by_pyright(tmp_path: Path) -> Found:
    copies = [Path(shutil.copy(path, tmp_path)) for path in MISTAKEN]
    samples = Path(shutil.copytree(ROOT / "samples", tmp_path / "samples", ignore=shutil.ignore_patterns(".venv*")))
    # The samples stand on packages without types, of which strict mode has to complain at every use.
    settings = {
        "typeCheckingMode": "standard",
        "strict": [path.name for path in copies],
        "include": [*(path.name for path in copies), samples.name],
        "extraPaths": [str(ROOT)],
        "reportMissingTypeStubs": False,
        "reportMissingModuleSource": False,
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), "utf-8")
    done = run("pyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(tmp_path))
    if done.returncode not in (0, 1):
        missing("pyright", "it fetches itself from the npm registry when it first runs")
    report = json.loads(done.stdout[done.stdout.index("{") :])
    assert report["summary"]["filesAnalyzed"] == len(MISTAKEN) + len(SAMPLES)
    errors = [found for found in report["generalDiagnostics"] if found["severity"] == "error"]
    return by_file({(_name(Path(found["file"])), found["range"]["start"]["line"] + 1) for found in errors})


def _name(path: Path) -> str:
    return path.name if "samples" not in path.parts else "/".join(path.parts[path.parts.index("samples") :])


@pytest.mark.slow
@pytest.mark.parametrize("checker", [by_mypy, by_pyright])
def test_mistakes_are_found_and_nothing_else(checker: Callable[[Path], Found], tmp_path: Path) -> None:
    """mypy --strict and pyright find each wrong line of the two files, no other, and none in any sample."""
    assert checker(tmp_path) == WRONG


@pytest.mark.parametrize(
    ("protocol", "classes"), [(WebSession, (BaseSession, SessionObject)), (AsyncWebSession, (AsyncSessionObject,))]
)
def test_the_types_are_those_of_the_objects(protocol: type, classes: tuple[type, ...]) -> None:
    """Each name of a protocol is one of the session's, with the same parameters."""
    declared = {name for kind in protocol.__mro__ for name in (*vars(kind), *vars(kind).get("__annotations__", ()))}
    names = {name for name in declared if not name.startswith("_")}
    real = {name for kind in (*classes, BaseSession) for name in dir(kind) if not name.startswith("_")}
    # Set by loading, not by the class.
    assert names - real <= {"last_accessed"}
    for name in names & {name for kind in classes for name in vars(kind)}:
        ours, theirs = getattr(protocol, name, None), next(vars(k)[name] for k in reversed(classes) if name in vars(k))
        if inspect.isfunction(ours) and inspect.isfunction(theirs) and name not in ("get", "save"):
            assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters), name
            assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs), name


def test_get_returns_the_session_of_the_request() -> None:
    """It is the object in environ or scope; without a middleware a ConfigError says what is missing."""
    seen: list[bool] = []

    def app(environ: dict[str, object], start_response: Callable[..., object]) -> list[bytes]:
        seen.append(get(environ) is environ["beaker.session"])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    Browser(SessionMiddleware(app, type="memory")).get("/")
    assert seen == [True]
    marker: Any = object()
    assert get_async({"my.session": marker}, "my.session") is marker
    for look in (lambda: get({}), lambda: get_async({})):
        with pytest.raises(ConfigError, match="SessionMiddleware") as caught:
            look()
        assert caught.value.code == "config.no-session-middleware"
