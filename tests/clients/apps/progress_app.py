"""A progress bar that keeps its state in a session under an id of its own, as wuttaweb and Rattail do."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from beaker.session import Session


class Request:
    """Neither a dict nor an environ; these programs pass Pyramid's request."""


def progress(**options: Any) -> Session:
    return Session(Request(), id="abc.progress.import", use_cookies=False, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["file", "dbm", "memory"])
def test_a_worker_and_its_watcher(kind: str, tmp_path: Path) -> None:
    """The watcher sees what the worker has saved, before and after it began; the next import starts clean."""
    options = {"type": kind, "data_dir": str(tmp_path)}
    early = progress(**options)
    assert early.id == "abc.progress.import"
    begun, watched = threading.Event(), threading.Event()

    def work() -> None:
        bar = progress(**options)
        bar.clear()
        bar["complete"] = False
        bar.save()
        begun.set()
        watched.wait(10)
        for value in range(3):
            bar.load()
            bar["value"] = value
            bar.save()
        bar.load()
        bar["complete"] = True
        bar.save()

    worker = threading.Thread(target=work)
    worker.start()
    begun.wait(10)
    assert progress(**options)["complete"] is False
    early.load()
    assert early["complete"] is False
    watched.set()
    worker.join()
    early.load()
    assert (early["complete"], early["value"]) == (True, 2)
    early.delete()
    assert "complete" not in progress(**options)
    again = progress(**options)
    again["complete"] = "again"
    again.save()
    assert progress(**options)["complete"] == "again"


def test_another_process(tmp_path: Path) -> None:
    """A session of a known id in files is there for another process."""
    program = (
        "from beaker.session import Session\n"
        f"session = Session({{}}, id='abc.progress', use_cookies=False, type='file', data_dir={str(tmp_path)!r})\n"
        "session['value'] = 7\nsession.save()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    session = Session({}, id="abc.progress", use_cookies=False, type="file", data_dir=str(tmp_path))
    assert (session["value"], session.id) == (7, "abc.progress")
