"""The emulator launcher: found, started, reset, stopped, and gone when its owner is gone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from gae import emulator
from gae.emulator import EmulatorError, EmulatorNotFound, find_jar, start

needs_java = pytest.mark.skipif(
    # With CI set nothing may be skipped: the tests run and fail.
    not os.environ.get("CI") and (emulator.find_jar() is None or emulator.find_java() is None),
    reason="the Datastore emulator or Java is not installed",
)
ROOT = Path(__file__).resolve().parents[2]


def _jar(folder: Path, kind: str = "datastore") -> Path:
    path = folder / "platform" / emulator._JARS[kind]
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def test_a_named_jar_wins_and_a_missing_one_is_not_replaced_by_another(tmp_path: Path) -> None:
    """DATASTORE_EMULATOR_JAR decides alone: its file, or nothing when that file does not exist."""
    jar = tmp_path / "some.jar"
    assert find_jar(environ={"DATASTORE_EMULATOR_JAR": str(jar), "PATH": os.environ["PATH"]}) is None
    jar.touch()
    assert find_jar(environ={"DATASTORE_EMULATOR_JAR": str(jar)}) == jar


def test_the_jar_is_found_beside_a_linked_gcloud(tmp_path: Path) -> None:
    """gcloud on PATH may be a link: the SDK is where it points to."""
    sdk = tmp_path / "sdk"
    jar = _jar(sdk, "firestore")
    (sdk / "bin").mkdir()
    gcloud = sdk / "bin" / "gcloud"
    gcloud.write_text("#!/bin/sh\n")
    gcloud.chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gcloud").symlink_to(gcloud)
    assert find_jar("firestore", environ={"PATH": str(tmp_path / "bin")}) == jar


def test_the_usual_folders_are_searched_without_gcloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An SDK that is not on PATH is found in the usual folders; no SDK at all is None."""
    monkeypatch.setattr(emulator, "_FOLDERS", (str(tmp_path),))
    assert find_jar(environ={"PATH": ""}) is None
    jar = _jar(tmp_path)
    assert find_jar(environ={"PATH": ""}) == jar


def test_a_missing_emulator_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without SDK and Java the error names the component, the apt package, the variable and Java."""
    monkeypatch.setattr(emulator, "_FOLDERS", ())
    with pytest.raises(EmulatorNotFound) as caught:
        start(environ={"PATH": ""})
    for words in ("gcloud components install cloud-datastore-emulator", "DATASTORE_EMULATOR_JAR", "Java"):
        assert words in str(caught.value)


def test_a_wrong_kind_and_a_data_dir_for_firestore_are_refused(tmp_path: Path) -> None:
    """What cannot work is refused before anything starts."""
    with pytest.raises(ValueError, match="unknown emulator"):
        start("bigtable")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="data_dir"):
        start("firestore", data_dir=tmp_path)


@needs_java
@pytest.mark.parametrize("kind", ["datastore", "firestore"])
def test_it_answers_resets_and_stops(kind: emulator.Kind) -> None:
    """A started emulator responds on its host, resets, and its port is free after stop."""
    if find_jar(kind) is None and not os.environ.get("CI"):
        pytest.skip(f"the {kind} emulator is not installed")
    with start(kind) as running:
        assert running.host == f"localhost:{running.port}"
        assert running.environ["DATASTORE_EMULATOR_HOST"] == running.host
        with urllib.request.urlopen(f"http://{running.host}/", timeout=5) as answer:
            assert answer.status == 200
        running.reset()
    assert running.pid is None
    running.stop()
    with socket.socket() as probe:
        assert probe.connect_ex(("localhost", running.port)) != 0
    with pytest.raises(EmulatorError, match="did not reset"):
        running.reset()


@needs_java
def test_a_taken_port_is_an_error_not_somebody_elses_emulator() -> None:
    """An emulator that could not bind is never mistaken for the one that holds the port."""
    with start() as first:
        with pytest.raises(EmulatorError, match="did not start"):
            start(port=first.port)
        first.reset()


@needs_java
def test_a_broken_jar_fails_with_its_output(tmp_path: Path) -> None:
    """A jar that Java cannot run gives an error that ends with Java's own words."""
    jar = tmp_path / "broken.jar"
    jar.write_bytes(b"not a jar")
    with pytest.raises(EmulatorError, match="CloudDatastore"):
        start(environ={**os.environ, "DATASTORE_EMULATOR_JAR": str(jar)})


@needs_java
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_killed_owner_takes_the_emulator_along() -> None:
    """Even after SIGKILL no emulator stays behind, and a forked child that ends stops nothing."""
    script = (
        "import os, sys, time, gae.emulator\n"
        "e = gae.emulator.start()\n"
        "child = os.fork()\n"
        "if child == 0: sys.exit(0)\n"
        "os.waitpid(child, 0)\n"
        "e.reset()\n"
        "print(e.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.send_signal(signal.SIGKILL)
        owner.wait(10)
        assert _gone_within(pid, 20)
    finally:
        owner.kill()
        owner.wait()
        if owner.stdout is not None:
            owner.stdout.close()


def _gone_within(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        # A container may have no process that reaps an orphan: a zombie no longer runs.
        if state == "Z":
            return True
        time.sleep(0.05)
    return False
