"""A sample as its reader runs it: its folder copied alone, served by a child process, asked over HTTP."""

from __future__ import annotations

import contextlib
import http.cookiejar
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 15.0
ATTEMPTS = 3

_DIRECT = urllib.request.ProxyHandler({})


def copied(name: str, folder: Path) -> Path:
    """A copy of samples/NAME that sees nothing of the checkout but the two packages."""
    target = folder / name
    made = shutil.ignore_patterns("__pycache__", "data", ".venv", "wheels", "jar")
    shutil.copytree(ROOT / "samples" / name, target, ignore=made)
    return target


def environment(folder: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a child runs with: this Python's programs, and beaker and gae as if they were installed."""
    packages = folder.parent / "site"
    if not packages.exists():
        packages.mkdir()
        for package in ("beaker", "gae"):
            (packages / package).symlink_to(ROOT / package, target_is_directory=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(packages), "PYTHONUNBUFFERED": "1", **(extra or {})}


class Served(NamedTuple):
    """A child that responds on ``url``; ``log`` is what it has printed, to be read whole."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path


@contextlib.contextmanager
def serving(
    command: Callable[[int], Sequence[str]],
    folder: Path,
    environ: Mapping[str, str] | None = None,
    *,
    path: str = "/",
) -> Iterator[str]:
    """The URL of ``command(port)`` run in ``folder``, once it responds to ``path`` at all."""
    with served(command, folder, environment(folder, environ), path=path) as sample:
        yield sample.url


@contextlib.contextmanager
def served(
    command: Callable[[int], Sequence[str]],
    folder: Path,
    environ: Mapping[str, str],
    *,
    path: str = "/",
    wanted: int | None = None,
) -> Iterator[Served]:
    """Like :func:`serving`, in exactly this environment and ``PORT``, which is ``wanted`` if not a free one."""
    for attempt in range(1, ATTEMPTS + 1):
        port = wanted or free_port()
        log = folder.parent / f"{folder.name}-{port}.log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                command(port),
                cwd=folder,
                env={**environ, "PORT": str(port)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                if _answers(f"http://127.0.0.1:{port}{path}", server):
                    yield Served(f"http://127.0.0.1:{port}", server, log)
                    return
            finally:
                end(server)
        # Another process may have taken the port in between.
        if attempt == ATTEMPTS or b"already in use" not in log.read_bytes():
            pytest.fail(f"{folder.name} did not start:\n{log.read_text(errors='replace')[-3000:]}", pytrace=False)


def _answers(url: str, server: subprocess.Popen[bytes]) -> bool:
    opener = urllib.request.build_opener(_DIRECT)
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            opener.open(url, timeout=10).close()
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            time.sleep(0.05)
            continue
        return server.poll() is None
    return False


def end(server: subprocess.Popen[bytes]) -> None:
    """End a child and what it started (it leads its own process group)."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(STOP_SECONDS)
            break
    # A reloader's child outlives its parent when only that one has reacted to the signal.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)


class Client:
    """A browser's worth of urllib: keeps cookies, follows redirects."""

    def __init__(self, url: str) -> None:
        self.url = url
        # Browsers send Secure cookies to a loopback address over http, too.
        policy = http.cookiejar.DefaultCookiePolicy(secure_protocols=("http", "https"))
        self.jar = http.cookiejar.CookieJar(policy)
        self._opener = urllib.request.build_opener(_DIRECT, urllib.request.HTTPCookieProcessor(self.jar))
        self.status = 0

    def get(self, path: str) -> str:
        return self._send(urllib.request.Request(self.url + path))

    def post(self, path: str, **form: str) -> str:
        return self._send(urllib.request.Request(self.url + path, urllib.parse.urlencode(form).encode()))

    def refusal(self, path: str, **form: str) -> int:
        """The status of a GET, or with a form of a POST, whose response has some text."""
        assert self.post(path, **form) if form else self.get(path)
        return self.status

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def _send(self, request: urllib.request.Request) -> str:
        try:
            answer = self._opener.open(request, timeout=60)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            self.status = answer.status
            text: str = answer.read().decode()
        return text
