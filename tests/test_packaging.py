"""What gets installed: wheel and sdist are built, looked into, installed into empty environments without an index."""

from __future__ import annotations

import email
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.metadata import Metadata

# These two come with hatchling and build.
from trove_classifiers import classifiers

import beaker
from tests.floors import FLOORS, THIRD_PARTY_AT_IMPORT
from tests.pythons import SUPPORTED, interpreters

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = {
    "google",
    "functions",
    "crypto",
    "memcached",
    "database",
    "redis",
    "secrets",
    "serve",
    "all",
    "test",
    "docs",
    "otel",
    "prometheus",
    "cli",
}

# Modules a name of which is imported by a program that has nothing but the wheel.
PLAIN = sorted(
    name
    for names in FLOORS.values()
    for name in names
    if not any(name == other or name.startswith(f"{other}.") for other in THIRD_PARTY_AT_IMPORT)
)
IMPORT_ALL = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
"""
IMPORT_MIDDLEWARE = """
import sys; before = set(sys.modules); import beaker.middleware
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))
"""
# A request as a server would send it; prints the response and its cookie.
VISIT = """
import sys
from wsgiref.util import setup_testing_defaults
from shop import app

environ, headers = {"HTTP_COOKIE": sys.argv[1] if len(sys.argv) > 1 else ""}, []
setup_testing_defaults(environ)
body = app(environ, lambda status, sent, exc_info=None: headers.extend([("Status", status), *sent]))
print(b"".join(body).decode())
getattr(body, "close", list)()
print(dict(headers).get("Set-Cookie", "").partition(";")[0])
"""


class Built(NamedTuple):
    """One build of each kind: ``wheel`` from the checkout, ``repeated`` from ``sdist``."""

    wheel: Path
    sdist: Path
    repeated: Path


def run(*command: str | Path, cwd: Path) -> str:
    """What a program prints; its failure fails the test with its output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_", "VIRTUAL_ENV"))}
    done = subprocess.run(command, cwd=cwd, env=kept, capture_output=True, text=True)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir")
    run(*build, folder / "both", ROOT, cwd=folder)
    run(*build, folder / "wheel", "--wheel", ROOT, cwd=folder)
    (sdist,) = (folder / "both").glob("*.tar.gz")
    (repeated,) = (folder / "both").glob("*.whl")
    (wheel,) = (folder / "wheel").glob("*.whl")
    return Built(wheel, sdist, repeated)


@pytest.fixture(scope="module", params=sorted(interpreters()))
def installed(request: pytest.FixtureRequest, built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment that holds the wheel and nothing else."""
    folder = tmp_path_factory.mktemp(f"python{request.param}")
    run(interpreters()[request.param], "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--isolated", "--disable-pip-version-check")
    run(*pip, "install", "--no-index", "--no-deps", "--no-compile", built.wheel, cwd=folder)
    listed = json.loads(run(*pip, "list", "--format=json", cwd=folder))
    assert [package["name"] for package in listed] == ["beaker-gae"]
    return python


def test_the_wheel_holds_the_two_packages_and_nothing_else(built: Built) -> None:
    """Every module, the markers of typing, the files to deploy, the licence; no test, sample or compiled file."""
    with zipfile.ZipFile(built.wheel) as archive:
        names = set(archive.namelist())
        assert archive.testzip() is None
    info = f"beaker_gae-{beaker.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"beaker", "gae", info}
    modules = {name for name in names if name.endswith(".py")}
    assert modules == {
        str(path.relative_to(ROOT)) for package in ("beaker", "gae") for path in (ROOT / package).rglob("*.py")
    }
    deployed = {str(path.relative_to(ROOT)) for path in (ROOT / "gae" / "deploy").iterdir()}
    assert {"gae/deploy/cron.yaml", "gae/deploy/index.yaml"} <= deployed
    assert names - modules == {
        *deployed,
        "beaker/py.typed",
        "gae/py.typed",
        *(f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")),
    }


def test_the_sdist_makes_the_same_wheel(built: Built) -> None:
    """Byte for byte; it has what tests and documents need, and no local file."""
    assert built.repeated.name == built.wheel.name
    assert built.repeated.read_bytes() == built.wheel.read_bytes()
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = ("LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "app.yaml", ".gcloudignore", "scripts/test")
    assert names > {*wanted, "tests/test_packaging.py", "samples/appengine/main.py", "docs/images/desktop.png"}
    left = re.compile(r"__pycache__|\.pyc$|\.venv|(^|/)data/|session-secret|^dist/|\.git/")
    assert [name for name in names if left.search(name)] == []


def test_the_metadata_would_be_accepted(built: Built) -> None:
    """Valid by the packaging standard: name, version, Python, extras, licence, known classifiers; nothing required."""
    with zipfile.ZipFile(built.wheel) as archive:
        info = f"beaker_gae-{beaker.__version__}.dist-info"
        raw, wheel = archive.read(f"{info}/METADATA"), email.message_from_bytes(archive.read(f"{info}/WHEEL"))
    assert (wheel["Root-Is-Purelib"], wheel["Tag"]) == ("true", "py3-none-any")
    metadata = Metadata.from_email(raw, validate=True)
    assert (metadata.name, str(metadata.version)) == ("beaker-gae", beaker.__version__)
    assert metadata.requires_python is not None
    assert [version for version in ("3.9", *SUPPORTED) if version in metadata.requires_python] == list(SUPPORTED)
    assert set(metadata.provides_extra or ()) == EXTRAS
    assert [str(need) for need in metadata.requires_dist or () if "extra ==" not in str(need.marker)] == []
    assert (metadata.license_expression, metadata.license_files) == ("MIT", ["LICENSE"])
    assert metadata.description_content_type == "text/markdown"
    assert metadata.summary
    assert (metadata.description or "").startswith("# Beaker")
    named = set(metadata.classifiers or ())
    assert named <= classifiers
    assert {f"Programming Language :: Python :: {version}" for version in SUPPORTED} <= named


def test_explain_works_without_any_extra(installed: Path, tmp_path: Path) -> None:
    """python -m beaker explain says, as text and as JSON, that no extra is there, with warnings as errors."""
    command = (installed, "-W", "error", "-m", "beaker")
    text = run(*command, "explain", cwd=tmp_path)
    assert "pip install 'beaker-gae[google]'" in text
    report = json.loads(run(*command, "explain", "--json", cwd=tmp_path))
    assert report["ok"] is True
    detected = {line["name"]: line["value"] for line in report["detected"]}
    assert detected["beaker"] == beaker.__version__
    extras = {name: value for name, value in detected.items() if name.startswith("extra ")}
    assert len(extras) >= 7
    assert set(extras.values()) == {"not installed"}
    assert run(*command, "--version", cwd=tmp_path).strip() == beaker.__version__


def test_every_module_imports_without_any_extra(installed: Path, tmp_path: Path) -> None:
    """With warnings as errors, each module but the contract suites; the middleware brings the standard library only."""
    run(installed, "-W", "error", "-c", IMPORT_ALL, *PLAIN, cwd=tmp_path)
    assert run(installed, "-W", "error", "-c", IMPORT_MIDDLEWARE, cwd=tmp_path).split() == ["beaker"]
    (site,) = (installed.parents[1] / "lib").glob("python*/site-packages")
    run(installed, "-W", "error", "-m", "compileall", "-q", "-f", site / "beaker", site / "gae", cwd=tmp_path)


def test_the_readmes_first_application_counts(installed: Path, tmp_path: Path) -> None:
    """With a key created as it says, each visit by a process of its own, sessions in files."""
    blocks = re.findall(r"(?s)```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"))
    (tmp_path / "shop.py").write_text(next(block for block in blocks if "SessionMiddleware(app" in block))
    (tmp_path / "secret.key").write_text(run(installed, "-m", "beaker", "keys", "new", cwd=tmp_path))
    command = (installed, "-W", "error", "-c", VISIT)
    shown, cookie = run(*command, cwd=tmp_path).splitlines()
    assert shown == "visit 1"
    for number in (2, 3):
        assert run(*command, cookie, cwd=tmp_path).splitlines()[0] == f"visit {number}"
    assert run(*command, cwd=tmp_path).splitlines()[0] == "visit 1"
    assert (tmp_path / "data").is_dir()
