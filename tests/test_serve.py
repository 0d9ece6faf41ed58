"""scripts/serve as a newcomer meets it: killed and started again, started where another program listens."""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.deployment import shown
from tests.samples.running import ROOT, STOP_SECONDS, Client, Served, served

COMMAND = [sys.executable, str(ROOT / "scripts" / "serve_sample.py")]


def environ(folder: Path) -> dict[str, str]:
    return {**os.environ, "BEAKER_DATA_DIR": str(folder / "data"), "PYTHONUNBUFFERED": "1"}


@contextlib.contextmanager
def serve(folder: Path, *arguments: str, port: int | None = None) -> Iterator[Served]:
    """The script, once the sample answers; its data are in ``folder``."""
    folder.mkdir(exist_ok=True)
    command = [*COMMAND, *arguments]
    with served(lambda port: command, folder, environ(folder), path="/healthz", wanted=port) as site:
        yield site


@contextlib.contextmanager
def killed_and_served_again(folder: Path, *arguments: str) -> Iterator[tuple[Served, str]]:
    """The script started again at once, and the page that the visitor of the killed one gets from it."""
    with serve(folder, *arguments) as site:
        client = Client(site.url)
        page = client.get("/")
        first = shown(page, "instance")
        client.post("/sign-in", csrf=page.split('name="csrf" value="')[1].split('"')[0], name="Ann")
        # The script alone: what it started has to notice by itself.
        site.process.send_signal(signal.SIGKILL)
        site.process.wait(STOP_SECONDS)
        with serve(folder, *arguments, port=int(site.url.rpartition(":")[2])) as again:
            # The old server may still have responded while it ended.
            deadline = time.monotonic() + STOP_SECONDS
            while shown(page, "instance") in (first, None):
                assert time.monotonic() < deadline, (
                    f"the killed script's server is still there\n{again.log.read_text()}"
                )
                with contextlib.suppress(OSError):
                    page = client.get("/")
            yield again, page


def test_sessions_in_files_outlive_a_kill(tmp_path: Path) -> None:
    """Killed without a word and started again at once on the same port, the visitor is still signed in."""
    with killed_and_served_again(tmp_path / "serve") as (again, page):
        assert (shown(page, "user"), shown(page, "session-type")) == ("Ann", "file")
        assert "already in use" not in again.log.read_text()


def test_sessions_on_the_emulator_outlive_a_kill(datastore_emulator: Any, tmp_path: Path) -> None:
    """The emulator ends with the script and has its data again with the next one, which other scripts see running."""
    script = runpy.run_path(COMMAND[1])
    data = tmp_path / "serve" / "data"
    with killed_and_served_again(tmp_path / "serve", "--datastore") as (again, page):
        assert (shown(page, "user"), shown(page, "session-type")) == ("Ann", "ext:google")
        assert "in memory" not in again.log.read_text()
        assert script["runs"](data / "datastore.pid", data / "datastore")
    assert not script["runs"](data / "datastore.pid", data / "datastore")


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    """One sentence with what to do, status 1, and the other program is left alone."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = subprocess.run(COMMAND, env={**environ(tmp_path), "PORT": port}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Port {port} is taken. PORT=9000 scripts/serve serves on another one.\n"
