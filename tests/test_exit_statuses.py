"""Every command with every exit status that it has, in a pipe and on a terminal; a wrong call touches nothing.

Of real terminals: test_terminal.py.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from beaker import counters
from beaker.__main__ import main
from beaker.cache import Cache
from beaker.crypto.keyring import new_key
from beaker.operations import checks
from beaker.storage import breaker
from beaker.testing import FakeClock
from tests.servers import free_port

STORE = ("--type", "file", "--option", "data_dir=data")
NOWHERE = ("--type", "file", "--option", "data_dir=nowhere")
APPLICATION = """
from beaker.middleware import CacheMiddleware
def page(environ, start_response): return []
app = CacheMiddleware(page, {"cache.type": "memory"})
"""
# The command line, and its status: 0 done, 1 findings, 2 a wrong call or an unusable store, 3 stopped before the end.
TABLE: list[tuple[tuple[str, ...], int]] = [
    (("explain", "application"), 0),
    (("explain",), 1),
    (("explain", "application:none"), 2),
    (("explain", "--alll"), 2),
    (("doctor", "--app-yaml", "good.yaml"), 0),
    (("doctor",), 1),
    (("doctor", "--app-yaml", "none.yaml"), 2),
    (("doctor", "--app-yml", "good.yaml"), 2),
    (("ls", *STORE), 0),
    (("ls", *STORE, "pages"), 0),
    (("ls", *STORE, "--jsn"), 2),
    (("ls", *NOWHERE), 2),
    (("ls", "--type", "fiel"), 2),
    (("ls", "--type", "ext:memcached", "--option", "url=localhost:1"), 2),
    (("ls", "--type", "ext:redis", "--option", "url=redis://localhost:PORT"), 2),
    (("ls", "--type", "ext:redis", "--option", "url=redis://localhost:PORT", "pages"), 2),
    (("get", *STORE, "pages", "live"), 0),
    (("get", *STORE, "pages", "none"), 1),
    (("get", *STORE, "pages"), 2),
    (("get", *STORE, "pages", "live", "--valeu"), 2),
    (("get", *NOWHERE, "pages", "live"), 2),
    (("get", "--type", "ext:redis", "--option", "url=redis://localhost:PORT", "pages", "live"), 2),
    (("stats", "counts.json"), 0),
    (("stats", "none.json"), 2),
    (("stats", "good.yaml"), 2),
    (("stats", "counts.json", "--price", "counts.json"), 2),
    (("purge", *STORE, "--limit", "0"), 2),
    (("purge", *STORE, "--limit", "1"), 3),
    (("purge", *STORE), 0),
    (("purge", *STORE, "--limt", "1"), 2),
    (("purge", *STORE, "--option", "data_dri=data"), 2),
    (("purge", *STORE, "--cursor", "nonsense"), 2),
    (("purge", *STORE, "--deadline", "soon"), 2),
    (("purge", *NOWHERE), 2),
    (("keys", "new"), 0),
    (("keys", "newer"), 2),
    (("keys", "check", "good.key"), 0),
    (("keys", "check", "weak.key"), 1),
    (("keys", "check", "none.key"), 2),
    (("puurge",), 2),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A directory with what the commands of the table are given, and no variable that means anything to Beaker."""
    for name in [name for name in os.environ if name.startswith("BEAKER_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "72")
    # A report that has an error, by the variables alone.
    monkeypatch.setenv("BEAKER_SESSION_TIMEOUT", "soon")
    monkeypatch.setattr(checks, "distributions", list)
    # Those of other tests in this process, which come and go with their stores.
    monkeypatch.setattr(breaker, "states", list)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    # A run of tests counts under many names.
    counters.reset()
    old = Cache("pages", type="file", data_dir="data", expire=60, clock=FakeClock(1_000_000_000.0))
    for number in range(3):
        old.put(f"old-{number}", number)
    Cache("pages", type="file", data_dir="data").put("live", 1)
    (tmp_path / "application.py").write_text(APPLICATION)
    (tmp_path / "good.yaml").write_text(
        "env_variables:\n  BEAKER_SESSION_TYPE: ext:google\n  GOOGLE_CLOUD_PROJECT: demo\n"
        f"  BEAKER_SESSION_SECRET_FILE: {tmp_path / 'good.key'}\n  BEAKER_TTL_POLICY: true\n"
    )
    counters.session_tally("memcached").loaded += 71
    (tmp_path / "counts.json").write_text(json.dumps(counters.snapshot().as_dict()))
    (tmp_path / "good.key").write_text(new_key() + "\n")
    (tmp_path / "good.key").chmod(0o600)
    (tmp_path / "weak.key").write_text("weak\n")
    return tmp_path


def called(words: tuple[str, ...], out: Any) -> int | str | None:
    sys.modules.pop("application", None)
    arguments = [word.replace("PORT", str(free_port())) for word in words]
    try:
        return main(arguments, out=out)
    except SystemExit as wrong:
        return wrong.code


def seen(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file and what is in it; Python's own caches aside."""
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


@pytest.mark.parametrize(("words", "status"), TABLE, ids=lambda value: " ".join(value) if type(value) is tuple else "")
def test_a_status_is_the_same_in_a_pipe_and_on_a_terminal(
    words: tuple[str, ...],
    status: int,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Colours on a terminal only, none with NO_COLOR; lines fit; a wrong call says so, and changes nothing."""
    before = seen(folder)
    terminal, pipe, plain = Terminal(), io.StringIO(), Terminal()
    assert called(words, pipe) == status
    if words[0] == "purge" and status != 2:
        # It has removed what there was.
        return
    assert called(words, terminal) == status
    monkeypatch.setenv("NO_COLOR", "1")
    assert called(words, plain) == status
    said = capsys.readouterr().err
    assert "\x1b" not in pipe.getvalue() + plain.getvalue() + said
    assert re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue()) == plain.getvalue() or words == ("keys", "new")
    if words[0] in ("explain", "doctor", "ls", "stats") and status < 2:
        assert "\x1b[1m" in terminal.getvalue()
    for line in plain.getvalue().splitlines():
        # A path, an address or a command is copied whole.
        assert len(line) <= 72 or max(map(len, line.split())) > 24 or line.startswith("    "), line
    if status == 2:
        assert seen(folder) == before
        assert said
        assert pipe.getvalue() == ""
        assert "Traceback" not in said


def test_each_status_of_each_command_is_in_the_table() -> None:
    """None is forgotten: what a command can end with is what its help and docs/operations.md say."""
    found: dict[str, set[int]] = {}
    for words, status in TABLE:
        found.setdefault(words[0], set()).add(status)
    assert found == {
        "explain": {0, 1, 2},
        "doctor": {0, 1, 2},
        "ls": {0, 2},
        "get": {0, 1, 2},
        "stats": {0, 2},
        "purge": {0, 2, 3},
        "keys": {0, 1, 2},
        "puurge": {2},
    }
