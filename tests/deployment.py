"""The App Engine sample as a deploy starts it: what .gcloudignore lets through, app.yaml's entrypoint and variables."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

# Comes with hatchling, which builds the wheel.
from pathspec import GitIgnoreSpec

from tests.samples.running import ROOT, Served, served

if TYPE_CHECKING:
    from gae.emulator import Emulator

SECRET = "fN4oXyQ2vT7bWk9sLd1mZr6cHg3pJe8uAiB5tVqExKo"


def uploaded(root: Path = ROOT) -> list[str]:
    """The files `gcloud app deploy` sends, as paths below ``root``."""
    ignored = GitIgnoreSpec.from_lines((ROOT / ".gcloudignore").read_text("utf-8").splitlines())
    found = []
    for folder, folders, files in os.walk(root):
        here = Path(folder).relative_to(root)
        # Nothing below an ignored directory can be let in again.
        folders[:] = [name for name in folders if not ignored.match_file(f"{(here / name).as_posix()}/")]
        found += [path for name in files if not ignored.match_file(path := (here / name).as_posix())]
    return sorted(found)


def upload(folder: Path) -> Path:
    """Copy those files into ``folder``, which is created."""
    for name in uploaded():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    return folder


def app_yaml() -> tuple[dict[str, str], dict[str, str]]:
    """The scalars of the root app.yaml, and its env_variables. The file uses no other YAML than plain scalars there."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (ROOT / "app.yaml").read_text("utf-8"))
    scalars = dict(re.findall(r"(?m)^(\w+): (.+?)\s*$", text))
    block = re.search(r"(?m)^env_variables:\n((?:  .+\n)*)", text)
    assert block, "app.yaml has no env_variables"
    return scalars, dict(re.findall(r"(?m)^  (\w+): (.+?)\s*$", block[1]))


def platform_variables(emulator: str, home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What App Engine sets, app.yaml's own variables, a secret, and an emulator (``host:port``) with a new project."""
    home.touch()
    _, own = app_yaml()
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        # A file: no user, not even root, can write below it, as below App Engine's home directory.
        "HOME": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "GAE_ENV": "standard",
        "GAE_RUNTIME": "python313",
        "GAE_SERVICE": "default",
        "GOOGLE_CLOUD_PROJECT": f"deployed-{uuid.uuid4().hex[:8]}",
        "DATASTORE_EMULATOR_HOST": emulator,
        "BEAKER_SESSION_SECRET": SECRET,
        **own,
        **(extra or {}),
    }


@contextlib.contextmanager
def deployed(emulator: Emulator, folder: Path, extra: Mapping[str, str] | None = None) -> Iterator[Served]:
    """The upload in ``folder`` served by app.yaml's entrypoint, until the block ends."""
    scalars, _ = app_yaml()
    command = ["sh", "-c", f"exec {scalars['entrypoint']}"]
    variables = platform_variables(emulator.host, folder.parent / f"{folder.name}-home", extra)
    # Not "/": the page counts a visit.
    with served(lambda port: command, upload(folder), variables, path="/healthz") as site:
        yield site


def shown(page: str, id: str) -> str | None:
    """The text of the sample page's element with that id."""
    found = re.search(rf'id="{id}"[^>]*>([^<]*)<', page)
    return found[1] if found else None
